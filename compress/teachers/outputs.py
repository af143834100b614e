"""What a frozen teacher knows about the training texts, layer by layer, computed once and kept on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from transformers import PreTrainedModel

from compress.console import console
from compress.data.batches import Batch, EncodedSplit, make_loader
from compress.data.files import write_json
from compress.teachers.finetune import open_teacher
from compress.teachers.meta import DomainKnowledge, logits_and_features
from compress.training.evaluation import EVALUATION_BATCH, classify, model_inputs
from compress.training.loop import make_accelerator, predict

PROBE_ROWS = 20_000  # a linear probe of a few hundred features has converged long before


def make_teacher_outputs(
    teacher: Path, texts: EncodedSplit, max_length: int, directory: Path, *, probes: bool, weights: bool = False
) -> None:
    """Run the frozen teacher over the student's texts; writes `logits.npy` (N, C).

    With `probes`, also fits a linear softmax probe on each layer (AdaBERT §3.2.1) and writes `hidden.npy` (N, J, d) float16,
    the mean over real tokens of each layer's hidden states; `probes.npy` (N, J, C), the probes' logits; and `probes.json`,
    their accuracies on the labelled texts.

    With `weights`, also writes `weight.npy` (N,), a meta-teacher's expertise weight of each example; the texts have their
    `domain` then, and the label of an augmented one is the teacher's verdict.

    :param texts: texts with the label −1, augmented ones, take no part in fitting the probes.
    """
    model, _ = open_teacher(teacher, max_length)
    if probes:
        logits = _hidden_states(model, texts, directory)
        _make_probes(texts, logits, directory)
        features = np.load(directory / "hidden.npy", mmap_mode="r")[:, -1].astype(np.float32)
    elif weights:
        logits, features = (values.numpy() for values in logits_and_features(model, texts))
    else:
        accelerator = make_accelerator()
        model.to(accelerator.device)
        loader = make_loader(texts, EVALUATION_BATCH, model.config.pad_token_id or 0, shuffle=False)
        logits = predict(model, loader, classify, accelerator).numpy()
    np.save(directory / "logits.npy", logits)
    if weights:
        labels = torch.where(texts.labels < 0, torch.from_numpy(logits).argmax(dim=1), texts.labels)
        found = DomainKnowledge.load(teacher).weights(
            torch.from_numpy(logits), torch.from_numpy(features), labels, texts.targets["domain"]
        )
        np.save(directory / "weight.npy", found.numpy())
        console.print(f"  expertise weights: mean {found.mean():.3f}, from {found.min():.3f} to {found.max():.3f}")


def load_outputs(directory: Path) -> dict[str, Tensor]:
    """The teacher's outputs on each text: `logits` (N, C) and, where they were made, `probes` (N, J, C), `weight` (N,)."""
    names = [name for name in ("logits", "probes", "weight") if (directory / f"{name}.npy").exists()]
    return {name: torch.from_numpy(np.load(directory / f"{name}.npy")) for name in names}


def _make_probes(texts: EncodedSplit, logits: NDArray[np.float32], directory: Path) -> None:
    hidden = np.load(directory / "hidden.npy", mmap_mode="r")
    labels = texts.labels.numpy()
    known = labels >= 0
    probes = [fit_probe(hidden[:, layer], labels) for layer in range(hidden.shape[1] - 1)]
    stacked = np.stack([*probes, logits], axis=1).astype(np.float32)  # the last layer's probe is the teacher's own head
    np.save(directory / "probes.npy", stacked)
    right = (stacked.argmax(axis=2) == labels[:, None])[known]
    accuracies = [round(float(accuracy), 4) for accuracy in right.mean(axis=0)]
    write_json(directory / "probes.json", {"train_accuracy": accuracies})
    console.print(f"  probes on layers 1-{len(accuracies)}: train accuracy {' '.join(f'{a:.3f}' for a in accuracies)}")


def fit_probe(hidden: NDArray[np.float16], labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Logits (N, C) of a softmax regression from one layer's pooled states (N, d), fitted where the label is not −1."""
    x = hidden.astype(np.float32)
    mean, std = x.mean(axis=0), x.std(axis=0) + 1e-6
    x = (x - mean) / std
    classes = int(labels.max()) + 1
    rows = np.flatnonzero(labels >= 0)[:PROBE_ROWS]
    probe = LogisticRegression(C=0.1, max_iter=200).fit(x[rows], labels[rows])
    scores = probe.decision_function(x)
    if classes == 2:
        scores = np.stack([-scores / 2, scores / 2], axis=1)
    out = np.full((len(x), classes), -20.0, np.float32)  # a class that the probe's rows never had stays improbable
    out[:, probe.classes_] = scores
    return out


def _hidden_states(model: PreTrainedModel, split: EncodedSplit, directory: Path) -> NDArray[np.float32]:
    """Write `hidden.npy`, straight to disk, and return the logits (N, C)."""
    config = model.config
    accelerator = make_accelerator()
    model.to(accelerator.device).eval()
    loader = make_loader(split, 64, config.pad_token_id or 0, shuffle=False)
    logits = np.zeros((len(split), config.num_labels), np.float32)
    hidden: NDArray[np.float16] | None = None
    with torch.inference_mode(), accelerator.autocast():
        for batch in loader:
            batch = {name: tensor.to(accelerator.device) for name, tensor in batch.items()}
            rows = batch["index"].cpu().numpy()
            out = model(**model_inputs(model, batch), output_hidden_states=True)
            pooled = mean_pool(torch.stack(out.hidden_states[1:], dim=1), batch)
            if hidden is None:
                shape = (len(split), *pooled.shape[1:])
                hidden = np.lib.format.open_memmap(directory / "hidden.npy", mode="w+", dtype=np.float16, shape=shape)
            hidden[rows] = pooled.half().cpu().numpy()
            logits[rows] = out.logits.float().cpu().numpy()
    assert hidden is not None
    hidden.flush()  # type: ignore[attr-defined]
    return logits


def mean_pool(states: Tensor, batch: Batch) -> Tensor:
    """Mean over real tokens: (B, J, L, d) → (B, J, d)."""
    mask = batch["attention_mask"][:, None, :, None].to(states.dtype)
    return (states * mask).sum(dim=2) / mask.sum(dim=2)
