"""The outputs of a frozen teacher for the training texts. They are computed once and stored on disk."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from compress import processes
from compress.console import console
from compress.data.batches import Batch, EncodedSplit, SoftTargets, make_loader
from compress.data.files import write_json
from compress.data.teacher_outputs import DEV_FILE, TeacherOutputs
from compress.teachers.meta import DomainKnowledge, known_domains, logits_and_features
from compress.training.accelerator import make_accelerator
from compress.training.evaluation import (
    EVALUATION_BATCH,
    batches_with_progress,
    model_inputs,
    predict_logits,
    shared_outputs,
)

PROBE_ROWS = 20_000  # enough for a linear probe with a few hundred features


def make_teacher_outputs(
    teacher: Path,
    texts: EncodedSplit,
    directory: Path,
    *,
    probes: bool,
    weights: bool = False,
    dev: EncodedSplit | None = None,
) -> None:
    """Run the frozen teacher on the student's texts and write its `TeacherOutputs` to `directory`.

    :param teacher: directory of the finished teacher.
    :param texts: the probes are fitted on the texts with a label only.
    :param dev: the logits on these texts are written to a file of their own.
    :param probes: fit a linear softmax probe on each layer (AdaBERT §3.2.1). Its input is the mean of the layer's hidden
        states over real tokens. `probes.json` gets the probes' accuracies on the labelled texts.
    :param weights: compute a meta-teacher's expertise weight of each example. The texts must have `domains`. For an
        unlabelled text, the label is the one that the teacher predicts.
    """
    model = AutoModelForSequenceClassification.from_pretrained(teacher)
    model.to(make_accelerator().device)
    features, probed = None, None
    if probes:
        hidden_file = directory / "hidden.npy"
        logits = _hidden_states(model, texts, hidden_file)
        if processes.is_first():
            hidden = np.load(hidden_file, mmap_mode="r")
            probed = _probe_logits(hidden, texts.labels.numpy(), logits, directory)
            features = torch.from_numpy(hidden[:, -1].astype(np.float32))
            del hidden
            hidden_file.unlink()
    elif weights:
        logits, features = logits_and_features(model, texts)
    else:
        logits = predict_logits(model, texts, "teacher")
    of_dev = None if dev is None else predict_logits(model, dev)
    if not processes.is_first():
        return  # the first process has all outputs, and the hidden states
    outputs = TeacherOutputs(texts.fingerprint, SoftTargets(logits, probed))
    if weights:
        assert features is not None, "expertise weights need the features"
        outputs = replace(outputs, weights=_expertise(teacher, outputs.attach(texts), features))
    outputs.save(directory)
    if dev is not None and of_dev is not None:
        TeacherOutputs(dev.fingerprint, SoftTargets(of_dev)).save(directory, DEV_FILE)


def _expertise(teacher: Path, texts: EncodedSplit, features: Tensor) -> Tensor:
    """Expertise weights (N,) of texts that have teacher outputs, with features (N, d)."""
    assert texts.teacher is not None, "the texts have no teacher's outputs"
    knowledge = DomainKnowledge.load(teacher)
    found = knowledge.weights(texts.teacher.logits, features, texts.labels, known_domains(texts))
    console.print(f"  expertise weights: mean {found.mean():.3f}, from {found.min():.3f} to {found.max():.3f}")
    return found


def _probe_logits(hidden: NDArray[np.float16], labels: NDArray[np.int64], logits: Tensor, directory: Path) -> Tensor:
    """Logits of a probe on each layer, (N, J, C). For the last layer they are those of the teacher's own head.

    :param hidden: pooled hidden states of each layer, (N, J, d).
    :param labels: (N,).
    :param logits: of the teacher, (N, C).
    """
    known = labels >= 0
    probes = [fit_probe(hidden[:, layer], labels, logits.shape[1]) for layer in range(hidden.shape[1] - 1)]
    stacked = np.stack([*probes, logits.numpy()], axis=1).astype(np.float32)
    right = (stacked.argmax(axis=2) == labels[:, None])[known]
    accuracies = [round(float(accuracy), 4) for accuracy in right.mean(axis=0)]
    write_json(directory / "probes.json", {"train_accuracy": accuracies})
    console.print(f"  probes on layers 1-{len(accuracies)}: train accuracy {' '.join(f'{a:.3f}' for a in accuracies)}")
    return torch.from_numpy(stacked)


def fit_probe(hidden: NDArray[np.float16], labels: NDArray[np.int64], classes: int) -> NDArray[np.float32]:
    """Logits (N, C) of a softmax regression on the pooled hidden states of one layer.

    It is fitted on the texts with a label, or on a random sample of them in which each class has a text.

    :param hidden: (N, d).
    :param labels: (N,), −1 for a text without a label.
    :param classes: C, of the task; labels of some of them may be missing.
    """
    x = hidden.astype(np.float32)
    mean, std = x.mean(axis=0), x.std(axis=0) + 1e-6
    x = (x - mean) / std
    rows = _probe_rows(labels)
    probe = LogisticRegression(C=0.1, max_iter=200).fit(x[rows], labels[rows])
    scores = probe.decision_function(x)
    if scores.ndim == 1:  # two classes
        scores = np.stack([-scores / 2, scores / 2], axis=1)
    out = np.full((len(x), classes), -20.0, np.float32)  # a class without a text gets a low probability
    out[:, probe.classes_] = scores
    return out


def _probe_rows(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows to fit a probe on, in order: all with a label or, of many, a random sample with a row of each class.

    Tables are often sorted by label, so the first rows would not do.
    """
    known = np.flatnonzero(labels >= 0)
    if len(known) <= PROBE_ROWS:
        return known
    shuffled = np.random.default_rng(0).permutation(known)
    _, firsts = np.unique(labels[shuffled], return_index=True)
    others = np.delete(shuffled, firsts)
    return np.sort(np.concatenate([shuffled[firsts], others[: PROBE_ROWS - len(firsts)]]))


def _hidden_states(model: PreTrainedModel, split: EncodedSplit, file: Path) -> Tensor:
    """The logits (N, C). The mean of each layer's hidden states over real tokens, (N, J, d), is written to `file`.

    Several processes share each batch. The first one has the states of all and writes them.
    """
    accelerator = make_accelerator()
    model.eval()
    loader = make_loader(split, EVALUATION_BATCH, shuffle=False)
    logits = torch.zeros(len(split), model.config.num_labels)
    hidden: NDArray[np.float16] | None = None
    with torch.inference_mode(), accelerator.autocast():
        for batch in batches_with_progress(loader, "teacher"):
            pooled, own_logits = shared_outputs(batch, partial(_pooled_states, model, accelerator.device))
            logits[batch.index] = own_logits
            if hidden is None and processes.is_first():
                shape = (len(split), *pooled.shape[1:])
                hidden = np.lib.format.open_memmap(file, mode="w+", dtype=np.float16, shape=shape)
            if hidden is not None:
                hidden[batch.index.numpy()] = pooled.half().numpy()
    if hidden is not None:
        hidden.flush()  # type: ignore[attr-defined]
    return logits


def _pooled_states(model: PreTrainedModel, device: torch.device, batch: Batch) -> tuple[Tensor, Tensor]:
    """The mean of each layer's hidden states over real tokens, (B, J, d), and the logits (B, C)."""
    batch = batch.to(device)
    out = model(**model_inputs(model, batch), output_hidden_states=True)
    return mean_pool(torch.stack(out.hidden_states[1:], dim=1), batch.attention_mask), out.logits


def mean_pool(states: Tensor, attention_mask: Tensor) -> Tensor:
    """Mean of hidden states (B, J, L, d) over real tokens, given the mask (B, L) → (B, J, d)."""
    mask = attention_mask[:, None, :, None].to(states.dtype)
    return (states * mask).sum(dim=2) / mask.sum(dim=2)
