"""A frozen teacher judges many texts: as fast as this machine can, with the answers of the fp32 teacher, and resumable.

A CPU multiplies INT8 faster than fp32, a GPU or a newer CPU bf16. Which of them is used is decided by timing them on some of
the texts and by comparing their answers with those of fp32 on dev.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoConfig, AutoModelForSequenceClassification

from compress import processes
from compress.console import console
from compress.data.batches import Batch, EncodedSplit
from compress.data.files import write_json
from compress.runtime.encode import IntArray
from compress.runtime.errors import UserError
from compress.training.accelerator import make_accelerator
from compress.training.evaluation import compute_logits
from compress.training.progress import with_progress

Precision = Literal["fp32", "bf16", "int8"]
Batches = list[list[int]]  # the rows of each batch
Int8Model = Callable[[dict[str, IntArray]], NDArray[np.float32]]  # the arrays of `pad_batch` → logits (B, C)
# Tokens of a padded batch. MiniLM in PyTorch on two cores with AVX2 took 8.8 s for 30,000 tokens in batches of 1,024 or 2,048, and 9.3, 9.9,
# 11.8 and 15.9 s in larger ones. In INT8 texts of one length run together, and any size is as fast. A GPU needs more.
BATCH_TOKENS = {"cpu": 2048, "gpu": 16384}
PART = 10_000  # texts; after as many, the logits are written, and a killed run goes on from there
SAMPLE = 300  # texts on which the precisions are timed
DEV_TEXTS = 2000  # most dev texts on which the answers are compared
SAME_LABELS = 0.97  # smallest share of dev texts with the label of fp32
ACCURACY_LOSS = 0.005  # largest loss of dev accuracy against fp32, beyond two standard errors of the difference
WORTH_A_CHECK = 60.0  # seconds of work in fp32 from which on another precision is tried; the trial takes about a third


class Int8Teacher(Protocol):
    """Makes a teacher an INT8 graph. It comes from outside this package, since it needs the exporter."""

    def __call__(self, teacher: Path, file: Path, *, pair: bool, max_length: int) -> Int8Model:
        """Write the graph to `file`, unless it is there, and open it with one thread. Several threads may call the result."""


@dataclass(frozen=True)
class Judge:
    """A teacher in one precision."""

    precision: Precision
    logits: Callable[[Batch], Tensor]  # (B, C), on the CPU
    at_once: int = 1  # batches that are computed at the same time, each by one thread


@dataclass(frozen=True)
class Judges:
    """A teacher in the precisions that this machine has.

    :param teacher: directory of the finished teacher.
    :param scratch: where the INT8 graph lies.
    :param open_int8: opens the teacher as INT8, given its directory and the file of the graph. None: there is no exporter.
    """

    teacher: Path
    scratch: Path
    open_int8: Callable[[Path, Path], Int8Model] | None

    @property
    def classes(self) -> int:
        """The number of classes C."""
        return AutoConfig.from_pretrained(self.teacher).num_labels

    def others(self) -> list[Precision]:
        """The precisions beside fp32 that may be faster here."""
        accelerator = make_accelerator()
        found: list[Precision] = ["bf16"] if accelerator.mixed_precision == "bf16" else []
        return [*found, "int8"] if accelerator.device.type == "cpu" and self.open_int8 is not None else found

    def open(self, precision: Precision) -> Judge:
        """The teacher in a precision.

        :raises UserError: bf16 on a machine without instructions for it.
        """
        if precision == "int8":
            assert self.open_int8 is not None, "the caller gave no exporter"
            run = self.open_int8(self.teacher, self.scratch / "int8.onnx")
            return Judge(precision, lambda batch: torch.from_numpy(run(_arrays(batch))), torch.get_num_threads())
        accelerator = make_accelerator()
        if precision == "bf16" and accelerator.mixed_precision != "bf16":
            raise UserError("transfer.judge: this machine has no instructions for bf16; set 'auto', 'int8' or 'fp32'")
        model = AutoModelForSequenceClassification.from_pretrained(self.teacher).to(accelerator.device).eval()

        def logits(batch: Batch) -> Tensor:
            half = torch.autocast(accelerator.device.type, torch.bfloat16, enabled=precision == "bf16")
            with torch.inference_mode(), half:
                return compute_logits(model, batch.to(accelerator.device)).float().cpu()

        return Judge(precision, logits)


def judge_texts(judges: Judges, setting: Literal["auto"] | Precision, texts: EncodedSplit, dev: EncodedSplit) -> Tensor:
    """The teacher's logits (N, C) of all texts.

    The precision and the logits of each finished part are kept in the scratch directory of `judges`.

    :param setting: `transfer.judge`, the precision; "auto" takes the fastest one that agrees with fp32, see `choose`.
    :param dev: texts with labels.
    :raises UserError: see `Judges.open`.
    """
    chosen = judges.scratch / "judge.json"

    def decided() -> tuple[Precision, int]:
        """The precision, and the tokens of a batch: the parts that are there were divided so, be it on another device."""
        if chosen.is_file():
            earlier = json.loads(chosen.read_text(encoding="utf-8"))
            return earlier["precision"], earlier["batch_tokens"]
        found, tokens = choose(judges, texts, dev) if setting == "auto" else setting, _batch_tokens()
        if found == "int8":
            judges.open(found)  # only the first process writes the graph
        write_json(chosen, {"precision": found, "batch_tokens": tokens})
        return found, tokens

    precision, tokens = processes.broadcast_result(decided)
    judge = judges.open(precision)
    parts = list(_parts(texts.lengths, tokens))
    files = [judges.scratch / f"logits-{number}.npy" for number in range(len(parts))]
    done = processes.broadcast_result(lambda: sum(file.is_file() for file in files))
    out = torch.zeros(len(texts), judges.classes)
    for file, batches in zip(files[:done], parts[:done], strict=True):
        out[_rows(batches)] = torch.from_numpy(np.load(file))
    if done:
        console.print(f"  carrying on at part {done + 1} of {len(parts)}")
    _judge_parts(judge, texts, parts[done:], files[done:], out)
    return out


def _judge_parts(judge: Judge, texts: EncodedSplit, parts: list[Batches], files: list[Path], out: Tensor) -> None:
    """Fill in the rows of `out` (N, C) part by part, and write each part's rows to its file."""
    first, step = processes.rank(), processes.size()  # each process takes a share of a part's batches
    own = [rows for batches in parts for rows in batches[first::step]]
    started = time.monotonic()
    # Closed after an error too: else the process would compute all batches that are in line before it ends.
    with closing(_answers(judge, texts, own)) as found:
        answers = with_progress(
            zip(own, found, strict=True),
            sum(texts.lengths[row] for row in _rows(own)),
            "teacher",
            unit="tokens",
            size=lambda answer: sum(texts.lengths[row] for row in answer[0]),
        )
        for batches, file in zip(parts, files, strict=True):
            for rows, logits in islice(answers, len(batches[first::step])):
                out[rows] = logits
            part = _rows(batches)
            values = out[part]
            processes.all_reduce([values])
            out[part] = values
            if processes.is_first():
                _write(values, file)
        assert next(answers, None) is None, "all batches belong to a part"  # ends the progress bar
    if own:
        speed = sum(map(len, own)) * step / (time.monotonic() - started)
        console.print(f"  judged in {judge.precision}: {speed:,.0f} texts/s")


def choose(judges: Judges, texts: EncodedSplit, dev: EncodedSplit) -> Precision:
    """The fastest precision whose answers on dev are those of fp32, see `_compare`. fp32 where the work is too short for such a trial.
    Says what was chosen and why.
    """
    rng = random.Random(0)
    sample = texts.subset(rng.sample(range(len(texts)), min(SAMPLE, len(texts))))
    fp32 = judges.open("fp32")
    seconds = _seconds(fp32, sample)
    if seconds * sum(texts.lengths) / sum(sample.lengths) < WORTH_A_CHECK:
        return "fp32"
    dev = dev.subset(rng.sample(range(len(dev)), min(DEV_TEXTS, len(dev))))
    expected = _all_answers(fp32, dev)
    faster: list[tuple[float, Judge]] = []
    for precision in judges.others():
        try:
            judge = judges.open(precision)
        except Exception as error:  # whatever the exporters raise for a model that they do not know
            console.print(f"  {precision} is not possible for this teacher ({str(error).splitlines()[0]})")
            continue
        if (own := _seconds(judge, sample)) < seconds:
            faster.append((own, judge))
    for own, judge in sorted(faster, key=lambda timed: timed[0]):
        agrees, comparison = _compare(_all_answers(judge, dev), expected, dev.labels)
        if agrees:
            console.print(f"  {judge.precision} is {seconds / own:.1f} times as fast as fp32; {comparison}")
            return judge.precision
        console.print(f"  {judge.precision} is not used: {comparison}")
    console.print(f"  judging in fp32, {len(sample) / seconds:,.0f} texts/s")
    return "fp32"


def _compare(logits: Tensor, expected: Tensor, labels: Tensor) -> tuple[bool, str]:
    """Whether logits (N, C) agree with those of fp32, and a line about it.

    At least `SAME_LABELS` of the labels are the same, and the accuracy is at most `ACCURACY_LOSS` lower. With few dev texts, two or three
    of them are more than that, and the teacher's best epoch was chosen by them. So the loss may be larger by two standard errors of the
    difference, which come from the texts that only one of the two gets right.
    """
    same = float((logits.argmax(dim=1) == expected.argmax(dim=1)).float().mean())
    right, right_in_fp32 = (z.argmax(dim=1) == labels for z in (logits, expected))
    accuracy, of_fp32 = (float(one.float().mean()) for one in (right, right_in_fp32))
    errors = 2 * float((right != right_in_fp32).sum()) ** 0.5 / len(labels)
    line = f"on {len(labels):,} dev texts {same:.1%} of fp32's labels, accuracy {accuracy:.2%} (fp32 {of_fp32:.2%})"
    return same >= SAME_LABELS and accuracy >= of_fp32 - ACCURACY_LOSS - errors, line


def _seconds(judge: Judge, texts: EncodedSplit) -> float:
    """Seconds that the judge takes for the texts, after a first batch that is not counted."""
    batches = list(_batches(texts.lengths, _batch_tokens()))
    judge.logits(texts.batch(batches[0]))
    started = time.monotonic()
    list(_answers(judge, texts, batches))
    return time.monotonic() - started


def _all_answers(judge: Judge, texts: EncodedSplit) -> Tensor:
    """Logits (N, C)."""
    batches = list(_batches(texts.lengths, _batch_tokens()))
    return torch.cat(list(_answers(judge, texts, batches)))[torch.argsort(_rows(batches))]


def _answers(judge: Judge, texts: EncodedSplit, batches: Batches) -> Generator[Tensor, None, None]:
    """The logits (B, C) of each batch, in order. Closed before its end, it computes no batch that has not begun."""
    with ThreadPoolExecutor(judge.at_once) as pool:
        yield from pool.map(lambda rows: judge.logits(texts.batch(rows)), batches)


def _batch_tokens() -> int:
    """The most tokens of a batch on this device."""
    return BATCH_TOKENS["cpu" if make_accelerator().device.type == "cpu" else "gpu"]


def _batches(lengths: Sequence[int], limit: int) -> Iterator[list[int]]:
    """Rows of texts of similar length, as many as make a batch of at most `limit` tokens."""
    rows: list[int] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if rows and (len(rows) + 1) * lengths[row] > limit:
            yield rows
            rows = []
        rows.append(row)
    if rows:
        yield rows


def _parts(lengths: Sequence[int], limit: int) -> Iterator[Batches]:
    """The batches of at most `limit` tokens in groups of about `PART` texts."""
    part: Batches = []
    for rows in _batches(lengths, limit):
        part.append(rows)
        if sum(map(len, part)) >= PART:
            yield part
            part = []
    if part:
        yield part


def _rows(batches: Batches) -> Tensor:
    return torch.tensor([row for rows in batches for row in rows], dtype=torch.long)


def _write(values: Tensor, file: Path) -> None:
    """Write values (N, C) atomically: a killed run leaves no part of a file."""
    temporary = file.with_suffix(".tmp")
    with temporary.open("wb") as opened:
        np.save(opened, values.numpy())
    os.replace(temporary, file)


def _arrays(batch: Batch) -> dict[str, IntArray]:
    """What `pad_batch` gave."""
    return {name: getattr(batch, name).numpy() for name in ("input_ids", "attention_mask", "type_ids", "segments")}
