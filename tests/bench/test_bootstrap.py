"""Intervals on synthetic samples whose truth is known: they hold it as often as they say, and know what belongs together."""

import numpy as np
import pytest

from bench.bootstrap import in_rounds, of_accuracies, of_ratio


def holds(interval, value):
    """Whether a value could be the figure's."""
    return interval.low <= value <= interval.high


def gap_share(student, linear, teacher):
    with np.errstate(divide="ignore", invalid="ignore"):
        return (student - linear) / (teacher - linear)


def test_the_interval_of_an_accuracy_is_that_of_a_share():
    # 800 of 1000: the standard error is √(0.8 · 0.2 / 1000) = 0.0126, and 1.96 of them are 0.0248.
    found = of_accuracies([np.arange(1000) < 800], lambda own: own)
    assert found.value == 0.8
    assert found.low == pytest.approx(0.8 - 0.0248, abs=0.003)
    assert found.high == pytest.approx(0.8 + 0.0248, abs=0.003)


def test_answers_to_the_same_texts_are_compared_text_by_text():
    """Two models that differ in ten of a thousand texts: a sure difference in pairs, none at all among strangers."""
    worse = np.random.default_rng(0).permutation(np.arange(1000) < 800)
    better = worse.copy()
    better[np.flatnonzero(~worse)[:10]] = True
    paired = of_accuracies([better, worse], np.subtract)
    apart = of_accuracies([better, worse], np.subtract, paired=False)
    assert paired.value == apart.value == pytest.approx(0.01)
    assert not holds(paired, 0)
    assert holds(apart, 0)
    assert of_accuracies([worse, worse], np.subtract).high == 0


def test_the_share_of_the_gap_holds_the_truth_as_often_as_it_says():
    rng, held, rounds = np.random.default_rng(1), 0, 200
    for _ in range(rounds):
        hard = rng.random(1000)
        linear, student, teacher = hard < 0.80, hard < 0.84, hard < 0.88
        noise = rng.random(1000) < 0.1  # where all three toss a coin of their own
        linear, student, teacher = (np.where(noise, rng.random(1000) < 0.5, one) for one in (linear, student, teacher))
        held += holds(of_accuracies([student, linear, teacher], gap_share), 0.5)
    assert 0.90 <= held / rounds <= 0.99


def test_the_share_of_no_gap_could_be_anything():
    rng = np.random.default_rng(2)
    student, linear, teacher = (rng.random(300) < p for p in (0.80, 0.80, 0.805))
    found = of_accuracies([student, linear, teacher], gap_share)
    assert found.high - found.low > 2


@pytest.mark.parametrize("statistic", ["median", "mean"])
@pytest.mark.parametrize("rounds", [5, 10])
def test_the_ratio_of_times_holds_the_truth_as_often_as_it_says(statistic, rounds):
    """Ratio 5; each round of each engine is off by 3 %, besides the noise of the samples."""
    rng, held, repeats = np.random.default_rng(3), 0, 100
    for _ in range(repeats):
        slow, fast = (
            [ms * rng.lognormal(0, 0.03) * rng.lognormal(0, 0.1, 20) for _ in range(rounds)] for ms in (10, 2)
        )
        held += holds(of_ratio(slow, fast, statistic), 5)
    assert held / repeats >= 0.9


def test_a_drift_that_meets_both_engines_cancels():
    """The machine becomes twice as slow from the first round to the last; the true ratio is 5 in each round."""
    rng, drift = np.random.default_rng(4), np.linspace(1, 2, 10)
    slow, fast = ([ms * d * rng.lognormal(0, 0.01, 30) for d in drift] for ms in (10, 2))
    together, apart = of_ratio(slow, fast, "mean"), of_ratio(slow, fast, "mean", paired=False)
    assert holds(together, 5)
    assert together.high / together.low < 1.02
    assert apart.high / apart.low > 1.3


def test_one_round_has_no_interval():
    found = of_ratio([np.array([4.0, 6.0])], [np.array([1.0])], "mean")
    assert (found.value, found.low, found.high) == (5.0, -np.inf, np.inf)


def test_samples_are_split_by_rounds_and_older_ones_by_stretches():
    assert [part.tolist() for part in in_rounds([1, 2, 3, 4, 5], [2, 3])] == [[1, 2], [3, 4, 5]]
    assert [part.tolist() for part in in_rounds([1, 2], [])] == [[1], [2]]
    assert [len(part) for part in in_rounds(range(200), [])] == [10] * 20
