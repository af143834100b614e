"""A teacher's classification head: what it takes of the encoder, and that it is fitted on the frozen encoder first."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel

from compress.data.batches import EncodedSplit
from compress.data.corpus import load_corpus
from compress.distil.forward_recorder import ForwardRecorder
from compress.heads import MEAN_CLASSIFIERS, MeanPooling
from compress.l2a.policy import state_size
from compress.pipeline.run import compress
from compress.pipeline.workspace import Workspace
from compress.recipe import Recipe, load_recipe
from compress.recipe.load import recipe_from
from compress.runtime.encode import Encoded
from compress.runtime.errors import UserError
from compress.teachers.finetune import load_classifier, make_teacher
from compress.teachers.frozen import fit_heads
from compress.training.evaluation import accuracy, predict_logits
from compress.training.output_layer import output_layer
from export.onnx import export_onnx
from tests.compress.checking import check
from tests.tiny_task import tiny_recipe, tiny_teacher

IDS, MASK = torch.tensor([[3, 9, 7, 8, 5, 6], [3, 4, 8, 0, 0, 0]]), torch.tensor([[1] * 6, [1] * 3 + [0] * 3])
SMALL = {"vocab_size": 60, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
PAIR = {"labels": ["a", "b", "c"]}


def encoder(family: str, directory: Path) -> Path:
    """A checkpoint of the family with transformers' own head, in `directory`."""
    config = CONFIG_MAPPING[family](max_position_embeddings=40, pad_token_id=0)
    for name, value in SMALL.items():
        setattr(config, name, value)
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(directory)
    return directory


def mean_classifier(directory: Path) -> PreTrainedModel:
    recipe = recipe_from({"name": "t", "teacher": {"model": str(directory)}}, "test")
    return load_classifier(recipe, PAIR["labels"], "mean")[0].eval()


@pytest.mark.parametrize("family", MEAN_CLASSIFIERS)
def test_the_head_takes_the_mean_of_real_tokens(family: str, tmp_path: Path) -> None:
    """It has the weights of any checkpoint of the family's encoder, and everything that distillation reads of a teacher."""
    base = AutoModelForSequenceClassification.from_pretrained(encoder(family, tmp_path / "base")).eval()
    model = mean_classifier(tmp_path / "base")
    with torch.inference_mode():
        out = model(IDS, MASK, output_hidden_states=True)
        last = base(IDS, MASK, output_hidden_states=True).hidden_states[-1]
        expected = model.classifier(torch.stack([last[0].mean(dim=0), last[1, :3].mean(dim=0)]))
    torch.testing.assert_close(out.logits, expected)
    assert len(out.hidden_states) == 3
    assert model.config.id2label == {0: "a", 1: "b", 2: "c"}
    encoded = [
        Encoded(row[mask == 1].numpy(), *(np.zeros(int(mask.sum()), np.int64),) * 2)
        for row, mask in zip(IDS, MASK, strict=True)
    ]
    batch = EncodedSplit(encoded, torch.tensor([0, 1]), 0).batch([0, 1])
    with ForwardRecorder(model, attention=True) as recorder, torch.inference_mode():
        recorded = recorder(batch)
    torch.testing.assert_close(recorded.logits, out.logits)
    assert recorded.attention_scores(1).shape == (2, 2, 6, 6)


def test_transformers_alone_opens_the_checkpoint(tmp_path: Path) -> None:
    """In a process that has not imported this project, once its code is trusted."""
    model = mean_classifier(tiny_teacher(tmp_path / "bert"))
    model.save_pretrained(tmp_path / "mean")
    reopened = AutoModelForSequenceClassification.from_pretrained(tmp_path / "mean").eval()
    assert isinstance(reopened, MeanPooling)
    with torch.inference_mode():
        expected = model(IDS, MASK).logits
        assert torch.equal(reopened(IDS, MASK).logits, expected)
    program = (
        "import sys, torch\nfrom transformers import AutoModelForSequenceClassification as Auto\n"
        "model = Auto.from_pretrained('mean', trust_remote_code=True).eval()\n"
        f"print(model(torch.tensor({IDS.tolist()}), torch.tensor({MASK.tolist()})).logits.tolist())\n"
        "assert 'compress' not in sys.modules\n"
    )
    environment = {"PATH": "", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    torch.testing.assert_close(torch.tensor(json.loads(run.stdout)), expected)


def random_texts(count: int, classes: list[int]) -> EncodedSplit:
    """Texts of six tokens, whose first token tells the class."""
    generator = torch.Generator().manual_seed(count)
    ids = torch.randint(10, 60, (count, 6), generator=generator).numpy()
    labels = torch.tensor([classes[i % len(classes)] for i in range(count)])
    ids[:, 1:5] = labels[:, None].numpy() + 5
    return EncodedSplit([Encoded(row, row * 0, row * 0) for row in ids], labels, 0)


@pytest.mark.parametrize("classes", [[0, 1], [0, 1, 2], [0, 2]])
def test_a_fitted_head_is_worth_in_the_model_what_it_was_measured(classes: list[int], tmp_path: Path) -> None:
    """Its scaling is inside its weights. With [0, 2] no text has the second of three classes, which is then never predicted."""
    count = max(classes) + 1
    recipe = recipe_from({"name": "t", "teacher": {"model": str(encoder("bert", tmp_path))}}, "test")
    labels = PAIR["labels"][:count]
    own, _ = load_classifier(recipe, labels)
    before = {name: value.clone() for name, value in own.state_dict().items()}
    heads = fit_heads(own, random_texts(90, classes), {"dev": random_texts(60, classes)}, seed=0)
    assert all(torch.equal(value, before[name]) for name, value in own.state_dict().items())
    for name, head in heads.items():
        model = own if name == "cls" else load_classifier(recipe, labels, "mean")[0]
        head.write_to(model)
        dev = random_texts(60, classes)
        assert accuracy(model, dev) == pytest.approx(head.accuracy["dev"])
        assert (
            name == "cls" or head.accuracy["dev"] > 0.9
        )  # random layers before the last one lose what tells the classes apart
        assert head.texts == 90
        assert set(predict_logits(model, dev).argmax(dim=1).tolist()) <= set(classes)


def test_the_last_layer_is_found_where_transformers_has_it(tmp_path: Path) -> None:
    for family, path in {"bert": "classifier", "roberta": "classifier.out_proj", "distilbert": "classifier"}.items():
        model = AutoModelForSequenceClassification.from_pretrained(encoder(family, tmp_path / family))
        assert output_layer(model, "a test") is model.get_submodule(path)


def test_a_head_that_cannot_be_fitted_is_refused(tmp_path: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(encoder("bert", tmp_path))
    model.classifier.register_parameter("bias", None)
    with pytest.raises(
        UserError, match=r"teacher\.model: a fitted head has a bias, and the linear layer for the logits of"
    ):
        fit_heads(model, random_texts(9, [0, 1]), {"dev": random_texts(9, [0, 1])}, seed=0)
    model.classifier = torch.nn.Identity()
    with pytest.raises(UserError, match=r"teacher\.model: a fitted head needs a linear layer for the logits, and Bert"):
        fit_heads(model, random_texts(9, [0, 1]), {"dev": random_texts(9, [0, 1])}, seed=0)
    with pytest.raises(UserError, match=r"augmentation\.method: l2a needs a linear layer for the logits, and Bert"):
        state_size(model)


def made(recipe: Recipe, directory: Path) -> tuple[dict, PreTrainedModel]:
    """The card of the recipe's teacher, and the teacher."""
    directory.mkdir()
    make_teacher(recipe, load_corpus(recipe.target), directory, directory / "scratch")
    card = json.loads((directory / "card.json").read_text(encoding="utf-8"))
    return card, AutoModelForSequenceClassification.from_pretrained(directory)


def test_a_teacher_that_training_spoils_keeps_its_fitted_head(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tiny_recipe(tmp_path, rows=200)
    recipe = load_recipe(path, ["teacher.head_first=true", "teacher.epochs=1", "teacher.learning_rate=0.5"])
    card, model = made(recipe, tmp_path / "spoilt")
    assert "has not bettered the fitted head" in " ".join(capsys.readouterr().err.split())
    assert card["history"][-1]["metric"] < card["frozen"]["accuracy"]["dev"] == card["accuracy"]["dev"]
    untrained = AutoModelForSequenceClassification.from_pretrained(tmp_path / "bert").bert.state_dict()
    assert all(torch.equal(value, untrained[name]) for name, value in model.bert.state_dict().items())
    card, _ = made(load_recipe(path, ["teacher.head_first=true"]), tmp_path / "trained")
    best = max(evaluation["metric"] for evaluation in card["history"])
    assert card["accuracy"]["dev"] == pytest.approx(best, abs=1e-4)
    assert best > card["frozen"]["accuracy"]["dev"]


def test_the_recipe_says_what_the_head_takes(tmp_path: Path) -> None:
    path = tiny_recipe(tmp_path, rows=60)
    for representation, expected in {"mean": True, "cls": False}.items():
        settings = [f"teacher.representation={representation}", "teacher.epochs=1"]
        card, model = made(load_recipe(path, settings), tmp_path / representation)
        assert isinstance(model, MeanPooling) is expected
        assert set(card["frozen"]) == {"representation", "accuracy", "texts"}
        assert set(card["frozen"]["accuracy"]) == {"dev"}  # the task has no test
    # Another run may take the first teacher with what was said of it.
    again = load_recipe(path, [f"teacher.model={tmp_path / 'mean'}", "teacher.representation=mean"])
    check(again)


def test_a_length_in_steps_counts_batches_not_passes(tmp_path: Path) -> None:
    """Evaluated five times, whatever the number of texts."""
    path = tiny_recipe(tmp_path, rows=40)
    path.write_text(
        path.read_text(encoding="utf-8").replace("epochs = 9", "steps = 20\npatience = 9", 1), encoding="utf-8"
    )
    card, _ = made(load_recipe(path), tmp_path / "teacher")
    assert len(card["history"]) == 5


def test_settings_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    def teacher(**settings: object) -> Recipe:
        return recipe_from({"name": "t", "teacher": settings}, "test")

    assert (teacher().teacher.epochs, teacher(epochs=2).teacher.steps) == (None, None)
    assert teacher().teacher.steps
    with pytest.raises(UserError, match="set epochs or steps, not both"):
        teacher(epochs=2, steps=100)
    with pytest.raises(UserError, match="a fine-tuned model keeps its own head"):
        teacher(fine_tuned=True, representation="mean")


def test_a_family_without_a_mean_head_is_said(tmp_path: Path) -> None:
    config = CONFIG_MAPPING["albert"](embedding_size=8, max_position_embeddings=64, **SMALL | {"vocab_size": 175})
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "albert")
    path = tiny_recipe(tmp_path, rows=60)
    AutoTokenizer.from_pretrained(tmp_path / "bert").save_pretrained(tmp_path / "albert")
    settings = [f"teacher.model={tmp_path / 'albert'}", "teacher.epochs=1", "teacher.representation=mean"]
    recipe = load_recipe(path, settings)
    with pytest.raises(UserError, match="no head on the mean of the states for albert models, only for bert, roberta"):
        made(recipe, tmp_path / "teacher")


def test_a_student_with_copied_layers_has_its_teachers_head(tmp_path: Path) -> None:
    settings = [
        "teacher.epochs=1",
        "teacher.representation=mean",
        "teacher.head_first=true",
        "compress.preset=tinybert",
    ]
    path = tiny_recipe(tmp_path, rows=80)
    text = path.read_text(encoding="utf-8")
    start, end = text.index("[student]"), text.index("[compress]")
    path.write_text(
        text[:start] + "[student]\nlayers = 1\n[augmentation]\nmethod = 'none'\n" + text[end:], encoding="utf-8"
    )
    recipe = load_recipe(path, [*settings, "compress.epochs=1", "objective.intermediate_epochs=1"])
    student = compress(recipe, Workspace(tmp_path / "artifacts"))
    assert isinstance(AutoModelForSequenceClassification.from_pretrained(student), MeanPooling)
    export_onnx(student, tmp_path / "student.onnx", pair=False, max_length=32)  # raises where the two differ
