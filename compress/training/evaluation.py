"""The inputs, the logits and the accuracy of any classifier, teacher or student."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from compress import processes
from compress.data.batches import Batch, EncodedSplit, make_loader
from compress.training.accelerator import make_accelerator
from compress.training.progress import with_progress

EVALUATION_BATCH = 64


def model_inputs(model: PreTrainedModel, batch: Batch) -> dict[str, Tensor]:
    """The part of a batch that this kind of model takes as input.

    For our own students, the tokens of the second text have type 1, without its special tokens. A Hugging Face model gets
    the types of its tokenizer.
    """
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    if takes_segments(model):
        inputs["token_type_ids"] = batch.segments
    elif takes_types(model):
        inputs["token_type_ids"] = batch.type_ids
    return inputs


def takes_segments(model: PreTrainedModel) -> bool:
    """Whether the model is one of our own students."""
    return str(model.config.model_type).startswith("pocketbert_")


def takes_types(model: PreTrainedModel) -> bool:
    """Whether a Hugging Face model has token types for the two texts of a pair."""
    known = "token_type_ids" in inspect.signature(type(model).forward).parameters
    return known and getattr(model.config, "type_vocab_size", 0) > 1


def compute_logits(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Logits (B, C) of a sequence classifier."""
    return model(**model_inputs(model, batch)).logits


def predict(
    model: nn.Module,
    loader: DataLoader[int],
    forward: Callable[[nn.Module, Batch], Tensor],
    accelerator: Accelerator,
    name: str | None = None,
) -> Tensor:
    """Outputs (N, …) of `forward(model, batch)` for every example, in the order of the split, on the CPU.

    The model computes on its own device. If there are several processes, all must call this function. Each computes a
    share of every batch and gets all outputs.

    :param name: shows the progress, beside this name.
    """
    model.eval()
    out: Tensor | None = None
    device = next(model.parameters()).device
    with torch.inference_mode(), accelerator.autocast():
        for batch in loader if name is None else batches_with_progress(loader, name):
            own = share_of(batch)
            # A process without a share computes the whole batch, because it needs the shape of the output.
            values = forward(model, (batch if own is None else own).to(device)).float()
            if out is None:
                out = torch.zeros(len(loader.dataset), *values.shape[1:])  # type: ignore[arg-type]
            if own is not None:
                out[own.index] = values.cpu()
        assert out is not None, "the split has texts"
        processes.all_reduce([out])
    return out


def batches_with_progress(loader: DataLoader[int], name: str) -> Iterator[Batch]:
    """The batches of a long pass over a split. The time left is told by tokens, since the longest texts come last."""
    split: EncodedSplit = loader.dataset  # type: ignore[assignment]
    total = sum(len(text) for text in split.encoded)
    return with_progress(loader, total, name, unit="tokens", size=lambda batch: int(batch.attention_mask.sum()))


def share_of(batch: Batch) -> Batch | None:
    """The rows of a batch that this process computes; None if there are no rows left for it."""
    first, step = processes.rank(), processes.size()
    if step == 1:
        return batch
    return batch.map(lambda tensor: tensor[first::step]) if len(batch) > first else None


def shared_outputs(batch: Batch, forward: Callable[[Batch], tuple[Tensor, ...]]) -> list[Tensor]:
    """Several outputs (B, …) of `forward(batch)`, as fp32 on the CPU. Several processes share the rows, and all get all outputs."""
    own = share_of(batch)
    found = [values.float().cpu() for values in forward(batch if own is None else own)]
    if processes.size() == 1:
        return found
    out = [torch.zeros(len(batch), *values.shape[1:]) for values in found]
    if own is not None:
        for whole, values in zip(out, found, strict=True):
            whole[processes.rank() :: processes.size()] = values
    processes.all_reduce(out)
    return out


def predict_logits(model: PreTrainedModel, split: EncodedSplit, name: str | None = None) -> Tensor:
    """The model's logits (N, C) on each text, on the CPU. The model computes on its own device.

    :param name: shows the progress, beside this name.
    """
    loader = make_loader(split, EVALUATION_BATCH, shuffle=False)
    return predict(model, loader, _logits_of_classifier, make_accelerator(), name)


def predict_labels(model: PreTrainedModel, split: EncodedSplit) -> Tensor:
    """The label that the model predicts for each text, (N,)."""
    return predict_logits(model, split).argmax(dim=1)


def accuracy(model: PreTrainedModel, split: EncodedSplit) -> float:
    """Share of the texts whose label the model predicts correctly."""
    return float((predict_labels(model, split) == split.labels).float().mean())


def dev_metrics(model: PreTrainedModel, dev: EncodedSplit) -> dict[str, float]:
    """The dev metrics of an epoch, for `fit`. They decide which epoch is the best.

    Where `dev` has the teacher's outputs, the best student is the one nearest to them, by KL(p_T ‖ p_S). Its accuracy would
    decide badly: on 2,000 texts it moves by a point by chance, so that a lucky early epoch beats all later ones. Without a
    teacher's outputs the accuracy decides.
    """
    logits = predict_logits(model, dev)
    score = float((logits.argmax(dim=1) == dev.labels).float().mean())
    if dev.teacher is None:
        return {"metric": score, "dev accuracy": score}
    apart = float(distance(logits, dev.teacher.logits))
    return {"metric": -apart, "dev accuracy": score, "dev KL": apart}


def distance(student: Tensor, teacher: Tensor) -> Tensor:
    """The mean KL(p_T ‖ p_S) in nats over N texts, from the logits (N, C) of both; a scalar."""
    student, teacher = F.log_softmax(student, dim=1), F.log_softmax(teacher, dim=1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def _logits_of_classifier(model: nn.Module, batch: Batch) -> Tensor:
    assert isinstance(model, PreTrainedModel), "a classifier"
    return compute_logits(model, batch)
