"""The command lines in processes of their own that need not import torch and transformers again: that takes most of a short command.

Each process is a fork of one that has imported the libraries and done nothing else (`multiprocessing`'s fork server).
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

LIBRARIES = [
    *("torch", "accelerate", "sklearn.linear_model", "transformers.models.auto.modeling_auto"),
    *("transformers.models.bert.modeling_bert", "compress.pipeline.run", "compress.pipeline.per_domain"),
    *("compress.students", "export.judge", "export.measure", "export.trial", "export.build"),
]
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(LIBRARIES)
_OFFLINE = {"HF_HUB_OFFLINE": "1"}  # an unknown model of the hub is one at once, without a minute of retries


def start(module: str, arguments: list[str], output: Path) -> BaseProcess:
    """Start `python -m MODULE ARGUMENTS` in this process's directory with its variables, offline, its output in two files.

    :param output: of stdout, with the suffix `.out`, and of stderr, with `.err`.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _OFFLINE.items():
            patch.setenv(name, value)
        forkserver.ensure_running()  # the libraries read some variables when they are imported
        process = _CONTEXT.Process(target=_run, args=(module, arguments, (dict(os.environ), os.getcwd()), output))
        process.start()
    return process


def run(module: str, *arguments: str, output: Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; parameters as of `start`."""
    process = start(module, list(arguments), output)
    process.join()
    said = (output.with_suffix(suffix).read_text(encoding="utf-8") for suffix in (".out", ".err"))
    return subprocess.CompletedProcess([module, *arguments], process.exitcode or 0, *said)


def _run(module: str, arguments: list[str], place: tuple[dict[str, str], str], output: Path) -> None:
    environment, directory = place
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    for number, suffix in ((1, ".out"), (2, ".err")):
        os.dup2(os.open(output.with_suffix(suffix), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
