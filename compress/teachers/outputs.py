"""What a frozen teacher says of the training texts, layer by layer; computed once and kept on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from compress.console import console
from compress.data.batches import EncodedSplit, SoftTargets, make_loader
from compress.data.files import write_json
from compress.data.teacher_outputs import TeacherOutputs
from compress.teachers.meta import DomainKnowledge, known_domains, logits_and_features
from compress.training.accelerator import make_accelerator
from compress.training.evaluation import EVALUATION_BATCH, model_inputs, predict_logits

PROBE_ROWS = 20_000  # a linear probe of a few hundred features has converged long before


def make_teacher_outputs(
    teacher: Path, texts: EncodedSplit, directory: Path, *, probes: bool, weights: bool = False
) -> None:
    """Ask the frozen teacher about the student's texts; writes its `TeacherOutputs` to `directory`.

    With `probes`, a linear softmax probe is fitted on each layer (AdaBERT §3.2.1). It reads the mean over real tokens of the
    layer's hidden states. `probes.json` has the probes' accuracies on the labelled texts.

    With `weights`, each example gets a meta-teacher's expertise weight. The texts then have `domains`, and the label of an
    unlabelled text is the one that the teacher gives it.

    :param teacher: directory of the finished teacher.
    :param texts: those without a label take no part in fitting the probes.
    """
    model = AutoModelForSequenceClassification.from_pretrained(teacher)
    model.to(make_accelerator().device)
    features, probed = None, None
    if probes:
        hidden_file = directory / "hidden.npy"
        logits = _hidden_states(model, texts, hidden_file)
        hidden = np.load(hidden_file, mmap_mode="r")
        probed = _probe_logits(hidden, texts.labels.numpy(), logits, directory)
        features = torch.from_numpy(hidden[:, -1].astype(np.float32))
        del hidden
        hidden_file.unlink()
    elif weights:
        logits, features = logits_and_features(model, texts)
    else:
        logits = predict_logits(model, texts)
    outputs = TeacherOutputs(texts.fingerprint, SoftTargets(logits, probed))
    if weights:
        assert features is not None, "the features come with the logits"
        outputs = replace(outputs, weights=_expertise(teacher, outputs.attach(texts), features))
    outputs.save(directory)


def _expertise(teacher: Path, texts: EncodedSplit, features: Tensor) -> Tensor:
    """Expertise weights (N,) of texts with the teacher's logits and features (N, d)."""
    assert texts.teacher is not None, "the outputs were attached"
    knowledge = DomainKnowledge.load(teacher)
    found = knowledge.weights(texts.teacher.logits, features, texts.labels, known_domains(texts))
    console.print(f"  expertise weights: mean {found.mean():.3f}, from {found.min():.3f} to {found.max():.3f}")
    return found


def _probe_logits(hidden: NDArray[np.float16], labels: NDArray[np.int64], logits: Tensor, directory: Path) -> Tensor:
    """Logits (N, J, C) of a probe on each layer's states (N, J, d); the last layer's probe is the teacher's own head."""
    known = labels >= 0
    probes = [fit_probe(hidden[:, layer], labels) for layer in range(hidden.shape[1] - 1)]
    stacked = np.stack([*probes, logits.numpy()], axis=1).astype(np.float32)
    right = (stacked.argmax(axis=2) == labels[:, None])[known]
    accuracies = [round(float(accuracy), 4) for accuracy in right.mean(axis=0)]
    write_json(directory / "probes.json", {"train_accuracy": accuracies})
    console.print(f"  probes on layers 1-{len(accuracies)}: train accuracy {' '.join(f'{a:.3f}' for a in accuracies)}")
    return torch.from_numpy(stacked)


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


def _hidden_states(model: PreTrainedModel, split: EncodedSplit, file: Path) -> Tensor:
    """The logits (N, C); the mean over real tokens of each layer's hidden states, (N, J, d), goes straight to disk."""
    accelerator = make_accelerator()
    model.eval()
    loader = make_loader(split, EVALUATION_BATCH, shuffle=False)
    logits = torch.zeros(len(split), model.config.num_labels)
    hidden: NDArray[np.float16] | None = None
    with torch.inference_mode(), accelerator.autocast():
        for batch in loader:
            batch = batch.to(accelerator.device)
            out = model(**model_inputs(model, batch), output_hidden_states=True)
            pooled = mean_pool(torch.stack(out.hidden_states[1:], dim=1), batch.attention_mask)
            if hidden is None:
                shape = (len(split), *pooled.shape[1:])
                hidden = np.lib.format.open_memmap(file, mode="w+", dtype=np.float16, shape=shape)
            rows = batch.index.cpu()
            hidden[rows.numpy()] = pooled.half().cpu().numpy()
            logits[rows] = out.logits.float().cpu()
    assert hidden is not None, "an empty split reaches no training"
    hidden.flush()  # type: ignore[attr-defined]
    return logits


def mean_pool(states: Tensor, attention_mask: Tensor) -> Tensor:
    """Mean over real tokens: hidden states (B, J, L, d) and mask (B, L) → (B, J, d)."""
    mask = attention_mask[:, None, :, None].to(states.dtype)
    return (states * mask).sum(dim=2) / mask.sum(dim=2)
