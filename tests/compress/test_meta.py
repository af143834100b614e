"""Meta-KD in miniature: real trainings of seconds over three domains."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from transformers import AutoModelForSequenceClassification

from compress.data.batches import encode_split
from compress.data.corpus import load_corpus
from compress.data.teacher_outputs import TeacherOutputs
from compress.data.transfer_set import load_transfer_set
from compress.objectives.expertise import mean_state, prototype_scores
from compress.pipeline.run import compress
from compress.pipeline.stages import stage_keys
from compress.pipeline.workspace import Workspace
from compress.recipe import Recipe, load_recipe
from compress.runtime.encode import TextEncoder
from compress.runtime.errors import UserError
from compress.teachers import finetune
from compress.teachers.finetune import make_teacher, open_teacher
from compress.teachers.meta import DomainKnowledge, MetaLearner, logits_and_features, meta_loss
from compress.teachers.plots import project
from tests.compress.test_objectives import batch, bert
from tests.tiny_task import DOMAIN_RECIPE, KilledError, domain_sentences, killed_at, tiny_teacher, write_tsv

SMALL = ["student.layers=2", "compress.batch_size=16", "compress.learning_rate=1e-3", "compress.epochs=2"]
# An encoder that starts from nothing learns little where it is told to forget as much.
METAKD = ["compress.preset=metakd", "objective.intermediate_epochs=1", "meta.corruption=0.1", *SMALL]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, an encoder and `tiny.toml`; students share trained teachers through `folder/store`."""
    folder = tmp_path_factory.mktemp("meta")
    header = ("text", "label", "domain")
    write_tsv(folder / "train.tsv", domain_sentences(300), header)
    write_tsv(folder / "dev.tsv", domain_sentences(90, seed=1), header)
    tiny_teacher(folder / "bert")
    (folder / "tiny.toml").write_text(DOMAIN_RECIPE)
    return folder


def point(folder: Path, *settings: str) -> Recipe:
    return load_recipe(folder / "tiny.toml", list(settings))


def make(folder: Path, name: str, *settings: str) -> Path:
    root = folder / "artifacts" / name
    compress(point(folder, *settings), Workspace(root, store=folder / "store"))
    return root


def card(directory: Path) -> dict[str, object]:
    return json.loads((directory / "card.json").read_text())


def weights_of(root: Path) -> np.ndarray:
    """The examples' weights among the teacher's outputs, (N,)."""
    weights = TeacherOutputs.load(root / "teacher_outputs").weights
    assert weights is not None
    return weights.numpy()


def test_the_preset_makes_a_student_of_one_domain_from_a_teacher_of_all(folder: Path) -> None:
    root = make(folder, "films", *METAKD, "domains.student=films")
    made = card(root / "teacher")
    assert (made["method"], made["domains"]) == ("meta", ["films", "games", "goods"])
    # Thirty texts a domain: 0.75 is far from chance.
    assert min(made["domain_accuracy"]["dev"].values()) >= 0.75  # type: ignore[index]
    assert AutoModelForSequenceClassification.from_pretrained(root / "teacher").num_labels == 2  # an ordinary one
    assert card(root / "student")["sizes"] == {"train": 100, "dev": 30}
    assert max(epoch["dev accuracy"] for epoch in card(root / "student")["history"]) >= 0.75  # type: ignore[union-attr]
    other = make(folder, "games", *METAKD, "domains.student=games")
    assert (root / "teacher").resolve() == (other / "teacher").resolve()
    assert (root / "student").resolve() != (other / "student").resolve()


def test_the_teacher_is_pictured_with_the_extreme_examples_of_each_class(folder: Path) -> None:
    teacher = make(folder, "pictured", *METAKD) / "teacher"
    for name in ("domains.png", "prototype_scores.png"):
        assert (teacher / name).read_bytes().startswith(b"\x89PNG")
    knowledge, corpus = DomainKnowledge.load(teacher), load_corpus(point(folder).target)
    train = corpus.splits["train"]
    model, encoder = open_teacher(teacher, 32)
    encoded = encode_split(train, encoder)
    _, features = logits_and_features(model, encoded)
    numbers = knowledge.numbers(train.domains or [])
    scores = prototype_scores(features, numbers, encoded.labels, knowledge.prototypes)
    text = (teacher / "prototype_scores.md").read_text()
    for number, label in enumerate(corpus.labels):
        best = max((float(s), i) for i, s in enumerate(scores) if train.labels[i] == number)
        highest = text.split(f"## {label}, highest")[1].split("##")[0]
        assert highest.strip().startswith(f"- {best[0]:.3f}: (")
        assert highest.count("\n- ") == 3
        assert text.split(f"## {label}, lowest")[1].split("##")[0].count("\n- ") == 3


def test_a_projection_keeps_the_two_widest_directions() -> None:
    wide = torch.tensor(
        [[3.0, 0.0, 0.0], [-3.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, -2.0, 0.0], [0, 0, 1.0], [0, 0, -1.0]]
    )
    assert project(wide + 5).abs().round(decimals=4).tolist() == [[3, 0], [3, 0], [0, 2], [0, 2], [0, 0], [0, 0]]


def test_the_weights_follow_from_the_teachers_own_prototypes(folder: Path) -> None:
    """λ of every example, by loops over what the teacher says of one text at a time."""
    root = make(folder, "weights", *METAKD)
    corpus = load_corpus(point(folder).target)
    train, names = corpus.splits["train"], ["films", "games", "goods"]
    model = AutoModelForSequenceClassification.from_pretrained(root / "teacher").eval()
    encoder = TextEncoder(root / "teacher" / "tokenizer.json", 32)
    features, right = [], []
    for text, label in zip(train.texts, train.labels, strict=True):
        ids = torch.from_numpy(encoder.encode([text])[0].input_ids)[None]
        with torch.inference_mode():
            out = model(ids, output_hidden_states=True)
        features.append(out.hidden_states[-1][0].mean(dim=0).numpy())
        right.append(float(out.logits.softmax(dim=1)[0, label]))
    rows = {
        (k, m): [f for f, d, y in zip(features, train.domains or [], train.labels, strict=True) if (d, y) == (k, m)]
        for k in names
        for m in (0, 1)
    }

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    expected = []
    for f, domain, label, p in zip(features, train.domains or [], train.labels, right, strict=True):
        near = {k: cosine(f, np.mean(rows[k, label], axis=0)) for k in names}
        t = 0.5 * near[domain] + 0.5 * np.mean([near[k] for k in names if k != domain])
        expected.append((1 + t) / (np.exp((1 - p) ** 2) + 1))
    found = weights_of(root)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    "settings", [["compress.preset=bilstm"], ["student.kind=cnn", "student.width=16", "search.trials=1"]]
)
def test_other_students_learn_the_predictions_with_the_same_weights(folder: Path, settings: list[str]) -> None:
    more = ["teacher.method=meta", "augmentation.method=spans", "augmentation.copies=1", "compress.average=0.9"]
    root = make(folder, settings[0], *settings, *more, "compress.epochs=1", "compress.batch_size=16")
    weights = weights_of(root)
    assert weights.shape == (600,)  # the augmented texts have theirs too
    assert (weights > 0).all()


def test_a_domain_that_the_teacher_never_saw_has_no_number(folder: Path) -> None:
    root = make(folder, "left-out", *METAKD, 'domains.leave_out=["films"]', "domains.student=films")
    assert card(root / "teacher")["domains"] == ["games", "goods"]
    knowledge = DomainKnowledge.load(root / "teacher")
    assert knowledge.numbers(["goods", "films"]).tolist() == [1, -1]
    assert knowledge.prototypes.shape == (2, 2, 32)
    assert weights_of(root).shape == (100,)


@pytest.mark.parametrize("student", [["domains.student=films"], []])
def test_a_transfer_set_has_the_teachers_weights_and_the_students_domain(folder: Path, student: list[str]) -> None:
    root = make(folder, f"transfer-{len(student)}", *METAKD, *student, "transfer.joined=60", "compress.epochs=1")
    outputs = TeacherOutputs.load(root / "transfer_outputs")
    assert outputs.weights is not None
    assert outputs.weights.shape == (60,)
    model, encoder = open_teacher(root / "teacher", 32)
    texts = outputs.attach(encode_split(load_transfer_set(root / "transfer_set"), encoder))
    logits, features = logits_and_features(model, texts)
    domains = torch.full((60,), 0 if student else -1)  # of a student of all domains nobody knows which one they have
    expected = DomainKnowledge.load(root / "teacher").weights(logits, features, logits.argmax(dim=1), domains)
    torch.testing.assert_close(outputs.weights, expected, atol=1e-4, rtol=0)
    assert (root / "student" / "model.safetensors").is_file()


def test_what_the_student_uses_does_not_outdate_the_teacher(folder: Path) -> None:
    keys = stage_keys(point(folder, *METAKD))

    def changed(*settings: str) -> set[str]:
        other = stage_keys(point(folder, *METAKD, *settings))
        return {stage for stage in ("teacher", "teacher_outputs", "student") if other[stage] != keys[stage]}

    assert changed("domains.student=films") == {"teacher_outputs", "student"}
    assert changed("meta.transfer=0") == {"student"}
    assert changed("meta.expertise=false") == {"teacher_outputs", "student"}
    everything = {"teacher", "teacher_outputs", "student"}
    assert changed("meta.corruption=0") == everything
    assert changed('domains.leave_out=["films"]') == everything
    assert changed("domains.teacher=own", "domains.student=films") == everything
    keys = stage_keys(point(folder, "compress.preset=metakd"))
    assert stage_keys(point(folder, "compress.preset=metakd", "teacher.method=finetune"))["teacher"] != keys["teacher"]


def test_the_meta_loss_by_its_formula_and_who_learns_what() -> None:
    """t·(CE + γ1·progress·L_DC) reaches the encoder alone; the domain classifier learns the true domains only."""
    teacher = bert(2).eval()
    torch.manual_seed(1)
    learner = MetaLearner(teacher, 3)
    scores, domains = torch.tensor([0.9, 0.5, 0.0]), torch.tensor([0, 1, 2])
    given = replace(batch(), weights=scores, domains=domains)

    def run(corruption: float, progress: float) -> tuple[float, torch.Tensor, torch.Tensor]:
        learner.zero_grad()
        torch.manual_seed(5)
        value = meta_loss(learner, corruption)(given, progress)
        value.backward()
        gradients = [
            torch.cat([p.grad.flatten() for p in part.parameters() if p.grad is not None])
            for part in (learner.teacher.bert, learner.domain_classifier)
        ]
        return float(value.detach()), gradients[0], gradients[1]

    torch.manual_seed(5)
    shuffled = domains[torch.randperm(3)]
    with torch.no_grad():
        out = teacher(given.input_ids, given.attention_mask, output_hidden_states=True)
        features = mean_state(out.hidden_states[-1], given.attention_mask.float())
        labels = -out.logits.log_softmax(dim=1)[range(3), given.labels]
        confusion = -learner.domain_classifier(features, domains).log_softmax(dim=1)[range(3), shuffled]
        classifier_loss = -learner.domain_classifier(features, shuffled).log_softmax(dim=1)[range(3), domains]
    expected = float((scores * (labels + 0.5 * 0.4 * confusion)).mean() + classifier_loss.mean())
    value, encoder, classifier = run(0.5, 0.4)
    assert value == pytest.approx(expected, abs=1e-5)
    _, encoder_without, classifier_without = run(0.0, 0.4)
    assert not torch.allclose(encoder, encoder_without)
    torch.testing.assert_close(classifier, classifier_without)
    learner.zero_grad()
    alone = torch.nn.functional.cross_entropy(
        teacher(given.input_ids, given.attention_mask).logits, given.labels, reduction="none"
    )
    (scores * alone).mean().backward()
    by_labels = torch.cat([p.grad.flatten() for p in teacher.bert.parameters() if p.grad is not None])
    torch.testing.assert_close(encoder_without, by_labels, atol=1e-6, rtol=1e-4)


@pytest.mark.slow
def test_a_fresh_probe_finds_the_domain_less_often_after_corruption(tmp_path: Path) -> None:
    """A new linear probe on a teacher's frozen features; both teachers know their task all the same.

    A pre-trained encoder, since one that starts from nothing may not tell domains apart whatever it is asked.
    """
    write_tsv(tmp_path / "train.tsv", domain_sentences(180), ("text", "label", "domain"))
    write_tsv(tmp_path / "dev.tsv", domain_sentences(120, seed=1), ("text", "label", "domain"))
    (tmp_path / "tiny.toml").write_text(DOMAIN_RECIPE)
    found = {}
    for corruption in (0.0, 0.5):
        pretrained = ["teacher.model=embedded", "teacher.epochs=2", "teacher.learning_rate=2e-4"]
        recipe = point(tmp_path, "compress.preset=metakd", f"meta.corruption={corruption}", *pretrained)
        root = tmp_path / str(corruption)
        compress(recipe, Workspace(root), until="teacher")
        model, encoder = open_teacher(root / "teacher", recipe.target.max_length)
        features = {}
        for name, split in load_corpus(recipe.target).splits.items():
            logits, hidden = logits_and_features(model, encode_split(split, encoder))
            assert float((logits.argmax(dim=1) == torch.tensor(split.labels)).float().mean()) > 0.95
            features[name] = (hidden / hidden.std()).numpy(), split.domains
        probe = LogisticRegression(C=1e-3, max_iter=1000).fit(*features["train"])
        found[corruption] = probe.score(*features["dev"])
    assert found[0.0] > 0.7  # 0.33 by chance
    assert found[0.5] < found[0.0] - 0.1


def test_a_killed_meta_teacher_ends_as_an_uninterrupted_one(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = point(folder, *METAKD, "teacher.epochs=3")
    corpus = load_corpus(recipe.target)
    monkeypatch.setattr("compress.training.loop.CHECKPOINT_SECONDS", 0.0)

    def train(name: str) -> dict[str, torch.Tensor]:
        (tmp_path / name).mkdir(exist_ok=True)
        make_teacher(recipe, corpus, tmp_path / name, tmp_path / f"{name}-scratch")
        knowledge = DomainKnowledge.load(tmp_path / name)
        state = AutoModelForSequenceClassification.from_pretrained(tmp_path / name).state_dict()
        return state | {"prototypes": knowledge.prototypes} | knowledge.representation.state_dict()

    whole = train("whole")
    monkeypatch.setattr(finetune, "dev_metrics", killed_at(2, finetune.dev_metrics))
    with pytest.raises(KilledError):
        train("killed")
    resumed = train("killed")
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["meta.transfer=0.1"], "only teacher.method"),
        (["teacher.method=meta", "teacher.fine_tuned=true"], "a meta-teacher has to be trained"),
        (["compress.preset=logits", "teacher.method=meta", "meta.transfer=0.1"], "compares no hidden states"),
        (["domains.teacher=own"], "needs domains.student"),
        (["domains.student=films", "domains.students=per-domain"], "set only one of them"),
        (["domains.teacher=own", "domains.student=a", 'domains.leave_out=["b"]'], "has one domain only"),
        (["domains.nonsense=1"], "unknown key; known here: student"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(folder: Path, settings: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        point(folder, *settings)


def test_domains_need_a_column(folder: Path) -> None:
    (folder / "none.toml").write_text(DOMAIN_RECIPE.replace('domain = "domain"\n', ""))
    with pytest.raises(UserError, match=r"none.toml:\d+: data.domain: name the column"):
        load_recipe(folder / "none.toml", METAKD)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["domains.student=records"], "domains.student: no domain 'records' in train; there are films, games, goods"),
        (['domains.leave_out=["records"]'], "domains.leave_out: no domain 'records'"),
        (['domains.leave_out=["films","games","goods"]'], "domains.leave_out: train has no text of any domain"),
    ],
)
def test_a_domain_that_is_not_there_is_named_before_anything_is_trained(
    folder: Path, settings: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        make(folder, "refused", *METAKD, *settings)
    assert not (folder / "artifacts" / "refused" / "teacher").exists()
