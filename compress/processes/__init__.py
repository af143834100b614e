"""Several processes that make one student together, as `pocketbert compress --processes`, `torchrun` and `accelerate launch` start them.

All processes run the same stages. They share each batch of a training and of a prediction. Only the first process
measures, decides and writes. Torch and accelerate are imported only if there are several processes.

A process that ends early ends the run: the others cannot go on without it. One line says so, and the same command carries on.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from compress.runtime.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import Store

T = TypeVar("T")
# How long a process waits for work that only the first one does. PyTorch's default, ten minutes, is too short for a stage. A process
# that has died is noticed sooner: its connections break, and `compress.processes.heartbeat` notices a machine that is gone.
TIMEOUT = timedelta(days=1)
STORE_TIMEOUT = timedelta(seconds=10)
LAUNCHED = "POCKETBERT_LAUNCHED"  # set in the processes that `compress.processes.launch` has started: it tells which one was killed
FAILED = "failed"  # in the store: how many processes have ended with an error


class LostProcessError(UserError):
    """Another process of the run has ended, so that this one cannot go on."""


def size() -> int:
    """The number of processes."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def rank() -> int:
    """The number of this process, counted from zero."""
    return int(os.environ["RANK"]) if size() > 1 else 0


def is_first() -> bool:
    """Whether this is the process that decides and writes."""
    return rank() == 0


def connect() -> None:
    """Make the process group if there are several processes and it does not exist yet."""
    if size() > 1:
        import torch

        # The first optimiser imports this module. If that happens after the group is made, the default arguments of its
        # functions keep the group alive until the interpreter ends.
        import torch.distributed.nn.functional
        from accelerate import PartialState

        is_new = not torch.distributed.is_initialized()
        with _together():
            # Without `cpu`, accelerate assumes one process on a machine without a GPU.
            PartialState(cpu=not torch.cuda.is_available(), timeout=TIMEOUT)
        if is_new:
            from compress.processes.heartbeat import Heartbeat

            heartbeat = Heartbeat(open_store(), rank(), size())
            heartbeat.start()
            atexit.register(_disconnect, heartbeat.stop)


def _disconnect(stop_heartbeat: Callable[[], None]) -> None:
    """End the process group and its threads before the interpreter ends.

    A thread of the group that frees tensors while the interpreter ends would abort the process.
    """
    from accelerate import PartialState

    stop_heartbeat()
    PartialState().destroy_process_group()


def open_store() -> Store:
    """A connection of its own to the key-value store of this run, which the launcher or the first process serves.

    :raises RuntimeError: nobody serves it.
    """
    from torch.distributed import PrefixStore, TCPStore

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    start = os.environ.get(
        "TORCHELASTIC_RESTART_COUNT", "0"
    )  # the store outlives processes that `torchrun` starts again
    store = TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=STORE_TIMEOUT)
    return PrefixStore(f"pocketbert/{start}", store)


@cache
def is_first_to_fail() -> bool:
    """Whether no other process has ended with an error yet: then this one says what went wrong, and the others are silent."""
    if size() == 1:
        return True
    try:
        return int(open_store().add(FAILED, 1)) == 1
    except Exception:  # the store went with the process that served it; rather a line too many than none
        return True


def is_launched_here() -> bool:
    """Whether `pocketbert compress --processes` has started this process."""
    return LAUNCHED in os.environ


@contextmanager
def _together() -> Iterator[None]:
    """Around whatever needs all processes.

    :raises LostProcessError: another process has ended.
    """
    try:
        yield
    except RuntimeError as error:  # gloo has no class of its own for a closed connection
        raise LostProcessError(
            "another process of this run has ended; run the same command again, which carries on"
        ) from error


def barrier() -> None:
    """Wait until every process has called this function."""
    if size() > 1:
        from accelerate import PartialState

        connect()
        with _together():
            PartialState().wait_for_everyone()


def broadcast_result(make: Callable[[], T]) -> T:
    """The result of `make`, called in the first process only and sent to all processes.

    The others wait from the start: nothing disturbs what `make` measures.
    """
    if size() == 1:
        return make()
    from accelerate.utils import broadcast_object_list

    barrier()
    box = [make() if is_first() else None]
    with _together():
        broadcast_object_list(box)
    return box[0]  # type: ignore[return-value]


def gather(value: T) -> list[T]:
    """The values of all processes, in the order of their numbers. Every process gets the list."""
    if size() == 1:
        return [value]
    from accelerate.utils import gather_object

    connect()
    with _together():
        found: Any = gather_object([value])
    return list(found)


def broadcast(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor, in place, by the tensor of the first process. Needed because each process initialises its weights."""
    if size() == 1:
        return
    import torch

    tensors = list(tensors)
    with torch.no_grad():
        if not is_first():
            for tensor in tensors:
                tensor.zero_()
        all_reduce(tensors)


def all_reduce(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor, in place, by its sum over the processes, which is the same to the bit in all of them.

    The tensors are sent as one message. The sum is computed on the accelerator's device.
    """
    if size() == 1:
        return
    import torch
    from accelerate import PartialState
    from accelerate.utils import reduce

    connect()
    device, tensors = PartialState().device, list(tensors)
    message = torch.cat([tensor.reshape(-1).to(device, torch.float32) for tensor in tensors])
    with _together():
        flat = reduce(message, "sum")
    for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(total.view_as(tensor))


def require_one(command: str) -> None:
    """Check that a command runs in one process.

    :raises UserError: there are several processes.
    """
    if size() > 1:
        raise UserError(f"{command}: runs in one process; only `pocketbert compress` takes several")
