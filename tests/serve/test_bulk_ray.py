"""Bulk jobs on Ray Data: the same output, whatever dies. Not part of `make test`, which has no Ray: pip install 'ray[data]<2.64'."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from compress.runtime.errors import UserError
from serve.bulk.job import State, run_bulk
from serve.bulk.options import BulkOptions
from tests.serve.bulk_tables import bulk, cells, write

ROWS = 40_000  # many tasks, most of which wait while the first are answered


def test_without_ray_one_line_says_what_to_install(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"--ray local: needs the package ray: pip install 'ray\[data\]'"):
        bulk(tiny_bundle, write(tmp_path / "in.csv", cells(3)), tmp_path / "out.csv", ray="local")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one core each, of which this process is a driver."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'ray[data]<2.64'")
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes.add_node(num_cpus=1)
    nodes.wait_for_nodes()
    yield nodes
    ray.shutdown()
    nodes.shutdown()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = cells(ROWS)
    rows[700]["text"] = rows[ROWS - 9]["text"] = ""
    return write(tmp_path / "in.csv", rows)


def on_ray(
    bundle: Path, table: Path, cluster: Any, shown: Callable[[State], None] = lambda state: None, **options: Any
) -> State:
    target = table.parent / "on_ray" / "out"
    target.parent.mkdir(exist_ok=True)
    asked = BulkOptions(str(table), str(target), ray=cluster.address, **{"part_rows": 3_000} | options)
    return run_bulk(bundle, asked, shown)


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def expected(tiny_bundle: Path, table: Path) -> dict[str, bytes]:
    (table.parent / "plain").mkdir()
    bulk(tiny_bundle, table, table.parent / "plain" / "out", part_rows=3_000)
    return content(table.parent / "plain")


def actors() -> list[psutil.Process]:
    """The processes that answer. They are children of the nodes, which are those of this process; Ray names them after the actor's class."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it has ended
            if any("MapWorker" in part for part in child.cmdline()):
                found.append(child)
    return found


def once(action: Callable[[], None]) -> Callable[[State], None]:
    """To be shown the state: acts after the first answers, while others are on their way."""
    done = []

    def shown(state: State) -> None:
        if state.rows > state.carried and not done:
            done.append(action())

    return shown


def test_the_output_is_that_without_ray(
    tiny_bundle: Path, table: Path, cluster: Any, expected: dict[str, bytes]
) -> None:
    state = on_ray(tiny_bundle, table, cluster)
    assert (state.workers, state.rows, state.written, state.bad) == (2, ROWS, ROWS - 2, 2)
    assert content(table.parent / "on_ray") == expected


def test_a_killed_actor_costs_no_row(tiny_bundle: Path, table: Path, cluster: Any, expected: dict[str, bytes]) -> None:
    killed: list[int] = []

    def kill() -> None:
        victim = actors()[0]
        victim.send_signal(signal.SIGKILL)
        killed.append(victim.pid)

    assert on_ray(tiny_bundle, table, cluster, once(kill)).rows == ROWS
    assert killed
    assert content(table.parent / "on_ray") == expected


def test_a_job_begun_on_ray_is_carried_on_without_it_and_the_other_way(
    tiny_bundle: Path, table: Path, cluster: Any, expected: dict[str, bytes]
) -> None:
    def stop(state: State) -> None:
        if state.rows - state.carried > 7_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        on_ray(tiny_bundle, table, cluster, stop)
    with pytest.raises(KeyboardInterrupt):
        run_bulk(tiny_bundle, BulkOptions(str(table), str(table.parent / "on_ray" / "out"), part_rows=3_000), stop)
    assert on_ray(tiny_bundle, table, cluster).carried == 12_000
    assert content(table.parent / "on_ray") == expected


def test_mistakes_come_back_as_one_line(
    tiny_bundle: Path, table: Path, cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="--max-bad is 0"):
        on_ray(tiny_bundle, table, cluster, max_bad=0)
    with pytest.raises(UserError, match=r"--ray ray://head:10001: Ray Data does not run through a client"):
        bulk(tiny_bundle, table, tmp_path / "x.csv", ray="ray://head:10001")
    with pytest.raises(UserError, match="leave --device out"):
        bulk(tiny_bundle, table, tmp_path / "x.csv", ray="local", model={"device": "cuda"})
    with pytest.raises(UserError, match=r"no machine of the cluster has 9 cores"):
        bulk(tiny_bundle, table, tmp_path / "x.csv", ray=cluster.address, model={"threads": 9})
    (table.parent / "gone.csv").write_bytes(table.read_bytes())

    def remove(state: State) -> None:  # the table, between the look at it and the reading
        (table.parent / "gone.csv").unlink(missing_ok=True)

    with pytest.raises(UserError, match=r"gone\.csv: no such file"):
        run_bulk(
            tiny_bundle, BulkOptions(str(table.parent / "gone.csv"), str(tmp_path / "x"), ray=cluster.address), remove
        )


def test_a_killed_node_costs_no_row(tiny_bundle: Path, table: Path, cluster: Any, expected: dict[str, bytes]) -> None:
    """The last test: it leaves one node."""
    (second,) = cluster.worker_nodes

    def kill() -> None:
        cluster.remove_node(second, allow_graceful=False)

    assert on_ray(tiny_bundle, table, cluster, once(kill)).rows == ROWS
    assert content(table.parent / "on_ray") == expected
