"""Timing, with a fake clock and numbers computed by hand."""

import gc

import pytest

from bench.latency import Limits, measure, percentile, percentiles, throughput


class Clock:
    """Time in ns that passes only in `spend`."""

    def __init__(self):
        self.now = 0

    def __call__(self):
        return self.now

    def spend(self, ms):
        self.now += round(ms * 1e6)


def run(inputs, limits, tokenise_ms=1.0, model_ms=4.0):
    """Measure an engine with exactly known times. Return the samples and the inputs in the order of the calls."""
    clock, seen = Clock(), []

    def encode(item):
        clock.spend(tokenise_ms)
        return item

    def logits(item):
        clock.spend(model_ms * item)
        seen.append(item)

    return measure(encode, logits, inputs, limits, clock), seen


def test_percentiles_are_linear_between_samples():
    # 1 … 101: rank of pQ is Q, so pQ = Q + 1; unsorted on purpose.
    assert percentiles(list(range(101, 0, -1))) == {"p50": 51, "p90": 91, "p95": 96, "p99": 100}
    # Ten samples: p90 lies at rank 8.1, a tenth of the way from 9 to 19.
    assert percentile([1, 2, 3, 4, 5, 6, 7, 8, 9, 19], 90) == pytest.approx(10.0)
    assert percentile([1.0, 2.0], 50) == 1.5


@pytest.mark.parametrize(("q", "needed"), [(90, 10), (95, 20), (99, 100)])
def test_a_percentile_needs_samples_beyond_it(q, needed):
    assert percentile([1.0] * needed, q) == 1.0
    assert percentile([1.0] * (needed - 1), q) is None


def test_throughput_is_all_texts_over_all_time():
    # 96 texts in 1 + 2 + 3 s; a mean of the three rates would say 19.6.
    assert throughput(96, [1000, 2000, 3000]) == pytest.approx(16.0)


def test_tokenisation_and_model_are_timed_apart():
    samples, _ = run([1, 2], Limits(seconds=0.001, minimum=2))
    assert samples.tokenise_ms == [1.0, 1.0]
    assert samples.model_ms == [4.0, 8.0]


def test_it_stops_after_the_pass_in_which_time_is_up():
    # A pass over three inputs takes 15 ms; 40 ms are up in the third pass, which is finished.
    samples, _ = run([1, 1, 1], Limits(seconds=0.04, minimum=1))
    assert len(samples.model_ms) == 9


def test_a_slow_engine_still_gives_the_minimum():
    samples, _ = run([1], Limits(seconds=0.001, minimum=20))
    assert len(samples.model_ms) == 20


def test_a_fast_engine_stops_at_the_maximum():
    samples, _ = run([1, 1, 1], Limits(seconds=1.0, minimum=1, maximum=10))
    assert len(samples.model_ms) == 9  # a fourth pass would make 12


def test_warm_up_takes_a_fifth_of_the_time_and_is_not_recorded():
    samples, seen = run([1], Limits(seconds=0.09, minimum=1))
    assert samples.warm_up == 4  # 18 ms at 5 ms a call
    assert len(seen) == samples.warm_up + len(samples.model_ms)


def test_warm_up_starts_with_the_last_input():
    _, seen = run([1, 9], Limits(seconds=0.001, minimum=1))
    assert seen[0] == 9


def test_garbage_collection_is_on_again_even_after_an_error():
    with pytest.raises(ZeroDivisionError):
        measure(lambda item: item, lambda item: 1 / item, [0], Limits(seconds=0.01, minimum=1))
    assert gc.isenabled()
