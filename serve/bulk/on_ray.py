"""A bulk job on Ray Data (https://docs.ray.io/en/latest/data/data.html): actors on all machines of a cluster answer.

A task on this machine reads the table, actors answer, and this process alone writes the parts. So a task or an actor that Ray starts
again, or that lives on behind a broken network, cannot write a row twice. What dies is not started again by Ray: an actor of a
machine that is gone would wait for a free core for ever, with its chunks. Instead the dataset is made anew, behind the last chunk
that has arrived here, with the machines that are left. The chunks are the same in every run, so the output is too.
"""

from __future__ import annotations

import logging
import os
import pickle
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from compress import __version__
from compress.runtime.errors import UserError, one_line
from export.bundle import MANIFEST, Bundle
from serve.bulk.chunks import Chunk, Reader
from serve.bulk.options import BulkOptions
from serve.bulk.storage import is_url
from serve.bulk.worker import Answered, Answers, Setup, Worker

CHUNKS = 8  # of a task: so a task takes a second rather than a tenth, in which Ray would have as much to do as the actors
LOSSES = 5  # of actors, one behind the other without an answer between them, until the job ends
OWN_BYTES = 300 << 20  # of an actor without its models
CREDENTIALS = ("AWS_", "AZURE_", "FSSPEC_", "GCS", "GOOGLE_")  # variables of the environment that the reader needs too
COLUMN = "pickled"

logger = logging.getLogger(__name__)


@contextmanager
def connected(options: BulkOptions) -> Iterator[None]:
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
        alone = {"num_cpus": len(os.sched_getaffinity(0)), "include_dashboard": False} if address == "local" else {}
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **alone)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UserError(
                f"--ray {address}: no cluster answers there ({one_line(error)}); give HOST:PORT of `ray start --head`, or local"
            ) from None
    try:
        yield
    finally:
        if started:
            ray.shutdown()


def actors_on_ray(setup: Setup, options: BulkOptions) -> int:
    """How many actors the cluster has room for: by cores, and by the memory that each needs.

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
            f"--ray {options.ray}: no machine of the cluster has {cores} cores and {memory >> 20} MB of memory for a worker"
        )
    return min(options.workers or most, most)


def answered_on_ray(setup: Setup, options: BulkOptions, first: int) -> Answers:
    """The answers to all chunks from a part on, in the order of the table.

    :raises UserError: see `answered`; or actors die again and again.
    """
    import ray

    bundle = ray.put(_files_of(Bundle(setup.settings["bundle"])))
    arrived = losses = 0
    while True:
        try:
            for answers in _run(setup, options, first, arrived, bundle):
                arrived, losses = arrived + 1, 0
                yield from answers
            return
        except ray.exceptions.RayError as error:
            if (mistake := _mistake(error)) is not None:
                raise mistake from None
            losses += 1
            logger.info("a part of the cluster is lost (%s)", one_line(error))
            if losses >= LOSSES:
                raise UserError(
                    f"--ray {options.ray}: workers were lost {losses} times without an answer between ({one_line(error)}), perhaps because "
                    "the memory was full; run the same command again, which carries on, perhaps with fewer --workers"
                ) from None


def _run(setup: Setup, options: BulkOptions, first: int, skipped: int, bundle: Any) -> Iterator[list[Answered]]:
    """Read and answer in one dataset.

    :param skipped: tasks of an earlier dataset whose answers have arrived.
    """
    import ray
    from ray.data import ActorPoolStrategy, DataContext
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    context.target_max_block_size = 1  # a block for each row, which is a task: Ray would join small ones
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if not is_url(options.source):
        options = replace(options, source=str(Path(options.source).absolute()))
    cores, memory = _needs(setup)
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    secrets = {name: value for name, value in os.environ.items() if name.startswith(CREDENTIALS)}
    tasks = ray.data.from_items([{"first": first}]).map_batches(
        _read,
        fn_args=(options, setup, first, skipped, secrets),
        batch_size=None,
        num_cpus=0,  # it has little to do, and the actors have all cores
        scheduling_strategy=here,
    )
    answers = tasks.map_batches(
        _Actor,
        fn_constructor_args=(setup, bundle, __version__),
        batch_size=None,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=actors_on_ray(setup, options)),
        num_cpus=cores,
        memory=memory,
        max_restarts=0,
        max_task_retries=0,
    )
    for table in answers.iter_batches(batch_size=None, batch_format="pyarrow"):
        for one in table.column(COLUMN):
            yield pickle.loads(one.as_py())


def _read(
    _: Any, options: BulkOptions, setup: Setup, first: int, skipped: int, secrets: dict[str, str]
) -> Iterator[dict[str, list[bytes]]]:
    """The table in tasks of some chunks. Run on the machine of the command, for a path is of that machine."""
    os.environ.update(secrets)
    reader = Reader(options.source, setup.source, options.part_rows)
    chunks = ((chunk, reader.share) for chunk in reader.chunks_from(first))
    tasks = iter(lambda: list(islice(chunks, CHUNKS)), [])
    for task in islice(tasks, skipped, None):
        yield {COLUMN: [pickle.dumps(task)]}


class _Actor:
    """A `Worker` in a process of the cluster."""

    def __init__(self, setup: Setup, bundle: Any, version: str) -> None:
        import ray

        self._worker: Worker | None = None
        self._mistake: UserError | None = None  # told with the first task: from here it would look as if the process had died
        try:
            if version != __version__:
                raise UserError(f"--ray: a machine of the cluster has pocketbert {__version__}, and this one {version}")
            with tempfile.TemporaryDirectory(prefix="pocketbert-") as folder:
                for name, data in ray.get(bundle).items():
                    (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
                    (Path(folder) / name).write_bytes(data)
                self._worker = Worker(replace(setup, settings={**setup.settings, "bundle": Path(folder)}))
        except UserError as error:
            self._mistake = error

    def __call__(self, batch: Any) -> Any:
        import pyarrow

        if self._worker is None:
            raise self._mistake or AssertionError("without a mistake there is a worker")
        answered = []
        for one in batch.column(COLUMN):
            task: list[tuple[Chunk, float | None]] = pickle.loads(one.as_py())
            answered.append(pickle.dumps([Answered(c.part, share, self._worker.answer(c)) for c, share in task]))
        return pyarrow.table({COLUMN: pyarrow.array(answered, pyarrow.large_binary())})


def _needs(setup: Setup) -> tuple[int, int]:
    """The cores and the bytes of memory of an actor. ONNX Runtime holds a model about twice, and its arrays."""
    bundle = Bundle(setup.settings["bundle"])
    wanted = {bundle.model(setup.settings.get("precision"), domain)[1].file for domain in (bundle.manifest.domains or [None])}
    if setup.settings.get("cascade") is not False:
        wanted |= {part.cascade.teacher.file for part in bundle.parts.values() if part.cascade is not None}
    models = sum(bundle.manifest.files[name].bytes for name in wanted)
    return setup.settings.get("threads") or 1, OWN_BYTES + 2 * models


def _files_of(bundle: Bundle) -> dict[str, bytes]:
    """The files of a bundle, as the machines of a cluster have no common directory."""
    return {name: (bundle.directory / name).read_bytes() for name in (MANIFEST, *bundle.manifest.files)}


def _mistake(error: BaseException | None) -> UserError | None:
    """What the reader or an actor has raised. None: a process died."""
    import ray

    while error is not None:
        if isinstance(error, UserError):
            return UserError(str(getattr(error, "cause", error)))
        if isinstance(error, ray.exceptions.RayTaskError):
            cause = error.cause
            if isinstance(cause, UserError):
                return cause
            if not isinstance(cause, ray.exceptions.RayError):
                return UserError(f"--ray: a task failed ({one_line(cause)}); is pocketbert installed on all machines?")
        error = error.__cause__
    return None
