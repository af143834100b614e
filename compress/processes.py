"""Several processes that make one student together, as `accelerate launch` and `torchrun` start them.

All processes run the same stages. They share each batch of a training and of a prediction. Only the first process
measures, decides and writes. Torch and accelerate are imported only if there are several processes.
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
# How long a process waits for work that only the first one does. PyTorch's default, ten minutes, is too short for a stage.
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
    """Make the process group if there are several processes and it does not exist yet."""
    if size() > 1:
        import torch

        # The first optimiser imports this module. If that happens after the group is made, the default arguments of its
        # functions keep the group alive until the interpreter ends.
        import torch.distributed.nn.functional
        from accelerate import PartialState

        if not torch.distributed.is_initialized():
            atexit.register(_disconnect)
        # Without `cpu`, accelerate assumes one process on a machine without a GPU.
        PartialState(cpu=not torch.cuda.is_available(), timeout=TIMEOUT)


def _disconnect() -> None:
    """End the process group and its threads before the interpreter ends.

    A thread of the group that frees tensors while the interpreter ends would abort the process.
    """
    from accelerate import PartialState

    PartialState().destroy_process_group()


def barrier() -> None:
    """Wait until every process has called this function."""
    if size() > 1:
        from accelerate import PartialState

        connect()
        PartialState().wait_for_everyone()


def broadcast_result(make: Callable[[], T]) -> T:
    """The result of `make`, called in the first process only and sent to all processes."""
    if size() == 1:
        return make()
    from accelerate.utils import broadcast_object_list

    connect()
    box = [make() if is_first() else None]
    broadcast_object_list(box)
    return box[0]  # type: ignore[return-value]


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
    """Replace each tensor, in place, by its sum over the processes.

    The tensors are sent as one message. The sum is computed on the accelerator's device.
    """
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
    """Check that a command runs in one process.

    :raises UserError: there are several processes.
    """
    if size() > 1:
        raise UserError(f"{command}: runs in one process; only `run` takes several")
