"""Too much work is refused in time; what nobody waits for is not done; short requests do not wait behind long ones."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve.admission import Admission, ClientLeftError, Lane
from serve.app import create_app
from serve.messages import RefusedError
from serve.predictor import Predictor
from serve.settings import Settings
from serve.timing import ServiceTimes

Run = Callable[..., Awaitable[None]]


class Clock:
    """Time that passes only in `sleep`, as the lanes see it."""

    now = 1_000.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("serve.admission.monotonic", lambda: clock.now)
    monkeypatch.setattr("serve.app.monotonic", lambda: clock.now)
    return clock


@pytest.fixture
def run(clock: Clock) -> Run:
    """A request that takes exactly as long as forecast."""

    async def run(lane: Lane, seconds: float, log: list[Any], name: Any = None, **options: Any) -> None:
        ticket = await lane.enter(seconds, **options)
        log.append(name)
        clock.sleep(seconds)
        lane.leave(ticket)

    return run


async def all_have_joined() -> None:
    """Let the event loop run until the requests that were begun wait in their lane."""
    for _ in range(5):
        await asyncio.sleep(0)


async def outcomes(*requests: Awaitable[None]) -> list[str]:
    """For each of the requests, which arrive together: "ok", the status of its refusal, or "left"."""
    results = await asyncio.gather(*requests, return_exceptions=True)
    for result in results:
        if not isinstance(result, RefusedError | ClientLeftError | None):
            raise result
    return ["ok" if r is None else str(r.status) if isinstance(r, RefusedError) else "left" for r in results]


def test_requests_that_arrive_together_are_refused_beyond_the_bound_before_the_others_run(run: Run) -> None:
    async def check() -> None:
        lane, log = Lane(0.055, shared=True), []
        run_before, retry_after = set(), set()

        async def one(name: int) -> None:
            try:
                await run(lane, 0.01, log, name)
            except RefusedError as error:
                run_before.add(len(log))
                retry_after.add(error.retry_after)
                raise

        results = await outcomes(*map(one, range(20)))
        # One runs at once. Behind it wait six of 10 ms.
        assert results == ["ok"] * 7 + ["429"] * 13
        assert log == list(range(7))  # in the order of arrival
        assert (run_before, retry_after) == ({1}, {1})
        assert lane.wait == 0
        await run(lane, 0.01, log)  # it takes requests again

    asyncio.run(check())


def test_an_empty_lane_takes_a_request_of_any_length(run: Run) -> None:
    async def check() -> None:
        lane = Lane(0.001, shared=False)
        ticket = await lane.enter(0.02)
        assert await outcomes(run(lane, 0.02, [])) == ["429"]
        lane.leave(ticket)
        assert await outcomes(run(lane, 0.02, [])) == ["ok"]

    asyncio.run(check())


def test_the_wait_is_forecast_from_the_time_that_requests_took(clock: Clock) -> None:
    async def check() -> None:
        lane = Lane(10.0, shared=False)
        for _ in range(20):
            ticket = await lane.enter(0.001)
            clock.sleep(0.005)
            lane.leave(ticket)
        await lane.enter(0.001)
        assert 0.003 < lane.wait < 0.005  # what it learned, and what it believed before

    asyncio.run(check())


def test_the_event_loop_looks_for_new_requests_while_many_wait(run: Run) -> None:
    async def check() -> None:
        lane, log, turns = Lane(10.0, shared=True), [], 0

        async def count() -> None:
            nonlocal turns
            while len(log) < 100:
                turns += 1
                await asyncio.sleep(0)

        await asyncio.gather(count(), *(run(lane, 0.002, log) for _ in range(100)))
        assert turns >= 5  # after at most 50 ms of the 200 ms

    asyncio.run(check())


def test_a_request_whose_client_left_is_not_run(run: Run, clock: Clock) -> None:
    async def check() -> None:
        lane, log = Lane(1.0, shared=False), []
        ticket = await lane.enter(0.03)
        requests = [run(lane, 0.001, log, left, has_left=lambda left=left: left) for left in (True, False)]
        waiting = asyncio.create_task(outcomes(*requests))
        await all_have_joined()
        clock.sleep(0.03)
        lane.leave(ticket)
        assert await waiting == ["left", "ok"]
        assert log == [False]
        assert lane.wait == 0

    asyncio.run(check())


def test_a_deadline_is_kept(run: Run, clock: Clock) -> None:
    async def check() -> None:
        lane, log = Lane(1.0, shared=False), []
        now = clock.now
        requests = [
            run(lane, 0.02, log, "first"),
            run(lane, 0.02, log, "forecast", deadline=now + 0.01),  # 20 ms are before it
            run(lane, 0.02, log, "in time", deadline=now + 5),
        ]
        assert await outcomes(*requests) == ["ok", "429", "ok"]
        ticket = await lane.enter(0.001)
        late = asyncio.create_task(run(lane, 0.001, log, "late", deadline=clock.now + 0.02))
        await all_have_joined()
        clock.sleep(0.05)  # longer than forecast
        lane.leave(ticket)
        assert await outcomes(late) == ["504"]
        assert log == ["first", "in time"]

    asyncio.run(check())


def test_a_cancelled_request_leaves_its_lane(run: Run) -> None:
    async def check() -> None:
        lane, log = Lane(1.0, shared=False), []
        ticket = await lane.enter(0.01)
        waiting = asyncio.create_task(run(lane, 0.01, log, "cancelled"))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        lane.leave(ticket)
        await asyncio.sleep(0)
        assert lane.wait == 0
        await run(lane, 0.001, log, "next")
        assert log == ["next"]

    asyncio.run(check())


@pytest.fixture(scope="module")
def predictor(tiny_bundle: Path) -> Predictor:
    return Predictor(Settings(bundle=tiny_bundle))


def test_long_requests_are_refused_and_short_ones_answered_while_a_batch_runs(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictor, "times", ServiceTimes((1, 1000), (0.0001, 0.1)))  # 10 ms for 100 characters
    app = create_app(predictor, max_queue_ms=50)

    async def check() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:

            def post(text: str | list[str], **headers: str) -> Awaitable[httpx.Response]:
                return client.post("/classify", json={"text": text}, headers=headers)

            async def with_a_batch_before(request: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
                ticket = await app.state.admission.thread.enter(0.2)  # a batch of 200 ms
                try:
                    return await request()
                finally:
                    app.state.admission.thread.leave(ticket)

            refused = await with_a_batch_before(lambda: post(["good " * 20] * 8))
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
            assert "again later" in refused.json()["error"]
            assert (await with_a_batch_before(lambda: post("good"))).status_code == 200
            assert (await post(["good " * 20] * 8)).status_code == 200
            assert (await post("good", **{"x-request-timeout-ms": "1000"})).status_code == 200
            answer = await post("good", **{"x-request-timeout-ms": "soon"})
            assert (answer.status_code, "whole number of milliseconds" in answer.text) == (422, True)

    asyncio.run(check())


def test_what_runs_on_the_event_loop_depends_on_the_time_it_takes(predictor: Predictor) -> None:
    def quick(times: ServiceTimes, *texts: str) -> bool:
        return predictor.is_quick(times(list(map(len, texts))))

    cnn = ServiceTimes((10, 1000), (0.0002, 0.001))
    transformer = ServiceTimes((10, 1000), (0.003, 0.1))
    assert quick(cnn, "good")
    assert quick(cnn, "good", "bad")  # a short list too
    assert not quick(cnn, *["good"] * 50)
    assert not quick(transformer, "good")


def test_times_between_the_measured_lengths_are_on_a_line() -> None:
    times = ServiceTimes((10, 20), (1.0, 3.0))
    assert [times([length]) for length in (1, 10, 15, 20, 40)] == [1.0, 1.0, 2.0, 3.0, 6.0]
    assert times([10, 15]) == 3.0


def test_the_predictor_has_measured_its_own_times(predictor: Predictor) -> None:
    request = predictor.parse(b'{"text": "a good film"}')
    times = []
    for _ in range(50):
        start = time.perf_counter()
        predictor.classify(request)
        times.append(time.perf_counter() - start)
    fastest = min(times)  # as the predictor's own: what the machine adds is not in it
    assert fastest / 20 < predictor.seconds(request) < fastest * 20
    assert predictor.seconds(predictor.parse(b'{"text": ["a", "b", "c"]}')) == pytest.approx(3 * predictor.times([1]))


def test_all_requests_are_refused_once_the_lane_of_short_ones_is_full() -> None:
    async def check() -> None:
        admission = Admission(0.01)
        admission.check()
        await admission.loop.enter(1.0)
        with pytest.raises(RefusedError) as caught:
            admission.check()
        assert (caught.value.status, caught.value.retry_after) == (429, 1)

    asyncio.run(check())
