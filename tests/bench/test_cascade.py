"""The times of a cascade's rows, with a clock of their own. What is measured of a real one: `tests/e2e/test_cascade_path.py`."""

import pytest

from bench.cascade.run import mean_times
from serve.messages import Request


class Machine:
    """A student of 1 ms and a teacher of 10 ms; what runs after the other one finds its weights out of the caches: 2 ms more."""

    def __init__(self):
        self.now, self.last = 0.0, None

    def clock(self):
        return round(self.now * 1e6)

    def run(self, model, ms):
        self.now += ms + 2 * (self.last not in (model, None))
        self.last = model

    def student(self, request):
        self.run("student", 1)

    def teacher(self, request):
        self.run("teacher", 10)

    def cascade(self, request):
        self.run("student", 1)
        if request.text == "unsure":
            self.run("teacher", 10)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_the_time_of_a_row_does_not_depend_on_the_row_before_it(order):
    machine = Machine()
    calls = [machine.student, machine.cascade, machine.teacher]
    requests = [Request(text=text) for text in ("sure", "unsure", "sure", "sure")]
    times = mean_times([calls[i] for i in order], requests, machine.clock)
    # The cascade: three texts of the student alone, and one of both, each of which finds the other one's weights in the caches.
    assert times == pytest.approx([[1.0, (3 * 1 + 15) / 4, 10.0][i] for i in order])
