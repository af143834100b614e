"""Measuring: warm-up, raw samples, percentiles, throughput. Knows nothing of models."""

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
    """How long one cell of the table is measured."""

    seconds: float
    minimum: int  # samples, even if they take longer than `seconds`
    maximum: int = 2000  # samples, even if there is time for more


@dataclass
class Samples:
    """Raw samples in milliseconds, in the order they were taken; entry i of both lists belongs to one call."""

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
    """Time `encode` and `logits`, apart and back to back, over whole passes through `inputs`.

    Whole passes, because a pass cut short would favour whichever inputs come first. So there is always one pass,
    then more until `limits.minimum` samples and `limits.seconds` are reached or another would exceed `limits.maximum`.

    :param clock: monotonic time in ns.
    """
    samples = Samples(warm_up=_warm_up(encode, logits, inputs, limits.seconds * WARM_UP_SHARE, clock))
    gc.collect()
    gc.disable()  # a collection's pause belongs to the process, not to the engine
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
    """Call without recording until the time is up, at least once; the number of calls."""
    start = clock()
    calls = 0
    # Backwards: sorted batches end with the longest, whose buffers the others then fit into.
    while calls == 0 or (clock() - start) / 1e9 < seconds:
        logits(encode(inputs[-1 - calls % len(inputs)]))
        calls += 1
    return calls


def _is_enough(taken: int, one_pass: int, seconds: float, limits: Limits) -> bool:
    if taken < max(limits.minimum, 1):
        return False
    return seconds >= limits.seconds or taken + one_pass > limits.maximum


def percentile(ms: Sequence[float], q: int) -> float | None:
    """The q-th percentile, linear between the two nearest samples; None if there are fewer than 100 / (100 − q).

    With fewer samples than that (100 for p99) the figure would only repeat the largest one.
    """
    if len(ms) * (100 - q) < 100 and q != 50:
        return None
    return float(np.percentile(ms, q)) if ms else None


def percentiles(ms: Sequence[float]) -> dict[str, float | None]:
    """`p50`, `p90`, `p95` and `p99` in the unit of the samples."""
    return {f"p{q}": percentile(ms, q) for q in QUANTILES}


def throughput(texts: int, ms: Sequence[float]) -> float:
    """Texts per second: all the texts of the samples over all their time."""
    return texts / (sum(ms) / 1e3)
