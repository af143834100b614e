"""Timing, with a fake clock and numbers computed by hand."""

import gc

import pytest

from bench.latency import MAXIMUM, Stopwatch, percentile, percentiles, slices, throughput


class Clock:
    """Time in ns that passes only in `spend`."""

    def __init__(self):
        self.now = 0

    def __call__(self):
        return self.now

    def spend(self, ms):
        self.now += round(ms * 1e6)


class Engine:
    """An engine with exactly known times: 1 ms to tokenise, and for the model the input's number in ms."""

    def __init__(self, inputs, seconds, rounds=1, model_ms=lambda call, item: item):
        self.clock, self.seen, self._model_ms = Clock(), [], model_ms
        self.stopwatch = Stopwatch(self._encode, self._logits, inputs, seconds, rounds, self.clock)

    def _encode(self, item):
        self.clock.spend(1)
        return item

    def _logits(self, item):
        self.clock.spend(self._model_ms(len(self.seen), item))
        self.seen.append(item)

    def run(self, rounds=1):
        self.stopwatch.warm_up()
        for number in range(rounds):
            self.stopwatch.round(number)
        return self.stopwatch.samples


def test_percentiles_are_linear_between_samples():
    # 1 … 101: rank of pQ is Q, so pQ = Q + 1; unsorted on purpose.
    assert percentiles(list(range(101, 0, -1))) == {"p50": 51, "p90": 91, "p95": 96, "p99": 100}
    # Ten samples: p90 lies at rank 8.1, a tenth of the way from 9 to 19.
    assert percentile([1, 2, 3, 4, 5, 6, 7, 8, 9, 19], 90) == pytest.approx(10.0)
    assert percentile([1.0, 2.0], 50) == 1.5


@pytest.mark.parametrize(("q", "needed"), [(90, 10), (95, 20), (99, 100), (99.9, 1000)])
def test_a_percentile_needs_samples_beyond_it(q, needed):
    assert percentile([1.0] * needed, q) == 1.0
    assert percentile([1.0] * (needed - 1), q) is None


def test_throughput_is_all_texts_over_all_time():
    # 96 texts in 1 + 2 + 3 s; a mean of the three rates would say 19.6.
    assert throughput(96, [1000, 2000, 3000]) == pytest.approx(16.0)


def test_tokenisation_and_model_are_timed_apart():
    samples = Engine([4, 8, 6], seconds=0.001).run()
    assert samples.tokenise_ms == [1.0, 1.0, 1.0]
    assert samples.model_ms == [4.0, 8.0, 6.0]


def test_each_input_is_in_one_round_and_the_same_one_for_every_engine():
    assert [list(part) for part in slices(7, 3)] == [[0, 3, 6], [1, 4], [2, 5]]
    assert [list(part) for part in slices(4, 10)] == [[0], [1], [2], [3]]
    assert [list(part) for part in slices(1, 5)] == [[0]] * 5  # one batch is in all rounds


def test_the_first_round_sets_how_often_all_go_through_their_inputs():
    # 80 ms for two rounds of two inputs, 5 ms a call: 40 ms are up after four passes of 10 ms.
    engine = Engine([4, 4, 4, 4], seconds=0.08, rounds=2)
    samples = engine.run(rounds=2)
    assert samples.rounds == [8, 8]
    # An engine that becomes ten times slower takes as many samples, so that no input counts more than another.
    slow = Engine([4, 4, 4, 4], seconds=0.08, rounds=2)
    slow.stopwatch.warm_up()
    slow.stopwatch.round(0)
    slow._model_ms = lambda call, item: 10 * item
    slow.stopwatch.round(1)
    assert slow.stopwatch.samples.rounds == [8, 8]


def test_a_slow_engine_goes_through_its_inputs_once():
    assert Engine([900] * 20, seconds=0.1, rounds=10).run(rounds=10).rounds == [2] * 10


def test_a_fast_engine_stops_at_the_maximum():
    samples = Engine([0] * 20, seconds=5.0, rounds=10).run(rounds=10)
    assert len(samples.model_ms) == MAXIMUM


def test_warm_up_goes_on_until_calls_get_no_faster():
    # A tenth faster with each call, from 100 ms to 9 ms; a fifth of a second would end it far too early.
    engine = Engine([9], seconds=2.0, model_ms=lambda call, item: max(9, 100 * 0.9**call))
    samples = engine.run()
    assert samples.stable
    assert samples.model_ms == [9.0] * len(samples.model_ms)


def test_warm_up_that_never_ends_is_cut_and_said():
    engine = Engine([9], seconds=0.5, model_ms=lambda call, item: 20 * 0.97**call)
    engine.stopwatch.warm_up()
    assert not engine.stopwatch.samples.stable
    assert engine.clock.now < 0.7e9


def test_a_call_as_long_as_the_warm_up_needs_no_second_look():
    engine = Engine([9000], seconds=1.0)
    engine.stopwatch.warm_up()
    assert engine.stopwatch.samples.stable
    assert len(engine.seen) == 2


def test_warm_up_starts_with_the_last_input():
    engine = Engine([1, 9], seconds=0.001)
    engine.run()
    assert engine.seen[0] == 9


def test_a_quick_engine_is_called_before_each_round_since_others_had_the_caches():
    engine = Engine([1, 1, 1], seconds=0.001, rounds=3)
    engine.stopwatch.warm_up()
    before = len(engine.seen)
    engine.stopwatch.round(0)
    calls = len(engine.seen) - before - engine.stopwatch.samples.rounds[0]
    assert calls == 15  # of 2 ms, in 30 ms


def test_garbage_collection_is_on_again_even_after_an_error():
    stopwatch = Stopwatch(lambda item: item, lambda item: 1 / item, [0], 0.0, 1)
    with pytest.raises(ZeroDivisionError):
        stopwatch.round(0)
    assert gc.isenabled()
