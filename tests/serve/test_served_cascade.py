"""A cascade as it is served: unsure texts go to the teacher, the others do not, and each answer says who gave it."""

from __future__ import annotations

import threading
from pathlib import Path

import anyio
import anyio.to_thread
import httpx
import numpy as np
import pytest

from compress.runtime.errors import UserError
from export.bundle import Bundle
from export.session import BundleSession
from serve.app import create_app
from serve.predictor import Draft, Predictor
from serve.settings import Settings
from tests.conftest import MakeBundle
from tests.serve.conftest import Client, serve
from tests.tiny_cascade import TEACHER, add_cascade, replace_teacher, student_times
from tests.waiting import PATIENCE

SURE, UNSURE = "good good good good", "good bad good the the a film"  # the student's scores are 1.0 and 0.86


@pytest.fixture
def bundle(make_bundle: MakeBundle) -> Path:
    return add_cascade(make_bundle())


def test_unsure_texts_are_answered_by_the_teacher_and_sure_ones_by_the_student(bundle: Path) -> None:
    client = serve(bundle)
    scores = BundleSession(Bundle(bundle)).predict([SURE, UNSURE]).max(axis=1)
    assert scores[1] < 0.9 < scores[0]
    # The student says positive to both, the teacher the opposite.
    assert client.classify(text=SURE).json()["model"] == "student"
    assert client.classify(text=SURE).json()["label"] == "positive"
    assert client.classify(text=UNSURE).json() == {
        "label": "negative",
        "score": pytest.approx(scores[1], abs=1e-5),
        "model": "teacher",
    }


def test_of_a_list_only_the_unsure_texts_go_to_the_teacher(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor(Settings(bundle=bundle))
    assert predictor.cascade is not None
    asked: list[int] = []
    teacher = predictor.cascade.teacher
    run = teacher.logits
    monkeypatch.setattr(teacher, "logits", lambda encoded, size: asked.append(len(encoded)) or run(encoded, size))  # type: ignore[func-returns-value]
    results = Client(create_app(predictor)).classify(text=[SURE, UNSURE, SURE, UNSURE, SURE]).json()["results"]
    assert [one["model"] for one in results] == ["student", "teacher", "student", "teacher", "student"]
    assert [one["label"] for one in results] == ["positive", "negative", "positive", "negative", "positive"]
    assert asked == [2]


def test_pairs_keep_their_second_texts_on_the_way_to_the_teacher(make_bundle: MakeBundle) -> None:
    client = serve(add_cascade(make_bundle(pair=True), threshold=0.99))
    unsure = ("good the the the the film film", "bad the the the the film film")
    body = {"text": ["good", unsure[0], unsure[1]], "text_b": ["bad", unsure[1], unsure[0]]}
    results = client.classify(**body).json()["results"]
    assert [one["model"] for one in results] == ["student", "teacher", "teacher"]
    assert [one["label"] for one in results] == ["worse", "better", "worse"]  # the teacher says the opposite


def test_a_score_is_a_calibrated_probability_and_the_threshold_is_one_too(make_bundle: MakeBundle) -> None:
    plain = serve(make_bundle("plain")).classify(text=SURE, scores=True).json()["scores"]
    calibrated = serve(add_cascade(make_bundle("warm"), threshold=0.7, temperature=4.0))
    answer = calibrated.classify(text=SURE, scores=True).json()
    odds = np.log(plain["positive"] / plain["negative"]) / 4
    assert answer["score"] == pytest.approx(1 / (1 + np.exp(-odds)), abs=1e-3)
    assert answer["model"] == "student"
    assert calibrated.classify(text=UNSURE).json()["model"] == "teacher"


def test_the_cascade_can_be_turned_off(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POCKETBERT_CASCADE", "off")
    client = Client(create_app(Predictor(Settings(bundle=bundle))))
    answer = client.classify(text=UNSURE).json()
    assert answer.keys() == {"label", "score"}
    assert answer["label"] == "positive"
    assert "cascade" not in client.get("/info").json()


@pytest.mark.parametrize(("threshold", "models"), [("0", "student student"), ("1", "teacher teacher")])
def test_the_threshold_can_be_overridden(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, threshold: str, models: str
) -> None:
    monkeypatch.setenv("POCKETBERT_CASCADE_THRESHOLD", threshold)
    client = Client(create_app(Predictor(Settings(bundle=bundle))))
    assert [one["model"] for one in client.classify(text=[SURE, UNSURE]).json()["results"]] == models.split()
    # What the bundle promises for its own threshold does not hold for another one.
    assert client.get("/info").json()["cascade"] == {"teacher": "int8", "threshold": float(threshold)}


def test_info_has_the_threshold_and_what_it_did_on_dev(bundle: Path) -> None:
    expected = {"teacher": "int8", "threshold": 0.9, "share": 0.4, "accuracy": pytest.approx(0.84)}
    assert serve(bundle).get("/info").json()["cascade"] == expected


def test_a_cascade_that_is_asked_for_and_not_there_is_refused(tiny_bundle: Path) -> None:
    for settings in (Settings(bundle=tiny_bundle, cascade=True), Settings(bundle=tiny_bundle, cascade_threshold=0.5)):
        with pytest.raises(UserError, match=r"the bundle has no cascade; set cascade\.within_points in the recipe"):
            Predictor(settings)


def test_an_answer_below_the_chosen_score_is_marked_as_unsure(tiny_bundle: Path) -> None:
    client = Client(create_app(Predictor(Settings(bundle=tiny_bundle, unsure_below=0.9))))
    assert [one["unsure"] for one in client.classify(text=[SURE, UNSURE]).json()["results"]] == [False, True]
    assert client.get("/info").json()["unsure_below"] == 0.9


def test_a_broken_teacher_is_one_line(bundle: Path) -> None:
    broken = {
        b"no model": "ONNX Runtime cannot load it",
        student_times(bundle, np.nan): "teacher in int8: the model gives logits that are not finite",
    }
    for content, fault in broken.items():
        replace_teacher(bundle, content)
        with pytest.raises(UserError, match=fault) as error:
            Predictor(Settings(bundle=bundle))
        assert "\n" not in str(error.value)


def test_a_missing_teacher_is_one_line(bundle: Path) -> None:
    (bundle / TEACHER).unlink()
    with pytest.raises(UserError, match=f"{TEACHER}: missing from the bundle"):
        Predictor(Settings(bundle=bundle))


def test_the_student_answers_while_the_teacher_works(bundle: Path) -> None:
    class HoldingPredictor(Predictor):
        """Its teacher waits until `release` is set."""

        started, release = threading.Event(), threading.Event()
        holding = False

        def finish(self, draft: Draft) -> object:  # type: ignore[override]
            if self.holding and draft.passed_on:
                self.started.set()
                assert self.release.wait(PATIENCE)
            return super().finish(draft)

    predictor, finished = HoldingPredictor(Settings(bundle=bundle)), []
    predictor.holding = True  # it has timed itself

    async def send(client: httpx.AsyncClient, text: str) -> None:
        response = await client.post("/classify", json={"text": text})
        finished.append(response.json()["model"])

    async def both() -> None:
        transport = httpx.ASGITransport(create_app(predictor))
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://test") as client,
            anyio.create_task_group() as group,
        ):
            group.start_soon(send, client, UNSURE)
            assert await anyio.to_thread.run_sync(predictor.started.wait, PATIENCE)
            await send(client, SURE)
            predictor.release.set()

    anyio.run(both)
    assert finished == ["student", "teacher"]
