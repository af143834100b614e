"""The description of the machine, and when it is too busy to measure on."""

import sys

import psutil
import pytest

from bench import environment
from bench.environment import Environment, cpu_flags, describe, typed_command
from compress.busy import busy_share


def test_the_machine_is_described_with_what_decides_a_time():
    described = describe("cpu")
    assert described.cpu
    assert described.logical_cpus >= 1
    assert described.memory_bytes > 2**20
    assert described.gpu is None
    assert set(described.simd) <= cpu_flags()
    assert described.packages["torch"]
    assert Environment.model_validate_json(described.model_dump_json()) == described


def test_the_cpu_is_asked_once(monkeypatch):
    asked = []

    def ask():
        asked.append(1)
        return {"brand_raw": "A CPU", "flags": ["avx2", "sse"]}

    environment._cpu_info.cache_clear()
    monkeypatch.setattr(environment, "get_cpu_info", ask)
    try:
        described = describe("cpu")
        assert (described.cpu, described.simd) == ("A CPU", ["avx2"])
        assert describe("cpu") == described
    finally:
        environment._cpu_info.cache_clear()
    assert asked == [1]


@pytest.mark.parametrize(("percent", "busy"), [(0.0, False), (25.0, False), (25.1, True), (100.0, True)])
def test_a_quarter_of_the_cpus_in_use_is_too_much(monkeypatch, percent, busy):
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval, percpu: [percent, percent])
    assert busy_share() == percent / 100
    assert describe("cpu").model_copy(update={"busy_share": busy_share()}).busy == busy


def test_a_busy_cpu_of_a_large_machine_is_too_much_where_it_is_measured_on(monkeypatch):
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval, percpu: [0.0, 80.0, *[0.0] * 62])
    assert busy_share() == busy_share([0]) == 80 / 64 / 100
    assert busy_share([1]) == 0.8
    assert busy_share([1, 2]) == 0.4


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("/venv/bin/pocketbert", "pocketbert bench 'my task.toml'"),
        ("/home/me/pocketbert/pocketbert/__main__.py", "pocketbert bench 'my task.toml'"),
        ("/home/me/pocketbert/bench/__main__.py", "python -m bench bench 'my task.toml'"),
    ],
)
def test_a_command_is_recorded_as_it_can_be_typed_again(
    program: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [program, "bench", "my task.toml"])
    assert typed_command() == said
