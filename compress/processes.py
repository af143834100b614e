"""Several processes at one compression, as `accelerate launch` and `torchrun` start them.

All processes go through the same stages. They share each batch of a training and of a prediction. The first process alone
measures, decides and writes. Torch and accelerate are imported only where there are several processes.
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
# How long a process waits for what the first one does alone. The default of ten minutes would end a long compression.
TIMEOUT = timedelta(days=1)


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
    """Make the process group, once, before the first message; does nothing where there is one process."""
    if size() > 1:
        import torch

        # The first optimiser imports this module. Imported after the group is made, its functions' defaults would keep
        # the group alive until the interpreter ends.
        import torch.distributed.nn.functional
        from accelerate import PartialState

        if not torch.distributed.is_initialized():
            atexit.register(_disconnect)
        # Without `cpu`, accelerate believes that a machine without a GPU runs one process.
        PartialState(cpu=not torch.cuda.is_available(), timeout=TIMEOUT)


def _disconnect() -> None:
    """End the process group and its threads before the interpreter ends.

    A thread that frees a message's tensors while the interpreter ends would abort the process.
    """
    from accelerate import PartialState

    PartialState().destroy_process_group()


def barrier() -> None:
    """Go on when every process has come here."""
    if size() > 1:
        from accelerate import PartialState

        connect()
        PartialState().wait_for_everyone()


def broadcast_result(make: Callable[[], T]) -> T:
    """Call `make` in the first process only, and return its result in all processes."""
    if size() == 1:
        return make()
    from accelerate.utils import broadcast_object_list

    connect()
    box = [make() if is_first() else None]
    broadcast_object_list(box)
    return box[0]  # type: ignore[return-value]


def broadcast(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor, in place, by that of the first process: each process draws new weights of its own."""
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
    """Replace each tensor, in place, by its sum over the processes, in one message on the accelerator's device."""
    if size() == 1:
        return
    import torch
    from accelerate import PartialState
    from accelerate.utils import reduce

    connect()
    device, tensors = PartialState().device, list(tensors)
    flat = reduce(torch.cat([tensor.reshape(-1).to(device, torch.float32) for tensor in tensors]), "sum")
    for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(total.view_as(tensor))


def require_one(command: str) -> None:
    """For a command that runs in one process.

    :raises UserError: there are several.
    """
    if size() > 1:
        raise UserError(f"{command}: runs in one process; only `run` takes several")
