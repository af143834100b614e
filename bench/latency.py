"""Timing of any two functions, in rounds: warm-up until the times are stable, raw samples, percentiles, throughput.

Several engines that take turns, round by round, meet the same machine: its clock, its temperature and its other work change
slower than the turns. So the samples of one round are pairs, and so are the texts: a round has the same ones for every engine.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

Item = TypeVar("Item")
Batch = TypeVar("Batch")
Clock = Callable[[], int]

QUANTILES = (50, 90, 95, 99)
MAXIMUM = 2000  # samples of a cell, even if there is time for more
WARM_UP_SHARE = 0.2  # of a cell's seconds at least, in which the calls go through different inputs
STABLE = 1.03  # the times are stable if the last calls are not faster than those before by more than this factor
_STRETCH_SHARE = 0.1  # of a cell's seconds; the stretches of the warm-up that are compared
_COLD_S = 0.03  # calls before each round, since another engine had the caches; none if one call takes longer
_NS = 1e9


@dataclass
class Samples:
    """Raw samples in milliseconds, in the order of the calls. Entry i of both lists belongs to the same call."""

    warm_up: int = 0  # calls made before the first sample
    stable: bool = False  # whether the times had settled by then
    rounds: list[int] = field(default_factory=list)  # number of samples of each round
    tokenise_ms: list[float] = field(default_factory=list)
    model_ms: list[float] = field(default_factory=list)


def slices(inputs: int, rounds: int) -> list[range]:
    """Which inputs each round has: every input is in one round. With fewer than three inputs, all are in every round."""
    if inputs < 3:
        return [range(inputs)] * rounds
    return [range(start, inputs, min(rounds, inputs)) for start in range(min(rounds, inputs))]


class Stopwatch(Generic[Item, Batch]):
    """Times `encode` and `logits` for each input, one directly after the other but with separate times.

    Call `warm_up`, then `round` for each of `slices`. A round goes through its inputs as often as time allows, and at least
    once. The first round sets how often; the others repeat it, because else some inputs would count more than others.

    :param encode: makes a batch of an input.
    :param logits: runs the model on a batch.
    :param seconds: the time for all rounds together.
    :param clock: monotonic time in ns.
    """

    def __init__(
        self,
        encode: Callable[[Item], Batch],
        logits: Callable[[Batch], object],
        inputs: Sequence[Item],
        seconds: float,
        rounds: int,
        clock: Clock = time.perf_counter_ns,
    ) -> None:
        self.samples = Samples()
        self._encode, self._logits, self._inputs, self._clock = encode, logits, inputs, clock
        self._slices = slices(len(inputs), rounds)
        self._seconds, self._passes = seconds, 0
        self._call_s = 0.0  # time of a call at the end of the warm-up

    def warm_up(self) -> None:
        """Call without recording, through different inputs, then with the last one until its times are stable.

        They are when a stretch of calls is not faster than the one before, or when a call is so long that it is most of the
        warm-up. It ends unstable after the cell's own time.
        """
        started, calls = self._clock(), 0
        # Backwards: sorted batches end with the longest one. The buffers made for it are large enough for the others.
        while calls == 0 or self._since(started) < self._seconds * WARM_UP_SHARE:
            self._call(self._inputs[-1 - calls % len(self._inputs)])
            calls += 1
        before = float("inf")
        while True:
            stretch, taken = self._clock(), 0
            while taken == 0 or self._since(stretch) < self._seconds * _STRETCH_SHARE:
                self._call(self._inputs[-1])
                taken += 1
            self._call_s = self._since(stretch) / taken
            calls += taken
            if before <= self._call_s * STABLE or self._call_s > self._seconds * WARM_UP_SHARE:
                self.samples.stable = True
                break
            if self._since(started) > self._seconds:
                break
            before = self._call_s
        self.samples.warm_up = calls
        gc.collect()

    def round(self, number: int) -> None:
        """Take the samples of a round."""
        chosen = [self._inputs[i] for i in self._slices[number]]
        cold = self._clock()
        while self._call_s < _COLD_S and self._since(cold) < _COLD_S:
            self._call(chosen[-1])
        most = max(1, MAXIMUM // (len(self._slices) * len(chosen)))
        taken = len(self.samples.model_ms)
        gc.disable()  # the pauses of garbage collection are not the engine's
        try:
            started, passes = self._clock(), 0
            while passes < (self._passes or most):
                for item in chosen:
                    self._sample(item)
                passes += 1
                if not self._passes and self._since(started) >= self._seconds / len(self._slices):
                    break
            self._passes = passes
        finally:
            gc.enable()
        self.samples.rounds.append(len(self.samples.model_ms) - taken)

    def _sample(self, item: Item) -> None:
        began = self._clock()
        batch = self._encode(item)
        encoded = self._clock()
        self._logits(batch)
        ended = self._clock()
        self.samples.tokenise_ms.append((encoded - began) / 1e6)
        self.samples.model_ms.append((ended - encoded) / 1e6)

    def _call(self, item: Item) -> None:
        self._logits(self._encode(item))

    def _since(self, start: int) -> float:
        return (self._clock() - start) / _NS


def percentile(ms: Sequence[float], q: float) -> float | None:
    """The q-th percentile, linear between the two nearest samples. None with fewer than 100 / (100 − q) samples.

    With fewer samples (for p99: fewer than 100) the figure would be about the largest sample.
    """
    if q != 50 and len(ms) * (100 - q) < 100 - 1e-6:  # a thousand samples are enough for p99.9
        return None
    return float(np.percentile(ms, q)) if ms else None


def percentiles(ms: Sequence[float]) -> dict[str, float | None]:
    """`p50`, `p90`, `p95` and `p99`, in the unit of the samples."""
    return {f"p{q}": percentile(ms, q) for q in QUANTILES}


def throughput(texts: int, ms: Sequence[float]) -> float:
    """Texts per second: the number of texts in all samples, divided by the time of all samples."""
    return texts / (sum(ms) / 1e3)
