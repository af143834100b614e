"""Load over HTTP, on a server whose delays and mistakes are known."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from bench.__main__ import app
from bench.load.drive import UNFINISHED, Plan, Samples, measure
from bench.load.report import LoadReport, Stage, to_markdown
from bench.load.run import LoadOptions, _command, find_highest, run_load
from bench.load.target import BODY, TEXTS, Target, read_texts
from compress.runtime.errors import UserError
from tests.bench.load_server import KnownServer, running
from tests.waiting import PATIENCE, until

ROOT = Path(__file__).parents[2]


def run(server: KnownServer, plan: Plan, texts: list[str] | None = None) -> Stage:
    target = Target.make(server.url, BODY, texts or ["a text"], [])
    return Stage.make(plan, *measure(target, plan))


def slow(stage: Stage, ms: float) -> int:
    """How many answers took longer."""
    return sum(one > ms for one in stage.answered_ms)


def test_an_open_loop_shows_the_stall_that_a_closed_loop_hides() -> None:
    with running(KnownServer(delay=0, stall=("open", 0.3, 1.0))) as server, ThreadPoolExecutor() as both:
        # At the same time: they meet the same stall.
        closing = both.submit(run, server, Plan(connections=1, seconds=2, warm_up_s=0), ["closed"])
        opened = run(server, Plan(rate=100, seconds=2, warm_up_s=0), ["open"])
        closed = closing.result()
    # Whatever the machine adds, nothing that was due in the first half of the stall has its answer within half a second.
    assert opened.requests == 200
    assert slow(opened, 500) >= 45
    assert (opened.quantile(90) or 0) > 500
    # The closed loop asked nothing meanwhile: it has one slow answer, and perhaps one of the machine's.
    assert 1 <= slow(closed, 500) <= 3
    assert max(closed.answered_ms) > 500
    assert not opened.errors


def test_known_delays_are_found() -> None:
    with running(KnownServer(delay=0.02)) as server:
        stage = run(server, Plan(rate=100, seconds=1, warm_up_s=0.1), [*["quick"] * 4, "slow"])
    assert stage.requests == 100
    assert set(server.bodies.values()) == {88, 22}  # the warm-up's too
    assert min(stage.answered_ms) >= 20
    assert min(stage.answered_ms) < 120 <= sorted(stage.answered_ms)[-20]  # a fifth
    assert (stage.quantile(99) or 0) >= 120
    assert stage.answers_per_s > 0


def test_connections_are_kept_alive_and_a_closed_loop_has_no_more_than_it_was_told() -> None:
    with running(KnownServer(delay=0.01)) as server:
        stage = run(server, Plan(connections=3, seconds=0.5, warm_up_s=0))
    assert stage.opened == 3
    assert 3 <= stage.requests <= 3 * 51  # of 10 ms each at least
    assert stage.requests == server.bodies['{"text": "a text"}']


def test_errors_are_counted_by_kind_and_nothing_is_sent_again() -> None:
    with running(KnownServer()) as server:
        stage = run(server, Plan(rate=80, seconds=0.5, warm_up_s=0, timeout_s=3), ["a text", "busy", "leave", "hang"])
    assert stage.errors == {"status 429": 10, "reset": 10, "timeout": 10}
    assert len(stage.answered_ms) == 10
    assert set(server.bodies.values()) == {10}
    assert not stage.within(10_000)  # answers in time do not outweigh errors


def test_a_server_that_is_gone_is_an_error_of_each_request() -> None:
    plan = Plan(rate=50, seconds=0.2, warm_up_s=0)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # without `listen`, and nobody else can have the port
        target = Target("http://x", "127.0.0.1", 0, deaf.getsockname(), None, [b""])
        stage = Stage.make(plan, *measure(target, plan))
    assert stage.errors == {"refused": 10}
    assert stage.answers_per_s == 0


def test_busy_connections_are_waited_for_and_the_time_runs() -> None:
    with running(KnownServer(delay=0.03)) as server:
        stage = run(server, Plan(rate=100, seconds=0.3, warm_up_s=0, most_connections=1))
    assert stage.opened == 1
    assert stage.waited > 15  # ten at most find the connection idle
    assert max(stage.answered_ms) > 600  # the last of 30 requests of 30 ms, one after the other, was due at 290 ms


def test_a_client_that_stands_still_says_that_it_was_not_the_server() -> None:
    plan = Plan(rate=100, seconds=2, warm_up_s=0)
    with running(KnownServer(delay=0)) as server:
        target = Target.make(server.url, BODY, ["a text"], [])
        stage = Stage.make(plan, *measure(target, plan, lambda said: time.sleep(0.5)))  # after a second
    assert (stage.quantile(99) or 0) > 200
    assert (stage.late_p99_ms or 0) > 200
    assert (stage.client_limit or "").startswith("the client was late, by ")


def synthetic(latency_ms: list[float], outcome: list[int], plan: Plan, late_ms: float = 0.0) -> Stage:
    """A stage of which all is known; requests are due every 10 ms."""
    samples = Samples(outcomes=["answered", "status 503"], wall_s=1.0, cpu_s=0.25)
    for i, ms in enumerate(latency_ms):
        samples.planned.append(i / 100)
        samples.late.append(late_ms / 1e3)
        samples.ended.append(i / 100 + ms / 1e3)
    samples.outcome.extend(outcome)
    return Stage.make(plan, samples, complete=True)


def test_figures_of_known_samples() -> None:
    plan = Plan(rate=100, seconds=2, warm_up_s=1)
    latencies = [500.0] * 100 + [*range(1, 201)]  # the first second is the warm-up
    stage = synthetic(latencies, [0] * 100 + [0] * 198 + [1, UNFINISHED], plan)
    assert (stage.requests, stage.errors) == (199, {"status 503": 1})
    assert stage.quantile(50) == pytest.approx(99.5)
    assert stage.quantile(99) == pytest.approx(np.percentile(range(1, 199), 99))
    assert stage.quantile(99.9) is None  # that needs a thousand
    assert stage.within(198)  # 198 of 199 are 99.5 %
    assert not stage.within(197)  # 98.99 %
    assert stage.client_answers_per_s == pytest.approx(299 / 0.25)
    # Some answers of the warm-up came after it, and the last ones after the end.
    came = [1 + i / 100 + latencies[100 + i] / 1e3 for i in range(198)] + [i / 100 + 0.5 for i in range(100)]
    assert stage.answers_per_s == pytest.approx(sum(1 <= end < 3 for end in came) / 2)


@pytest.mark.parametrize(("late_ms", "latency_ms", "said"), [(1.5, 5.0, False), (3.0, 5.0, True), (3.0, 50.0, False)])
def test_lateness_counts_where_it_is_part_of_the_latency(late_ms: float, latency_ms: float, said: bool) -> None:
    stage = synthetic([latency_ms] * 200, [0] * 200, Plan(rate=100, seconds=2, warm_up_s=0), late_ms)
    assert (stage.client_limit is not None) == said


@pytest.mark.parametrize("capacity", [3.0, 47.0, 900.0])
def test_the_ramp_finds_the_rate_that_a_server_can_take(capacity: float) -> None:
    tried = []

    def stage(plan: Plan) -> Stage:
        if plan.rate is None:
            return synthetic([5.0] * 200, [0] * 200, Plan(connections=1, seconds=2, warm_up_s=0))
        tried.append(plan.rate)
        return synthetic([5.0 if plan.rate <= capacity else 500.0] * 200, [0] * 200, plan)

    ramp = find_highest(20.0, Plan(seconds=2, warm_up_s=0), stage)
    assert ramp.rate is not None
    assert capacity / 1.05 <= ramp.rate <= capacity
    assert len(tried) < 20


def test_a_ramp_ends_where_the_client_is_the_limit() -> None:
    def stage(plan: Plan) -> Stage:
        late = 30.0 if plan.rate and plan.rate > 200 else 0.0
        return synthetic([5.0 + late] * 200, [0] * 200, plan, late)

    ramp = find_highest(20.0, Plan(seconds=2, warm_up_s=0), stage)
    assert "the server may take more" in ramp.said
    assert 200 / 1.5 < (ramp.rate or 0) <= 200


def test_the_command_measures_what_it_is_told_and_writes_both_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compress.busy.WATCHED_S", 0.1)  # a second, to see whether the machine is busy
    texts = tmp_path / "texts.txt"
    texts.write_text('say "hi"\tthere\n', encoding="utf-8")
    with running(KnownServer()) as server:
        done = CliRunner().invoke(
            app,
            [
                *(
                    "http",
                    f"{server.url}/v1",
                    "--rate",
                    "50",
                    "--connections",
                    "2",
                    "--seconds",
                    "0.4",
                    "--warm-up",
                    "0.1",
                ),
                *("--body", '{"text": "{text}", "other": ["{text_b}"]}', "--texts", str(texts)),
                *("--header", "Authorization: Bearer x", "--out", str(tmp_path)),
            ],
        )
    assert done.exit_code == 0, done.output
    assert {json.loads(body)["other"][0] for body in server.bodies} == {"there"}
    assert {json.loads(body)["text"] for body in server.bodies} == {'say "hi"'}
    assert all(
        head.startswith(b"POST /v1 HTTP/1.1\r\n") and b"Authorization: Bearer x\r\n" in head for head in server.heads
    )
    report = LoadReport.model_validate_json((tmp_path / "load.json").read_text(encoding="utf-8"))
    assert [stage.title for stage in report.stages] == ["closed, 2 connections", "open, 50.0 requests/s"]
    assert report.partial is None
    assert to_markdown(report) == (tmp_path / "load.md").read_text(encoding="utf-8")
    assert len(report.stages[1].latency_ms) == 25  # all samples are kept, the warm-up's too


def test_the_report_shows_no_secret_of_a_header() -> None:
    shown = _command(
        ["http", "http://x", "--header", "Authorization: Bearer s3cret", "--header=Key: s3cret", "--rate", "9"]
    )
    assert "s3cret" not in shown
    assert shown.startswith("python -m bench http http://x --header 'Authorization: …'")
    assert shown.endswith("--rate 9")


def test_ctrl_c_leaves_a_partial_report(tmp_path: Path) -> None:
    with running(KnownServer()) as server:
        command = [
            sys.executable,
            "-m",
            "bench",
            "http",
            server.url,
            "--connections",
            "1",
            "--rate",
            "9",
            "--seconds",
            "900",
        ]
        started = subprocess.Popen(
            [*command, "--warm-up", "0.1", "--out", str(tmp_path)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            text=True,
            # Tests that run in the background of a shell ignore the signal, and a child inherits that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            until(lambda: sum(server.bodies.values()) >= 100 or started.poll() is not None)
            started.send_signal(signal.SIGINT)
            _, said = started.communicate(timeout=PATIENCE)
        finally:
            started.kill()
    assert started.returncode == 130, said
    assert "the report is partial: 0 of 2 stages were finished" in said
    report = LoadReport.model_validate_json((tmp_path / "load.json").read_text(encoding="utf-8"))
    assert not report.stages[0].complete
    assert not report.stages[0].errors  # what was cut off is none
    assert report.stages[0].answers_per_s > 0
    assert len(report.stages[0].latency_ms) >= 95  # the probe is none, and some were on their way
    assert "**Partial.**" in (tmp_path / "load.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "say how much load"),
        (["--rate", "0"], "--rate: must be above 0"),
        (["--rate", "9", "--ramp", "0"], "--ramp: must be above 0"),
        (["--rate", "inf"], "--rate: must be above 0, and finite"),
        (["--rate", "9", "--seconds", "inf"], "--seconds, --timeout: must be above 0, and finite"),
        (["--rate", "9", "--warm-up", "inf"], "and finite, as --warm-up must be"),
        (["--rate", "9", "--seconds", "0"], "--seconds"),
        (["--rate", "9", "--rate", "0.4", "--seconds", "2"], "too short for a request at 0.4 requests/s"),
        (["--ramp", "20", "--seconds", "0.5"], "too short for a request at 1 requests/s"),
        (["--rate", "9", "--out", f"{__file__}/report"], "test_load.py is not a directory"),
        (["--rate", "9", "--body", '{"text": {text}}'], "--body: with a text in it it is not JSON"),
        (["--rate", "9", "--body", '{"a": "{text}", "b": "{text_b}"}'], "text 1 is no pair"),
        (["--rate", "9", "--header", "nonsense"], "--header: 'nonsense'"),
        (["--rate", "9", "--texts", "absent.txt"], "--texts: absent.txt: cannot be read"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(arguments: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        app(["http", "http://127.0.0.1:9", *arguments], standalone_mode=False)


def test_a_server_that_refuses_the_request_says_why_before_anything_is_measured() -> None:
    with running(KnownServer()) as server:
        target = Target.make(server.url, BODY, ["busy"], [])
        with pytest.raises(UserError, match=r"/classify: answers 429: \{\}; look at the URL, --body and --texts"):
            target.probe(PATIENCE)
    with pytest.raises(UserError, match="nothing takes connections there"):
        Target.make(server.url, BODY, ["a text"], [])


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://127.0.0.1", "not a URL of a server"),
        ("http://[::1", "Invalid IPv6 URL"),
        ("http://a..b", r"a\.\.b: not a host that this machine knows"),
        ("http://127.0.0.1/ä", "as %-codes"),
        ("http://me:s3cret@127.0.0.1", "127.0.0.1: no name or password in the URL; send --header"),
    ],
)
def test_a_url_that_cannot_be_asked_is_said_in_one_line_without_its_password(url: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as refused:
        Target.make(url, BODY, ["a text"], [])
    assert "\n" not in str(refused.value)
    assert "s3cret" not in str(refused.value)


def test_a_loop_without_a_request_after_its_warm_up_is_in_the_report_with_a_warning(tmp_path: Path) -> None:
    with running(KnownServer(delay=1.0)) as server:
        plan = Plan(seconds=0.2, warm_up_s=0.1)
        report = run_load(
            Target.make(server.url, BODY, ["a text"], []), LoadOptions([], [1], None, BODY, 1, plan), print
        )
    assert [stage.requests for stage in report.stages] == [0]
    (warning,) = [line for line in report.warnings if "no request" in line]
    assert warning.startswith("closed, 1 connection: no request began after the warm-up")
    assert "Careful" in to_markdown(report)


def test_every_request_that_is_due_before_the_end_is_sent() -> None:
    with running(KnownServer()) as server:
        stage = run(server, Plan(rate=10, seconds=0.1, warm_up_s=0.04))  # due at 0 and, of those that count, at 100 ms
    assert (len(stage.planned_ms), stage.requests) == (2, 1)


def test_bodies_and_texts(tmp_path: Path) -> None:
    with running(KnownServer()) as server:
        (plain,) = Target.make(server.url, "text={text}", ['a "b" {text_b}'], []).requests
        (get,) = Target.make(f"{server.url}/livez?a=1", "", ["a"], []).requests
        ours = Target.make(server.url.removeprefix("http://"), BODY, TEXTS, ["user-agent: me"]).requests
    assert plain.endswith(b'\r\n\r\ntext=a "b" {text_b}')
    assert get.startswith(b"GET /livez?a=1 HTTP/1.1\r\n")
    assert get.endswith(b"\r\n\r\n")
    assert all(request.startswith(b"POST /classify ") and request.count(b"ser-agent: me") == 1 for request in ours)
    file = tmp_path / "texts.txt"
    file.write_text("\ufeffone\n\ntwo\n", encoding="utf-8")
    assert read_texts(file) == ["one", "two"]
    file.write_bytes(b"\xff\n")
    with pytest.raises(UserError, match="not UTF-8"):
        read_texts(file)
