"""A Hugging Face checkpoint in PyTorch, eager or compiled: the BERT baseline and the teacher."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from bench.engines.base import Engine, FloatArray, Model, Offer
from compress.runtime.encode import IntArray

if TYPE_CHECKING:
    from bench.task import Task

Precision = Literal["fp32", "bf16"]
VARIANTS: dict[str, tuple[tuple[Precision, bool], ...]] = {  # by device: precision, and whether torch.compile is used
    "cpu": (("fp32", False),),
    "cuda": (("fp32", False), ("bf16", False), ("bf16", True)),
}


class TorchEngine(Engine):
    """A checkpoint's directory, run by PyTorch."""

    runtime: Literal["torch"] = "torch"
    precision: Precision
    compiled: bool = False  # torch.compile

    @classmethod
    def offers(cls, task: Task) -> Iterator[Offer]:
        """BERT and teacher, in each variant of the device."""
        for precision, compiled in VARIANTS[task.device]:
            suffix = _suffix(precision, compiled)
            yield Offer(f"bert-torch{suffix}", "bert", partial(cls.of_bert, task, precision, compiled))
            yield Offer(f"teacher-torch{suffix}", "teacher", partial(cls.of_teacher, task, precision, compiled))

    @classmethod
    def of_bert(cls, task: Task, precision: Precision = "fp32", compiled: bool = False) -> TorchEngine:
        """The BERT baseline; makes its checkpoint if that is not in the cache.

        :raises UserError: as `Baseline`.
        """
        return cls.of(
            task.bert(),
            name=f"bert-torch{_suffix(precision, compiled)}",
            runner=_runner(precision, compiled),
            path=task.baseline.checkpoint().absolute(),
            precision=precision,
            compiled=compiled,
        )

    @classmethod
    def of_teacher(cls, task: Task, precision: Precision = "fp32", compiled: bool = False) -> TorchEngine:
        """The task's teacher.

        :raises UserError: there is none, or it has other labels than the data.
        """
        return cls.of(
            task.fine_tuned_teacher(),
            name=f"teacher-torch{_suffix(precision, compiled)}",
            runner=_runner(precision, compiled),
            path=task.teacher.absolute(),
            precision=precision,
            compiled=compiled,
        )

    def open(self, threads: int, device: str) -> TorchModel:
        """Load tokenizer and checkpoint, and set PyTorch's number of threads."""
        return TorchModel(self, threads, device)


class TorchModel(Model):
    """A checkpoint in PyTorch."""

    def __init__(self, engine: TorchEngine, threads: int, device: str) -> None:
        super().__init__(engine)
        import torch
        from transformers import AutoModelForSequenceClassification

        import compress.heads  # noqa: F401 - opens teachers with a head on the mean of their states

        torch.set_num_threads(threads)
        self._torch, self._device = torch, device
        if device == "cuda":
            # It makes a new plan for every length that it has not seen: about 50 ms on an H200. Served texts have many lengths.
            torch.backends.cuda.enable_cudnn_sdp(False)
        dtype = torch.bfloat16 if engine.precision == "bf16" else torch.float32
        model = AutoModelForSequenceClassification.from_pretrained(engine.path, dtype=dtype).eval().to(device)
        self._accepted = set(inspect.signature(model.forward).parameters)
        self._parameters = sum(p.numel() for p in model.parameters())
        self._model: Any = torch.compile(model, dynamic=True) if engine.compiled else model
        self.file_bytes = sum(
            file.stat().st_size for pattern in ("*.safetensors", "*.bin") for file in engine.path.glob(pattern)
        )

    def logits(self, batch: dict[str, IntArray]) -> FloatArray:
        """Logits (B, C). The copy to the host waits for the device, so a time around this call includes all of its work."""
        named = {
            "input_ids": batch["input_ids"],
            "attention_mask": batch["attention_mask"],
            "token_type_ids": batch["type_ids"],
        }
        with self._torch.inference_mode():
            feed = {
                name: self._torch.from_numpy(array).to(self._device)
                for name, array in named.items()
                if name in self._accepted
            }
            return self._model(**feed).logits.float().cpu().numpy()

    def parameters(self) -> int:
        """Number of weights."""
        return self._parameters


def _suffix(precision: Precision, compiled: bool) -> str:
    """End of an engine's name; empty for eager fp32."""
    return ("" if precision == "fp32" else f"-{precision}") + ("-compiled" if compiled else "")


def _runner(precision: Precision, compiled: bool) -> str:
    return f"PyTorch {precision} compiled" if compiled else f"PyTorch {precision}"
