"""`Classifier`: a bundle from Python."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import pocketbert
from pocketbert import Classifier, UserError
from serve.predictor import Predictor
from serve.settings import Settings
from tests.conftest import MakeBundle, make_tiny_bundle


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Path) -> Classifier:
    return Classifier.load(tiny_bundle)


def test_one_text_gives_a_prediction(classifier: Classifier) -> None:
    found = classifier.predict("a good film")
    assert found.label == "positive"
    assert found.score == max(found.scores.values()) > 0.9
    assert list(found.scores) == ["positive", "negative"]
    assert sum(found.scores.values()) == pytest.approx(1)
    assert found.as_dict() == {"text": "a good film", "label": "positive", "score": found.score}


def test_several_texts_give_predictions_in_their_order(classifier: Classifier) -> None:
    texts = ["a bad film", "a good film", "the film is very very bad"]
    found = classifier.predict(text for text in texts)
    assert found.labels == ["negative", "positive", "negative"]
    assert [one.text for one in found] == texts
    assert found[0] == classifier.predict(texts[0])
    assert found[1:].labels == ["positive", "negative"]
    assert classifier.predict([]) == pocketbert.Predictions([])


def test_the_answers_are_those_of_the_service(classifier: Classifier, tiny_bundle: Path) -> None:
    predictor = Predictor(Settings(bundle=tiny_bundle))
    answer = predictor.classify(predictor.parse(b'{"text": "was it good or bad", "scores": true}'))
    found = classifier.predict("was it good or bad")
    assert (found.label, found.score, found.scores) == (answer.label, answer.score, answer.scores)


def test_pairs(tiny_pair_bundle: Path) -> None:
    classifier = Classifier.load(tiny_pair_bundle)
    assert classifier.pair
    assert classifier.predict("a bad film", "a good film").label == "better"
    assert classifier.predict(["good", "bad"], ["bad", "good"]).labels == ["worse", "better"]
    with pytest.raises(UserError, match=r"text_b: missing"):
        classifier.predict("alone")
    with pytest.raises(UserError, match=r"text_b: 1 texts for 2"):
        classifier.predict(["good", "bad"], ["bad"])


def test_what_cannot_be_classified_is_refused_with_its_place(classifier: Classifier) -> None:
    with pytest.raises(UserError, match=r"text\[1\]: blank"):
        classifier.predict(["good", "  "])
    with pytest.raises(UserError, match=r"text\[1\]: must be a string"):
        classifier.predict(["good", 7])  # type: ignore[list-item]
    with pytest.raises(UserError, match=r"domain: this bundle has one model"):
        classifier.predict("good", domain="books")


def test_a_bundle_is_found_by_its_folder_and_the_newest_by_default(
    make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bundle = make_bundle("mine")
    monkeypatch.chdir(tmp_path)
    for place in (bundle, bundle.parent, str(bundle / "manifest.json"), None):
        assert "'mine'" in repr(Classifier.load(place))
    with pytest.raises(UserError, match=r"nowhere: no such directory"):
        Classifier.load("nowhere")
    with pytest.raises(UserError, match=r"no manifest.json, so no bundle; make one with `pocketbert compress"):
        Classifier.load(tmp_path)


def test_the_settings_of_the_service_do_not_reach_it(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POCKETBERT_PRECISION", "int4")
    monkeypatch.setenv("POCKETBERT_THREADS", "none")
    assert Classifier.load(tiny_bundle).precision == "fp32"


def test_options_that_there_are_not(tiny_bundle: Path) -> None:
    with pytest.raises(UserError, match=r"no precision 'int4'; the bundle has fp32"):
        Classifier.load(tiny_bundle, precision="int4")
    with pytest.raises(UserError, match=r"choose cpu or cuda"):
        Classifier.load(tiny_bundle, device="gpu")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"threads 0"):
        Classifier.load(tiny_bundle, threads=0)


def test_a_notebook_shows_a_table_and_a_script_prints_lines(classifier: Classifier) -> None:
    found = classifier.predict(["a good <film>", "bad"] * 20)
    shown = found._repr_html_()
    assert shown.count("<tr>") == 21
    assert "40 texts, of which the first 20" in shown
    assert "a good &lt;film&gt;" in shown
    assert str(found).splitlines()[1].split("\t") == ["negative", f"{found[1].score:.4f}", "bad"]


def test_it_works_without_torch(tiny_bundle: Path) -> None:
    program = f"""
import sys
for name in ("torch", "transformers", "datasets", "accelerate", "onnx", "sklearn", "pandas", "bentoml"):
    sys.modules[name] = None  # an import of it raises ImportError
from pocketbert import Classifier, inspect
print(Classifier.load({str(tiny_bundle)!r}).predict("a good film").label, inspect({str(tiny_bundle)!r}).models[0].nodes)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout.split() == ["positive", "8"], done.stderr


def test_every_public_name_is_there() -> None:
    assert all(getattr(pocketbert, name) is not None for name in pocketbert.__all__)
    assert set(dir(pocketbert)) == set(pocketbert.__all__)
    with pytest.raises(AttributeError, match="no attribute 'compres'"):
        pocketbert.compres  # noqa: B018


def test_a_corrupt_file_is_named(tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "bundle")
    content = bytearray((bundle / "model.fp32.onnx").read_bytes())
    content[100] ^= 1
    (bundle / "model.fp32.onnx").write_bytes(content)
    with pytest.raises(UserError, match=r"model.fp32.onnx: its SHA-256"):
        Classifier.load(bundle)
