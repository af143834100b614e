"""Starts a command in several processes on this machine: `--processes`. PyTorch's agent starts, watches and stops them."""

from __future__ import annotations

import logging
import os
import signal
import sys
import uuid
from collections.abc import Sequence

from compress import processes
from compress.runtime.cpus import own_cpus
from compress.runtime.errors import UserError

AGAIN = "run the same command again, which carries on"


def launch(count: int, arguments: Sequence[str]) -> int:
    """Run `python ARGUMENTS` in `count` processes, and wait for all of them. If one ends with an error, the others are stopped.

    Without a GPU they share the CPUs that this process may use, unless `OMP_NUM_THREADS` says how many threads each has.

    :returns: the exit status. A process that failed has said why.
    :raises UserError: there are too few GPUs, or a process was killed or the command stopped.
    """
    if processes.size() > 1:
        raise UserError("--processes: a launcher has started several processes already; leave the option out")
    import torch
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if torch.cuda.is_available() and count > torch.cuda.device_count():
        raise UserError(
            f"--processes {count}: each takes a GPU, and there are {torch.cuda.device_count()}; CUDA_VISIBLE_DEVICES= keeps to the CPU"
        )
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, min(torch.get_num_threads(), own_cpus()) // count)))
    os.environ[processes.LAUNCHED] = str(count)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # no stacks of broken connections
    logging.disable(logging.CRITICAL)  # the agent's own reports of a failure, with its stack
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",  # any free port
        local_addr="localhost",
        max_restarts=0,
    )
    try:
        elastic_launch(config, sys.executable)(*arguments)
    except ChildFailedError as error:
        failures = sorted(error.failures.items())
        for number, failure in failures:
            if failure.exitcode < 0 and failure.exitcode != -signal.SIGTERM:
                raise UserError(f"process {number} of {count} {_death(-failure.exitcode)}; {AGAIN}") from None
        return max(failure.exitcode for _, failure in failures) or 1
    except SignalException as stop:
        if stop.sigval == signal.SIGINT:
            return 130  # a process has said so
        raise UserError(f"stopped by {stop.sigval.name}; {AGAIN}") from None
    return 0


def _death(number: int) -> str:
    """How a signal has ended a process."""
    name = signal.Signals(number).name
    return f"was killed ({name}{', as the system does when memory runs out' if number == signal.SIGKILL else ''})"
