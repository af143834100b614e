"""Timing of any two functions: warm-up, raw samples, percentiles, throughput."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")
Batch = TypeVar("Batch")
Clock = Callable[[], int]

QUANTILES = (50, 90, 95, 99)
WARM_UP_SHARE = 0.2


@dataclass(frozen=True)
class Limits:
    """How long one cell of a table is measured."""

    seconds: float
    minimum: int  # number of samples, even if they take longer than `seconds`
    maximum: int = 2000  # number of samples, even if there is time for more


@dataclass
class Samples:
    """Raw samples in milliseconds, in the order of the calls. Entry i of both lists belongs to the same call."""

    warm_up: int = 0  # calls made before the first sample
    tokenise_ms: list[float] = field(default_factory=list)
    model_ms: list[float] = field(default_factory=list)


def measure(
    encode: Callable[[Item], Batch],
    logits: Callable[[Batch], object],
    inputs: Sequence[Item],
    limits: Limits,
    clock: Clock = time.perf_counter_ns,
) -> Samples:
    """Time `encode` and `logits` for each input, one directly after the other but with separate times.

    Every pass goes through all `inputs`, because half a pass would count the first inputs more often. There is at least
    one pass. Passes end when `limits.minimum` samples are taken and `limits.seconds` have passed, or when another pass
    would exceed `limits.maximum`.

    :param encode: makes a batch of an input.
    :param logits: runs the model on a batch.
    :param clock: monotonic time in ns.
    """
    samples = Samples(warm_up=_warm_up(encode, logits, inputs, limits.seconds * WARM_UP_SHARE, clock))
    gc.collect()
    gc.disable()  # the pauses of garbage collection are not the engine's
    try:
        start = clock()
        while not _is_enough(len(samples.model_ms), len(inputs), (clock() - start) / 1e9, limits):
            for item in inputs:
                began = clock()
                batch = encode(item)
                encoded = clock()
                logits(batch)
                ended = clock()
                samples.tokenise_ms.append((encoded - began) / 1e6)
                samples.model_ms.append((ended - encoded) / 1e6)
    finally:
        gc.enable()
    return samples


def _warm_up(
    encode: Callable[[Item], Batch],
    logits: Callable[[Batch], object],
    inputs: Sequence[Item],
    seconds: float,
    clock: Clock,
) -> int:
    """Call both functions without recording for `seconds`, at least once. Return the number of calls."""
    start = clock()
    calls = 0
    # Backwards: sorted batches end with the longest one. The buffers made for it are large enough for the others.
    while calls == 0 or (clock() - start) / 1e9 < seconds:
        logits(encode(inputs[-1 - calls % len(inputs)]))
        calls += 1
    return calls


def _is_enough(taken: int, one_pass: int, seconds: float, limits: Limits) -> bool:
    if taken < max(limits.minimum, 1):
        return False
    return seconds >= limits.seconds or taken + one_pass > limits.maximum


def percentile(ms: Sequence[float], q: int) -> float | None:
    """The q-th percentile, linear between the two nearest samples. None with fewer than 100 / (100 − q) samples.

    With fewer samples (for p99: fewer than 100) the figure would be about the largest sample.
    """
    if len(ms) * (100 - q) < 100 and q != 50:
        return None
    return float(np.percentile(ms, q)) if ms else None


def percentiles(ms: Sequence[float]) -> dict[str, float | None]:
    """`p50`, `p90`, `p95` and `p99`, in the unit of the samples."""
    return {f"p{q}": percentile(ms, q) for q in QUANTILES}


def throughput(texts: int, ms: Sequence[float]) -> float:
    """Texts per second: the number of texts in all samples, divided by the time of all samples."""
    return texts / (sum(ms) / 1e3)
