"""A training for one process or several: `torchrun --nproc_per_node N tests/compress/shared_training.py FOLDER`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compress import processes
from compress.data.batches import Batch, EncodedSplit, make_loader
from compress.runtime.encode import Encoded
from compress.training.accelerator import make_accelerator
from compress.training.evaluation import predict
from compress.training.loop import Schedule, fit
from compress.training.optimizer import OptimizerStep


class Choice(nn.Module):
    """A bag of words with BatchNorm and two outputs, of which each step uses one; the third is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.norm = nn.Embedding(20, 8), nn.BatchNorm1d(8, momentum=0.5)
        self.outputs = nn.ModuleList(nn.Linear(8, 2) for _ in range(3))

    def forward(self, batch: Batch, output: int) -> torch.Tensor:
        x = self.embedding(batch.input_ids) * batch.attention_mask.unsqueeze(2)
        if not self.training:
            x = self.norm(x.transpose(1, 2)).transpose(1, 2)
        else:
            self.norm(x.detach().transpose(1, 2))  # collects statistics; the gradient is not theirs
        return self.outputs[output](x.sum(dim=1))


def train(folder: Path) -> dict[str, torch.Tensor]:
    """Weights after two epochs, and the outputs for each text; batches of 8, the last of 1 text."""
    torch.manual_seed(processes.rank())  # the first one's weights have to become all others'
    generator, encoded = torch.Generator().manual_seed(0), []
    for i in range(41):
        ids = torch.randint(1, 20, (3 + i % 5,), generator=generator).numpy()
        encoded.append(Encoded(ids, ids * 0, ids * 0))
    data, model = EncodedSplit(encoded, torch.arange(41) % 2, pad_token_id=0), Choice()

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


def late_load(file: Path, *arguments: Any, load: Callable[..., Any] = torch.load, **options: Any) -> Any:
    """`torch.load` by a process that is late: the first must not replace the checkpoint before all have read it."""
    before = Path(file).parent.stat().st_ino
    time.sleep(0.3)
    assert Path(file).parent.stat().st_ino == before, "the checkpoint was replaced too soon"
    return load(file, *arguments, **options)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    trained = train(folder)
    if not processes.is_first():
        torch.load = late_load
    assert all(torch.equal(value, trained[name]) for name, value in train(folder).items()), "the checkpoint is another"
    torch.save(trained, folder / f"{processes.rank()}.pt")
