import re
from pathlib import Path

import pytest
import torch

from compress import processes
from compress.processes.launch import launch
from compress.runtime.errors import UserError
from tests.compress.shared_training import credits, train
from tests.tiny_task import launched, tiny_recipe


def test_two_processes_train_as_one_does_until_one_is_gone(tmp_path: Path) -> None:
    said = launched("tests/compress/shared_training.py", str(tmp_path))
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, said
    assert re.fullmatch(
        r"error: process 1 of 2 \(.+\) answers no more; run the same command again, which carries on", lines[0]
    )
    alone = train(tmp_path / "alone") | credits()
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
        if name not in (
            "norm.running_var",
            "norm.running_mean",
            "outputs",
            "history",
        ):  # a share has statistics of its own
            torch.testing.assert_close(value, alone[name], rtol=1e-4, atol=1e-5)
    assert torch.equal(first["outputs.2.weight"], alone["outputs.2.weight"])  # what nobody used has not moved
    torch.testing.assert_close(first["norm.running_mean"], alone["norm.running_mean"], rtol=0.2, atol=0.2)
    assert first["outputs"].abs().min() > 0  # every text has its output


def test_a_fault_of_one_process_alone_ends_the_run_with_one_line(tmp_path: Path) -> None:
    said = launched("tests/compress/one_process_fails.py", str(tiny_recipe(tmp_path)))
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert lines == [
        "error: checkpoint.pt: the disk is full; make room and run the same command again, which carries on"
    ], said


def test_a_process_alone_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "8")  # a scheduler's, not a launcher's: nobody has a rank
    values = [torch.ones(2)]
    processes.all_reduce(values)
    processes.barrier()
    assert processes.gather(4) == [4]
    assert processes.is_first_to_fail()
    assert processes.size() == 1
    assert processes.broadcast_result(lambda: 3) == 3
    assert values[0].tolist() == [1.0, 1.0]
    processes.require_one("front")


def test_commands_of_one_process_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="front: runs in one process"):
        processes.require_one("front")
    with pytest.raises(UserError, match="leave the option out"):
        launch(2, ["-m", "compress"])
