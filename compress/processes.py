"""Several processes at one compression, as `accelerate launch` and `torchrun` start them: which is which, and what they share.

All processes go through the same stages. Trainings and predictions split each batch among them; the first process alone
measures, decides and writes. Torch is imported only where there are several.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from compress.runtime.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
# The others wait this long for what the first one does alone; the default of ten minutes would end a long compression.
PATIENCE = timedelta(days=1)


def size() -> int:
    """How many processes there are."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def rank() -> int:
    """Which of them this is, counted from zero."""
    return int(os.environ["RANK"]) if size() > 1 else 0


def is_first() -> bool:
    """Whether this process decides and writes."""
    return rank() == 0


def join() -> None:
    """Meet the other processes, once, before anything is sent; does nothing where there are none."""
    if size() > 1:
        import torch

        # Imported after the group is there, as the first optimizer does, it would hold the group by its functions' defaults to the end.
        import torch.distributed.nn.functional
        from accelerate import PartialState

        if not torch.distributed.is_initialized():
            atexit.register(_leave)
        # Without being told, accelerate takes a machine without a GPU for one process.
        PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)


def _leave() -> None:
    """Part from the others, and end the group's threads, before the interpreter goes.

    A thread that lets go of a message's tensors while the interpreter ends aborts the process.
    """
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


def wait() -> None:
    """Go on when every process has come here."""
    if size() > 1:
        from torch import distributed

        join()
        distributed.barrier()


def from_first(make: Callable[[], T]) -> T:
    """What `make` returns in the first process, in all of them; the others do not call it."""
    if size() == 1:
        return make()
    from torch.distributed import broadcast_object_list

    join()
    box = [make() if is_first() else None]
    broadcast_object_list(box)
    return box[0]  # type: ignore[return-value]


def take_first(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor, in place, by that of the first process: new weights are drawn by chance, by each its own."""
    if size() == 1:
        return
    import torch

    tensors = list(tensors)
    with torch.no_grad():
        if not is_first():
            for tensor in tensors:
                tensor.zero_()
        add_up(tensors)


def add_up(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor, in place, by its sum over the processes; one message, on the accelerator's device."""
    if size() == 1:
        return
    import torch
    from accelerate import PartialState

    join()
    device, tensors = PartialState().device, list(tensors)
    flat = torch.cat([tensor.reshape(-1).to(device, torch.float32) for tensor in tensors])
    torch.distributed.all_reduce(flat)
    for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(total.view_as(tensor))


def refuse_several(command: str) -> None:
    """For what one process does.

    :raises UserError: there are several.
    """
    if size() > 1:
        raise UserError(f"{command}: runs in one process; only `run` takes several")
