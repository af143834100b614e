"""How long a request will take, forecast from what was measured when the model was loaded."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

MEASURED_CHARACTERS = (8, 64, 256, 1024, 4096)
RUNS = 3
WORDS = "the film was good "


@dataclass(frozen=True)
class ServiceTimes:
    """Seconds for one text (or pair) of some numbers of characters. Between them the time is a straight line."""

    characters: tuple[int, ...]
    seconds: tuple[float, ...]

    def __call__(self, lengths: Sequence[int]) -> float:
        """The seconds for texts of these numbers of characters, one after another."""
        return sum(map(self._one, lengths))

    def _one(self, length: int) -> float:
        right = bisect_left(self.characters, length)
        if right == 0:
            return self.seconds[0]
        if right == len(self.characters):  # only the tokenizer has more work: a text is cut at the model's longest
            return self.seconds[-1] * length / self.characters[-1]
        x0, x1 = self.characters[right - 1], self.characters[right]
        y0, y1 = self.seconds[right - 1], self.seconds[right]
        return y0 + (y1 - y0) * (length - x0) / (x1 - x0)


def measure(answer: Callable[[str], object]) -> ServiceTimes:
    """Time `answer` for texts of several lengths: the fastest of three runs of each.

    A longer text never counts as faster than a shorter one.
    """
    seconds: list[float] = []
    for length in MEASURED_CHARACTERS:
        text = (WORDS * (length // len(WORDS) + 1))[:length]
        times = []
        for _ in range(RUNS):
            start = perf_counter()
            answer(text)
            times.append(perf_counter() - start)
        seconds.append(max(min(times), seconds[-1] if seconds else 0.0))
    return ServiceTimes(MEASURED_CHARACTERS, tuple(seconds))
