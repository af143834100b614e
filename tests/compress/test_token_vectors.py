"""A student's first word embeddings: what the teacher makes of each token alone, in as many dimensions as the student has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from compress.data.batches import EncodedSplit
from compress.pipeline.run import compress
from compress.pipeline.workspace import Workspace
from compress.recipe import load_recipe
from compress.runtime.encode import Encoded
from compress.students import embeddings
from compress.students.embeddings import principal_components, project_embeddings
from compress.teachers.finetune import open_teacher
from compress.teachers.token_vectors import token_vectors
from tests.tiny_task import tiny_recipe, tiny_teacher


def texts(*rows: list[int]) -> EncodedSplit:
    ids = [np.array(row) for row in rows]
    return EncodedSplit([Encoded(i, i * 0, i * 0) for i in ids], torch.zeros(len(rows), dtype=torch.long), 0)


def test_each_token_is_a_text_of_its_own(tmp_path: Path) -> None:
    model, encoder = open_teacher(tiny_teacher(tmp_path), 16)
    vectors = token_vectors(model, encoder, texts([1])).float()
    width, rows = model.config.hidden_size, model.config.vocab_size
    assert vectors.shape == (rows, 3 * width)
    assert vectors.mean(dim=0).abs().max() < 1e-3
    assert (vectors.std(dim=0) - 1).abs().max() < 1e-2
    token = encoder.tokenizer.token_to_id("good")
    ids = torch.from_numpy(encoder.encode(["good"])[0].input_ids)[None]
    assert ids.tolist() == [[encoder.tokenizer.token_to_id("[CLS]"), token, encoder.tokenizer.token_to_id("[SEP]")]]
    everything = torch.arange(rows)[:, None]
    around = ids.repeat(rows, 1)
    around[:, 1:2] = everything
    with torch.inference_mode():
        states = model(input_ids=around, output_hidden_states=True).hidden_states
    last = states[model.config.num_hidden_layers][:, 1]
    wanted = ((last - last.mean(dim=0)) / last.std(dim=0))[token]
    assert torch.allclose(vectors[token, 2 * width :], wanted, atol=2e-2)


def test_components_are_those_of_the_weighted_covariance_in_blocks_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    table = torch.randn(50, 6) * torch.tensor([3.0, 2.0, 1.0, 0.5, 0.2, 0.1])
    train = texts([1, 2, 3, 3], [4, 3, 49])
    counts = np.ones(50) + np.bincount([1, 2, 3, 3, 4, 3, 49], minlength=50)
    covariance = np.cov(table.double().numpy().T, aweights=counts, ddof=0)
    whole = principal_components(table, train, 3)
    spread = np.average(
        (whole.numpy() - np.average(whole.numpy(), axis=0, weights=counts)) ** 2, axis=0, weights=counts
    )
    assert np.allclose(spread, np.linalg.eigvalsh(covariance)[::-1][:3])
    monkeypatch.setattr(embeddings, "BLOCK", 7)
    assert torch.allclose(principal_components(table, train, 3).abs(), whole.abs())
    wide = project_embeddings(table, train, 8)
    assert wide.shape == (50, 8)
    assert not wide[:, 6:].any()


def test_a_student_starts_from_them(tmp_path: Path) -> None:
    settings = ["search.trials=0", "search.epochs=1", "compress.average=0"]
    settings += ["compress.epochs=1", "compress.learning_rate=1e-9"]
    workspace = Workspace(tmp_path / "artifacts" / "tiny")
    compress(load_recipe(tiny_recipe(tmp_path), settings), workspace)
    student, encoder = open_teacher(workspace.root / "student", 16)
    teacher, _ = open_teacher(workspace.root / "teacher", 16)
    table = student.embeddings.table.weight.detach()
    words = teacher.get_input_embeddings().weight.detach()
    # A projection keeps the angles, but for what it leaves out.
    angles = [
        F.cosine_similarity(v[:, None].float(), v.float(), dim=2).flatten().numpy()
        for v in (table, token_vectors(teacher, encoder, texts([1])), words)
    ]
    _, like_vectors, like_words = np.corrcoef(angles)[0]
    assert like_vectors > max(like_words, 0.6)


def test_of_a_large_vocabulary_only_the_tokens_of_the_texts_are_asked_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, encoder = open_teacher(tiny_teacher(tmp_path), 16)
    width = model.config.hidden_size
    everything = token_vectors(model, encoder, texts([1])).float()
    monkeypatch.setattr("compress.teachers.token_vectors.MOST_TOKENS", 10)
    some = token_vectors(model, encoder, texts([5, 9, 9], [12])).float()
    assert torch.equal(some[:, :width], everything[:, :width])
    states = some[:, width:]
    assert states.abs().sum(dim=1).nonzero().flatten().tolist() == [5, 9, 12]
    # Of the same three texts, standardised among themselves.
    wanted = everything[[5, 9, 12], width:]
    wanted = (wanted - wanted.mean(dim=0)) / wanted.std(dim=0)
    assert torch.allclose(states[[5, 9, 12]], wanted, atol=5e-2)
