"""A bulk job on Ray Data (https://docs.ray.io/en/latest/data/data.html): actors on all machines of a cluster answer.

A task on this machine reads the table, actors answer, and this process alone writes the parts. So a task or an actor that Ray starts
again, or that lives on behind a broken network, cannot write a row twice. What dies is not started again by Ray: an actor of a
machine that is gone would wait for a free core, and its chunks with it. Instead the dataset is made anew, behind the last chunk
that has arrived here, with the machines that are left. The chunks are the same in every run, so the output is too.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from compress import __version__
from compress.runtime.cpus import own_cpus
from compress.runtime.errors import UserError, one_line
from export.bundle import MANIFEST, Bundle
from serve.bulk.chunks import Chunk, Reader
from serve.bulk.options import BulkOptions
from serve.bulk.urls import is_url
from serve.bulk.worker import Answered, Answers, Setup, Worker

CHUNKS = 8  # of a task, which then takes about a second: Ray has some milliseconds of work with each
LOSSES = 5  # of actors, one behind the other without an answer between them, until the job ends
OWN_BYTES = 300 << 20  # of an actor without its models
CREDENTIALS = ("AWS_", "AZURE_", "FSSPEC_", "GCS", "GOOGLE_")  # variables of the environment that the reader needs too
COLUMN = "pickled"
# Warnings of Ray: that a table is small; and that 2.64 will not take `max_restarts`, for which it has nothing else yet.
UNWANTED = ("The minimum number of concurrent actors", "`ray_remote_args` is deprecated")


@contextmanager
def ray_cluster(options: BulkOptions) -> Iterator[RayCluster]:
    """A context in which this process belongs to a Ray cluster.

    :raises UserError: Ray is not installed, or there is no cluster.
    """
    address = options.ray or ""
    try:
        import ray
        import ray.data
    except ModuleNotFoundError:
        raise UserError(f"--ray {address}: needs the package ray: pip install 'ray[data]'") from None
    if "://" in address:
        raise UserError(
            f"--ray {address}: Ray Data does not run through a client; run the command on a machine of the cluster with --ray auto, or "
            "as a job: ray job submit -- pocketbert predict …"
        )
    if options.model.get("device") == "cuda":
        raise UserError("--ray: the actors answer on CPUs; leave --device out")
    if options.source.startswith("memory://"):
        raise UserError(f"{options.source}: is in the memory of this process, where the actors of --ray cannot read it")
    started = not ray.is_initialized()
    if started:
        alone = {"num_cpus": own_cpus(), "include_dashboard": False} if address == "local" else {}
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **alone)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UserError(
                f"--ray {address}: no cluster answers there ({one_line(error)}); give HOST:PORT of `ray start --head`, or local"
            ) from None
    try:
        with warnings.catch_warnings():
            for message in UNWANTED:
                warnings.filterwarnings("ignore", message)
            yield RayCluster(options)
    finally:
        if started:
            ray.shutdown()


class RayCluster:
    """Actors on the machines of a cluster. See `Engine`."""

    def __init__(self, options: BulkOptions) -> None:
        self._options = options

    def workers(self, setup: Setup) -> int:
        """The actors that there is room for: by cores, and by the memory that each needs.

        :raises UserError: no machine has room for one.
        """
        import ray

        cores, memory = _needs(setup)
        rooms = [
            min(one["Resources"].get("CPU", 0) // cores, one["Resources"].get("memory", 0) // memory)
            for one in ray.nodes()
            if one["Alive"]
        ]
        most = int(sum(rooms))
        if not most:
            raise UserError(
                f"--ray {self._options.ray}: no machine of the cluster has {cores} cores and {memory >> 20} MB of memory for a worker"
            )
        return min(self._options.workers or most, most)

    def answers(self, setup: Setup, first: int) -> Answers:
        """See `Engine`.

        :raises UserError: also if actors die again and again.
        """
        import ray
        from ray.data.exceptions import ExecutionTimeoutError

        bundle = ray.put(_files_of(Bundle(setup.settings["bundle"])))
        arrived = losses = 0
        while True:
            try:
                for answered in self._run(setup, first, arrived, bundle):
                    arrived, losses = arrived + 1, 0
                    yield from answered
                return
            except (ray.exceptions.RayError, ExecutionTimeoutError) as error:
                if not _is_loss(error):
                    told = f"--ray: a task failed ({_last_line(error)}); is pocketbert installed on all machines?"
                    raise UserError(told) from error
                losses += 1
                if losses >= LOSSES:
                    raise UserError(
                        f"--ray {self._options.ray}: workers were lost {losses} times without an answer between ({one_line(error)}), "
                        "perhaps because the memory was full; run the same command again, which carries on, perhaps with fewer --workers"
                    ) from None
            time.sleep(losses)  # it takes a while until a machine that is gone is known to be

    def _run(self, setup: Setup, first: int, skipped: int, bundle: Any) -> Iterator[list[Answered]]:
        """Read and answer in one dataset.

        :param skipped: tasks of an earlier dataset whose answers have arrived.
        """
        import ray
        from ray.data import ActorPoolStrategy, DataContext

        context = DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        context.target_max_block_size = 1  # a block for each row, which is a task: Ray would join small ones
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        options = self._options
        if not is_url(options.source):
            options = replace(options, source=str(Path(options.source).absolute()))
        cores, memory = _needs(setup)
        lease = ray.remote(num_cpus=0)(_Lease).remote()
        secrets = {name: value for name, value in os.environ.items() if name.startswith(CREDENTIALS)}
        tasks = ray.data.from_items([{"first": first}]).map_batches(
            _read,
            fn_args=(options, setup, first, skipped, secrets),
            batch_size=None,
            num_cpus=0,  # it has little to do, and the actors have all cores
            label_selector={"ray.io/node-id": ray.get_runtime_context().get_node_id()},
        )
        answers = tasks.map_batches(
            _Actor,
            fn_constructor_args=(setup, bundle, __version__, lease),
            batch_size=None,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=self.workers(setup)),
            num_cpus=cores,
            memory=memory,
            max_restarts=0,
            max_task_retries=0,
        )
        try:
            for table in answers.iter_batches(batch_size=None, batch_format="pyarrow"):
                for one in table.column(COLUMN):
                    answered = pickle.loads(one.as_py())
                    if isinstance(answered, UserError):
                        raise answered
                    yield answered
        finally:
            ray.kill(lease)


def _read(
    _: Any, options: BulkOptions, setup: Setup, first: int, skipped: int, secrets: dict[str, str]
) -> Iterator[dict[str, list[bytes]]]:
    """The table in tasks of some chunks. Run on the machine of the command, for a path is of that machine."""
    os.environ.update(secrets)
    try:
        reader = Reader(options.source, setup.source, options.part_rows, setup.read)
        chunks = ((chunk, reader.share) for chunk in reader.chunks_from(first))
        tasks = iter(lambda: list(islice(chunks, CHUNKS)), [])
        for task in islice(tasks, skipped, None):
            yield {COLUMN: [pickle.dumps(task)]}
    except UserError as error:  # as an answer, since Ray keeps of an exception little more than its text
        yield {COLUMN: [pickle.dumps(error)]}


class _Lease:
    """Lives while its dataset is wanted. Ray may leave actors of a dataset that has failed alive, and the next one waits for their cores."""

    async def end(self) -> None:
        """Wait for the end, which is an exception for who waits."""
        await asyncio.Event().wait()


def _exit_after(lease: Any) -> None:
    import ray

    try:
        ray.get(lease.end.remote())
    except ray.exceptions.RayError:
        os._exit(1)


class _Actor:
    """A `Worker` in a process of the cluster."""

    def __init__(self, setup: Setup, bundle: Any, version: str, lease: Any) -> None:
        threading.Thread(target=_exit_after, args=(lease,), daemon=True).start()
        try:
            self._worker: Worker | UserError = _load(setup, bundle, version)
        except UserError as error:  # told with the first task, as from here it would look as if the process had died
            self._worker = error

    def __call__(self, batch: Any) -> Any:
        import pyarrow

        answered = pyarrow.array(
            [pickle.dumps(self._answer(one.as_py())) for one in batch.column(COLUMN)], pyarrow.large_binary()
        )
        return pyarrow.table({COLUMN: answered})

    def _answer(self, pickled: bytes) -> list[Answered] | UserError:
        task: list[tuple[Chunk, float | None]] | UserError = pickle.loads(pickled)
        if isinstance(task, UserError):
            return task
        worker = self._worker
        if isinstance(worker, UserError):
            return worker
        try:
            return [Answered(chunk.part, share, worker.answer(chunk)) for chunk, share in task]
        except UserError as error:
            return error


def _load(setup: Setup, bundle: Any, version: str) -> Worker:
    """A worker with a bundle that came through the cluster. Its files are only needed while it is loaded.

    :raises UserError: see `Worker`; or this machine has another version.
    """
    import ray

    if version != __version__:
        raise UserError(f"--ray: a machine of the cluster has pocketbert {__version__}, and this one {version}")
    with tempfile.TemporaryDirectory(prefix="pocketbert-") as folder:
        for name, data in ray.get(bundle).items():
            (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / name).write_bytes(data)
        return Worker(replace(setup, settings={**setup.settings, "bundle": Path(folder)}))


def _needs(setup: Setup) -> tuple[int, int]:
    """The cores and the bytes of memory of an actor. ONNX Runtime holds a model about twice, and its arrays."""
    bundle = Bundle(setup.settings["bundle"])
    wanted = {
        bundle.model(setup.settings.get("precision"), domain)[1].file for domain in (bundle.manifest.domains or [None])
    }
    if setup.settings.get("cascade") is not False:
        wanted |= {part.cascade.teacher.file for part in bundle.parts.values() if part.cascade is not None}
    models = sum(bundle.manifest.files[name].bytes for name in wanted)
    return setup.settings.get("threads") or 1, OWN_BYTES + 2 * models


def _files_of(bundle: Bundle) -> dict[str, bytes]:
    """The files of a bundle, as the machines of a cluster have no common directory."""
    return {name: (bundle.directory / name).read_bytes() for name in (MANIFEST, *bundle.manifest.files)}


def _is_loss(error: Exception) -> bool:
    """Whether a process or an object was lost, rather than that our code has raised something."""
    from ray.exceptions import RayError, RayTaskError, UserCodeException

    cause = error.cause if isinstance(error, RayTaskError) else error
    own = isinstance(error, RayTaskError) and not isinstance(cause, RayError)
    return not own and not isinstance(cause, UserCodeException)


def _last_line(error: Exception) -> str:
    """The exception in the traceback of another process."""
    return str(error).strip().splitlines()[-1][:300]
