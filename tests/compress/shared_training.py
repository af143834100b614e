"""A training for one process or several: `torchrun --nproc_per_node N tests/compress/shared_training.py FOLDER`."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from compress import processes
from compress.data.batches import Batch, EncodedSplit, SoftTargets, make_loader
from compress.l2a.credit import mean_reward, text_credits
from compress.processes import heartbeat
from compress.runtime.encode import Encoded
from compress.students import BiLstmConfig, BiLstmStudent
from compress.training import loop
from compress.training.accelerator import make_accelerator
from compress.training.evaluation import predict, shared_outputs
from compress.training.loop import Schedule, fit
from compress.training.optimizer import OptimizerStep
from tests.tiny_task import KilledError, killed_at


class Choice(nn.Module):
    """A bag of words with BatchNorm and two outputs, of which each step uses one; the third is never used."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.embedding, self.norm = nn.Embedding(20, 8), nn.BatchNorm1d(8, momentum=0.5)
        self.dropout = nn.Dropout(dropout)
        self.outputs = nn.ModuleList(nn.Linear(8, 2) for _ in range(3))

    def forward(self, batch: Batch, output: int) -> torch.Tensor:
        x = self.dropout(self.embedding(batch.input_ids)) * batch.attention_mask.unsqueeze(2)
        if not self.training:
            x = self.norm(x.transpose(1, 2)).transpose(1, 2)
        else:
            self.norm(x.detach().transpose(1, 2))  # collects statistics; the gradient is not theirs
        return self.outputs[output](x.sum(dim=1))


def texts() -> EncodedSplit:
    """41 texts of 3 to 7 tokens: batches of 8, the last of 1 text."""
    generator, encoded = torch.Generator().manual_seed(0), []
    for i in range(41):
        ids = torch.randint(1, 20, (3 + i % 5,), generator=generator).numpy()
        encoded.append(Encoded(ids, ids * 0, ids * 0))
    teacher = SoftTargets(torch.randn(41, 2, generator=generator))
    return EncodedSplit(encoded, torch.arange(41) % 2, pad_token_id=0, teacher=teacher)


def train(folder: Path, dropout: float = 0.0) -> dict[str, torch.Tensor]:
    """Weights after two epochs, and the outputs for each text."""
    torch.manual_seed(processes.rank())  # the first one's weights have to become all others'
    data, model = texts(), Choice(dropout)

    def loss(batch: Batch, progress: float) -> torch.Tensor:
        return nn.functional.cross_entropy(model(batch, round(progress * 100) % 2), batch.labels)

    def outputs(model: nn.Module, batch: Batch) -> torch.Tensor:
        return model(batch, 0)

    accelerator = make_accelerator()
    step = OptimizerStep(
        make_loader(data, 8, shuffle=True, seed=1), torch.optim.AdamW(model.parameters(), lr=1e-2), loss
    )
    loader = make_loader(data, 8, shuffle=False)

    def evaluate(model: nn.Module) -> dict[str, float]:
        return {"metric": float(predict(model, loader, outputs, accelerator).mean())}

    state = fit("t", model, [step], evaluate, Schedule(2, 2, 0, keep_last=True), folder / "work")
    history = torch.tensor([epoch["metric"] for epoch in state.history])
    return dict(model.state_dict()) | {"outputs": predict(model, loader, outputs, accelerator), "history": history}


def credits() -> dict[str, torch.Tensor]:
    """What an L2A episode computes of its texts, and the outputs of a batch and of one text."""
    torch.manual_seed(0)
    student = BiLstmStudent(BiLstmConfig(width=8, hidden=8, vocab_size=20, num_labels=2)).eval()
    data = texts()
    found, score = text_credits(student, data, data.subset(range(33)), "loss")
    return {
        "credits": found,
        "score": torch.tensor([score, mean_reward(student, data, "accuracy")]),
        "batch": shared_outputs(data.batch([3, 1, 2]), lambda batch: (batch.index, batch.labels))[0],
        "text": shared_outputs(data.batch([7]), lambda batch: (batch.index, batch.labels))[0],
    }


def is_the_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def train_on_after_a_kill(folder: Path) -> None:
    """A training that is killed in its second epoch gives the weights of one that is not, random numbers included."""
    whole = train(folder / "whole", dropout=0.5)
    with patch.object(loop, "CHECKPOINT_SECONDS", 0.0 if processes.is_first() else 1e9):  # the first one's clock counts
        try:
            with patch.object(loop, "share_of", killed_at(9, loop.share_of)):
                train(folder / "killed", dropout=0.5)
        except KilledError:
            pass
    assert (folder / "killed" / "work" / "checkpoint").is_dir()
    assert is_the_same(train(folder / "killed", dropout=0.5), whole), "the killed training went on otherwise"


@contextmanager
def late() -> Iterator[None]:
    """Inside, `torch.load` is late: the first process must not replace the checkpoint before all have read it."""

    def late_load(file: Any, *arguments: Any, load: Callable[..., Any] = torch.load, **options: Any) -> Any:
        if not isinstance(file, str | Path):
            return load(file, *arguments, **options)
        before = Path(file).parent.stat().st_ino
        time.sleep(0.3)
        assert Path(file).parent.stat().st_ino == before, "the checkpoint was replaced too soon"
        return load(file, *arguments, **options)

    with patch.object(torch, "load", late_load):
        yield


def main(folder: Path) -> None:
    """All of the above; then the second process is gone though its connections stand."""
    trained = train(folder)
    if processes.is_first():
        again = train(folder)
    else:
        with late():
            again = train(folder)
    assert is_the_same(trained, again), "the checkpoint is another"
    train_on_after_a_kill(folder)
    torch.save(trained | credits(), folder / f"{processes.rank()}.pt")
    processes.barrier()
    if not processes.is_first():
        os.kill(os.getpid(), signal.SIGSTOP)
    heartbeat.BEAT_SECONDS = 0.05
    processes.barrier()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
