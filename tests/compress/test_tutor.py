"""A tutor: the teacher learns the answers of a larger model, on its own texts and on some of the transfer set."""

from __future__ import annotations

import json
import random
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from compress.data.corpus import Split, load_corpus
from compress.data.transfer_set import load_transfer_set, save_transfer_set
from compress.pipeline.preflight import preflight
from compress.pipeline.run import compress
from compress.pipeline.workspace import Workspace
from compress.recipe import load_recipe, recipe_from
from compress.recipe.sections import TEACHER_STEPS
from compress.runtime.errors import UserError
from compress.teachers.finetune import open_encoder, open_teacher
from compress.teachers.judge import Judges
from compress.teachers.tutor import make_tutor_outputs, sample_transfer_set, tutored_texts
from compress.training.evaluation import predict_logits
from tests.tiny_task import sentences, tiny_recipe, tiny_teacher, write_tsv


def other_tokens(directory: Path) -> Path:
    """The tiny BERT with another number for each token."""
    from transformers import BertTokenizerFast

    tiny_teacher(directory)
    vocabulary = (directory / "vocab.txt").read_text(encoding="utf-8").split()
    (directory / "tokenizer.json").unlink()
    (directory / "vocab.txt").write_text(
        "\n".join([*vocabulary[:5], *reversed(vocabulary[5:])]) + "\n", encoding="utf-8"
    )
    BertTokenizerFast(str(directory / "vocab.txt")).save_pretrained(directory)
    return directory


def run(file: Path, *settings: str) -> Path:
    """The artifacts of a recipe after its teacher is made."""
    recipe = load_recipe(file, list(settings))
    root = file.parent / "artifacts" / recipe.name
    compress(recipe, Workspace(root), until="teacher")
    return root


def card(root: Path) -> dict[str, object]:
    return json.loads((root / "teacher" / "card.json").read_text(encoding="utf-8"))


def test_a_teacher_learns_what_its_tutor_knows_and_not_the_labels(tmp_path: Path) -> None:
    file = tiny_recipe(tmp_path)
    large = other_tokens(tmp_path / "large")
    root = run(
        file,
        f"tutor.model={large}",
        "tutor.epochs=9",
        "tutor.learning_rate=3e-3",
        "transfer.joined=300",
        "tutor.texts=200",
    )
    assert card(root)["tutored"] == {"texts": 400 + 200}
    assert json.loads((root / "tutor" / "card.json").read_text(encoding="utf-8"))["accuracy"]["dev"] >= 0.95
    assert card(root)["accuracy"]["dev"] >= 0.95  # type: ignore[index]
    rows = sentences(400)
    labels = [label for _, label in rows]
    random.Random(0).shuffle(labels)
    write_tsv(tmp_path / "train.tsv", [(text, label) for (text, _), label in zip(rows, labels, strict=True)])
    known = ["tutor.fine_tuned=true", f"tutor.model={root / 'tutor'}", "transfer.joined=300"]
    assert card(run(file, "name=taught", *known))["accuracy"]["dev"] >= 0.95  # type: ignore[index]
    assert card(run(file, "name=alone"))["accuracy"]["dev"] < 0.8  # type: ignore[index]


@pytest.mark.parametrize("pair", [False, True])
def test_each_text_has_the_answer_that_the_tutor_gives_to_it(tmp_path: Path, pair: bool) -> None:
    tutor, teacher = other_tokens(tmp_path / "large"), tiny_teacher(tmp_path / "small")
    texts = [text for text, _ in sentences(90)]
    seconds = texts[::-1] if pair else None
    all_texts = Split(texts, seconds, [1] * 90, None)
    own, rest, dev = (all_texts.take(rows) for rows in (range(40), range(40, 80), range(80, 90)))
    for folder in ("set", "outputs", "scratch"):
        (tmp_path / folder).mkdir()
    save_transfer_set(rest, tmp_path / "set")
    further = sample_transfer_set(tmp_path / "set", 25, seed=3)
    assert len(further) == 25
    assert further == sample_transfer_set(tmp_path / "set", 25, seed=3)
    assert further != sample_transfer_set(tmp_path / "set", 25, seed=4)
    assert len(sample_transfer_set(tmp_path / "set", 999, seed=3)) == 40
    encoder = open_encoder(tutor, 32)
    make_tutor_outputs(Judges(tutor, tmp_path / "scratch", None), encoder, own, further, dev, tmp_path / "outputs")
    assert load_transfer_set(tmp_path / "outputs").texts == further.texts
    found = tutored_texts(tmp_path / "outputs", own, open_encoder(teacher, 32))
    assert len(found) == 65
    model, _ = open_teacher(tutor, 32)
    assert found.teacher is not None
    for row in (0, 39, 40, 64):
        text, second = (
            [*own.texts, *further.texts][row],
            [*(own.texts_b or []), *(further.texts_b or [])][row] if pair else None,
        )
        assert (
            found.encoded[row].input_ids
            == open_encoder(teacher, 32).encode([text], [second] if second else None)[0].input_ids
        ).all()
        asked = tutored_texts_of(text, second, encoder)
        torch.testing.assert_close(found.teacher.logits[row], predict_logits(model, asked)[0], atol=1e-4, rtol=0)


def tutored_texts_of(text: str, second: str | None, encoder):  # type: ignore[no-untyped-def]
    from compress.data.batches import encode_split

    return encode_split(Split([text], None if second is None else [second], [0], None), encoder)


def test_without_a_transfer_set_it_labels_the_training_texts(tmp_path: Path) -> None:
    file = tiny_recipe(tmp_path, rows=60)
    with file.open("a", encoding="utf-8") as opened:
        opened.write('[tutor]\nmodel = "bert"\nepochs = 1\n')  # relative to the recipe
    root = run(file, "teacher.epochs=1")
    assert card(root)["tutored"] == {"texts": 60}


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda bert: (bert / "config.json").unlink(), r"^tutor\.model: there is no config.json in "),
        (lambda bert: (bert / "model.safetensors").write_bytes(b"broken"), r"^tutor\.model: the weights of "),
    ],
)
def test_a_tutor_that_cannot_be_used_is_refused_by_its_own_name(
    tmp_path: Path, break_it: Callable[[Path], None], message: str
) -> None:
    file = tiny_recipe(tmp_path)
    large = other_tokens(tmp_path / "large")
    break_it(large)
    recipe = load_recipe(file, [f"tutor.model={large}"])
    with pytest.raises(UserError, match=message):
        preflight(recipe, load_corpus(recipe.target))


def test_a_tutored_teacher_takes_one_pass_unless_the_recipe_says_otherwise() -> None:
    data = '[data]\nsource = "embedded"\n'
    for teacher, length in (
        ("", (1, None)),
        ("[teacher]\nsteps = 9\n", (None, 9)),
        ("[teacher]\nepochs = 2\n", (2, None)),
    ):
        options = recipe_from(
            tomllib.loads(f'name = "t"\n{data}{teacher}[tutor]\nmodel = "embedded-base"\n'), "t"
        ).teacher
        assert (options.epochs, options.steps) == length
    assert recipe_from(tomllib.loads(f'name = "t"\n{data}'), "t").teacher.steps == TEACHER_STEPS


def test_settings_of_a_tutor_that_would_have_no_effect_are_refused(tmp_path: Path) -> None:
    file = tiny_recipe(tmp_path)
    for settings, message in (
        (["tutor.texts=9"], "without it there is no tutor"),
        (["tutor.model=bert", "tutor.texts=9"], "there is no transfer set to take them from"),
        (["tutor.model=bert", "teacher.fine_tuned=true"], "learns nothing"),
        (["tutor.model=bert", "teacher.method=meta", "data.domain=label"], "meta-teacher"),
        (["tutor.model=embedded-base", "tutor.revision=x"], "revision"),
    ):
        with pytest.raises(UserError, match=message):
            load_recipe(file, settings)
