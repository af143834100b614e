"""How many CPUs a process may use, and how many threads a training gets beside other programs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from compress.runtime import cpus

HOG = "while True: pass"
LOOK = """
import sys, os
os.sched_setaffinity(0, {int(cpu) for cpu in sys.argv[1:]})
if "BUSY_ITSELF" in os.environ:  # one CPU is in use for as long as it is watched, and it is this process that uses it
    import time
    from compress import busy
    def used(seconds):
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass
        return [1.0] + [0.0] * (os.cpu_count() - 1)
    busy._used = used
from compress.busy import use_free_cpus
print("threads", use_free_cpus())
import torch
print("torch", torch.get_num_threads())
"""
two_cpus = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs to pin to"
)


@pytest.fixture
def cgroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty tree of control groups in the place of the machine's."""
    monkeypatch.setattr(cpus, "_CGROUPS", tmp_path)
    monkeypatch.setattr(cpus, "_OWN_CGROUP", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("max 100000", 64), ("400000 100000", 4), ("150000 100000", 1), ("50000 100000", 1), ("garbage", 64)],
)
def test_a_containers_quota_limits_the_cpus(cgroups: Path, quota: str, expected: int) -> None:
    write(cgroups / "own", "0::/\n")
    write(cgroups / "cpu.max", quota + "\n")
    assert cpus.own_cpus() == expected


def test_the_tightest_quota_of_nested_groups_counts(cgroups: Path) -> None:
    write(cgroups / "own", "0::/user.slice/job\n")
    write(cgroups / "user.slice" / "cpu.max", "300000 100000")
    write(cgroups / "user.slice" / "job" / "cpu.max", "max 100000")
    assert cpus.own_cpus() == 3


def test_groups_of_version_1(cgroups: Path) -> None:
    # In a container the path is that of the host, which is not there.
    write(
        cgroups / "own", "5:memory:/docker/a\n4:cpuacct,cpu:/docker/a\n0::/\n"
    )  # the folder is cpu,cpuacct, or in another order
    write(cgroups / "cpu,cpuacct" / "cpu.cfs_quota_us", "800000\n")
    write(cgroups / "cpu,cpuacct" / "cpu.cfs_period_us", "100000\n")
    (cgroups / "cpu").symlink_to("cpu,cpuacct")
    assert cpus.own_cpus() == 8
    write(cgroups / "cpu,cpuacct" / "cpu.cfs_quota_us", "-1\n")
    assert cpus.own_cpus() == 64


def test_without_control_groups_all_that_it_is_pinned_to(cgroups: Path) -> None:
    assert cpus.own_cpus() == 64


@pytest.mark.parametrize(
    ("set_by_user", "spins"),
    [({}, "10000"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None), ({"GOMP_SPINCOUNT": "7"}, "7")],
)
def test_what_the_user_says_of_waiting_threads_stays(set_by_user: dict[str, str], spins: str | None) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    code = "import compress, os; print(os.environ.get('GOMP_SPINCOUNT'))"
    found = subprocess.run([sys.executable, "-c", code], env=environment | set_by_user, capture_output=True, text=True)
    assert found.stdout.split() == [str(spins)], found.stderr


@two_cpus
def test_threads_of_its_own_take_no_cpu_from_it() -> None:
    assert look(sorted(os.sched_getaffinity(0))[:2], BUSY_ITSELF="1") == "threads 2 torch 2"


def look(chosen: list[int], **variables: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"} | variables
    command = [sys.executable, "-c", LOOK, *map(str, chosen)]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return " ".join((found.stderr + found.stdout).split())  # the console breaks lines


@two_cpus
def test_a_cpu_that_another_program_uses_gets_no_thread() -> None:
    chosen = sorted(os.sched_getaffinity(0))[:2]
    hog = subprocess.Popen([sys.executable, "-c", f"import os; os.sched_setaffinity(0, {{{chosen[0]}}})\n{HOG}"])
    try:
        said = look(chosen)
        assert said.endswith("threads 1 torch 1")
        assert "1 of 2 threads" in said
        assert "OMP_NUM_THREADS=2" in said
        assert look(chosen, OMP_NUM_THREADS="2") == "threads 2 torch 2"  # the user's word counts
    finally:
        hog.kill()
        hog.wait()
