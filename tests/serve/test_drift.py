"""Drift: how far the texts of the clients are from dev, in the metrics."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from export.bundle import MANIFEST, Bundle
from export.reference import dev_answers, seen_tokens
from export.session import BundleSession
from serve.app import create_app
from serve.drift import population_stability_index
from serve.predictor import Predictor
from serve.settings import Settings
from serve.swap import check
from tests.conftest import make_tiny_bundle
from tests.serve.conftest import Client

DEV = ["good film", "a good film", "bad film", "a bad film"] * 25


def with_reference(bundle: Path) -> Path:
    """Add to a tiny bundle what an export stores of dev."""
    session = BundleSession(Bundle(bundle))
    manifest = json.loads((bundle / MANIFEST).read_text())
    answers = dev_answers(session.predict(DEV), manifest["labels"])
    manifest["models"]["fp32"]["dev_answers"] = answers.model_dump()
    manifest["seen_tokens"] = seen_tokens(session.encoder, (DEV, None), (DEV, None), 0).model_dump()
    (bundle / MANIFEST).write_text(json.dumps(manifest))
    return bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return with_reference(make_tiny_bundle(tmp_path / "bundle"))


def client_of(bundle: Path, window: int = 20) -> Client:
    return Client(create_app(Predictor(Settings(bundle=bundle, drift_window=window))))


def psi(of: str) -> float:
    value = REGISTRY.get_sample_value("pocketbert_population_stability_index", {"domain": "", "of": of})
    assert value is not None
    return value


def rise(name: str, ask: Callable[[], object], **labels: str) -> float:
    """How much a metric rises while something is asked."""
    before = REGISTRY.get_sample_value(name, labels) or 0.0
    ask()
    after = REGISTRY.get_sample_value(name, labels)
    assert after is not None
    return after - before


def test_the_index_is_that_of_the_formula() -> None:
    actual, expected = [30, 70], [50, 50]
    a, e = [30.5 / 101, 70.5 / 101], [0.5, 0.5]
    by_hand = (a[0] - e[0]) * math.log(a[0] / e[0]) + (a[1] - e[1]) * math.log(a[1] / e[1])
    assert population_stability_index(actual, expected) == pytest.approx(by_hand)
    assert population_stability_index([50, 50, 0], [500, 500, 0]) < 0.02
    assert population_stability_index(expected, expected) == 0


def test_texts_like_those_of_dev_have_a_small_index_and_others_a_large_one(bundle: Path) -> None:
    client = client_of(bundle)
    assert math.isnan(psi("labels"))
    client.classify(text=DEV[:16])
    assert math.isnan(psi("labels"))  # the window is not full
    client.classify(text=DEV[:4])
    assert psi("labels") < 0.1
    assert psi("scores") < 0.1
    for _ in range(20):  # the window slides: nothing of what was before is left
        client.classify(text="a very very very good good good good film")
    assert psi("labels") > 1
    assert psi("scores") > 1
    client.classify(text=DEV[:20])
    assert psi("labels") < 0.1


def test_scores_and_tokens_that_train_does_not_have_are_counted(bundle: Path) -> None:
    client = client_of(bundle)
    score = client.classify(text="bad bad").json()["score"]
    edge = next(edge for edge in ("0.5", "0.6", "0.7", "0.8", "0.9", "0.95", "0.99", "1.0") if score <= float(edge))
    assert rise("pocketbert_score_bucket", lambda: client.classify(text="bad bad"), le=edge) == 1
    assert rise("pocketbert_score_count", lambda: client.classify(text=["bad", "good", "film"])) == 3
    assert rise("pocketbert_tokens_total", lambda: client.classify(text=["bad", "very bad"])) == 7
    assert rise("pocketbert_unseen_tokens_total", lambda: client.classify(text=["bad", "very xyz bad"])) == 2
    assert rise("pocketbert_unseen_tokens_total", lambda: client.classify(text="a bad film")) == 0
    assert REGISTRY.get_sample_value("pocketbert_dev_unseen_token_share", {"domain": ""}) == 0
    assert REGISTRY.get_sample_value("pocketbert_dev_label_share", {"domain": "", "label": "negative"}) == 0.5


def test_rare_labels_count_as_one_so_that_many_labels_do_not_look_like_drift(tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "bundle")
    manifest = json.loads((bundle / MANIFEST).read_text())
    labels = {f"label {n}": 1 / 64 for n in range(64)}
    manifest["models"]["fp32"]["dev_answers"] = {
        "texts": 64, "labels": labels, "score_edges": [0.5], "score_shares": [0.5, 0.5],
    }  # fmt: skip
    (bundle / MANIFEST).write_text(json.dumps(manifest))
    predictor = Predictor(Settings(bundle=bundle, drift_window=64))
    assert predictor.drift is not None
    predictor.drift.announce()
    predictor.drift._parts[None].add([n if n % 2 else 63 for n in range(64)], [0.4, 0.6] * 32)
    assert psi("labels") < 0.5
    assert psi("scores") < 0.01


def test_a_bundle_without_a_reference_is_served_and_the_lack_is_said_once(
    tiny_bundle: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client = client_of(tiny_bundle)
    assert rise("pocketbert_score_count", lambda: client.classify(text=["good"] * 3)) == 3
    check(tiny_bundle)  # what a swap runs in a process of its own; its output goes to the log
    assert capsys.readouterr().out.count("no drift figure; export it again with --force") == 1
    check(bundle)
    assert capsys.readouterr().out == ""


def test_zero_turns_it_off(bundle: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = client_of(bundle, window=0)
    assert rise("pocketbert_score_count", lambda: client.classify(text=["good"] * 3)) == 0
    monkeypatch.setenv("POCKETBERT_DRIFT_WINDOW", "0")
    assert Settings.from_environment().drift_window == 0
