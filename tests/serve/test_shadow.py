"""A candidate answers beside the bundle that is served: in silence, counted, and only while the worker is idle."""

from __future__ import annotations

from pathlib import Path

import anyio
import httpx
import pytest
from starlette.applications import Starlette

from compress.runtime.errors import UserError
from export.bundle import MANIFEST, Bundle, file_entry
from serve.app import create_app
from serve.predictor import Predictor
from serve.settings import Settings
from serve.shadow import TEXTS, Shadow
from tests.conftest import MakeBundle
from tests.tiny_cascade import student_times
from tests.waiting import PATIENCE

FILE = "model.fp32.onnx"
BATCH = {"text": ["a good film", "a bad film", "good"]}


@pytest.fixture(autouse=True)
def _long_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time enough for the answer to be sent, however busy the machine is."""
    monkeypatch.setattr("serve.shadow.PAUSE_SECONDS", 0.5)
    monkeypatch.setattr(
        "serve.shadow.LONGEST_SECONDS", PATIENCE
    )  # a model that was timed while the machine stood still


def negated(bundle: Path) -> Path:
    """The bundle with a model that says the opposite."""
    manifest = Bundle(bundle).manifest
    (bundle / FILE).write_bytes(student_times(bundle, -1.0))
    files = {**manifest.files, FILE: file_entry(bundle / FILE)}
    (bundle / MANIFEST).write_text(manifest.model_copy(update={"files": files}).model_dump_json())
    return bundle


def with_shadow(served: Path, candidate: Path, share: float = 1.0) -> Starlette:
    app = create_app(Predictor(Settings(bundle=served)))
    other = Predictor(Settings(bundle=candidate))
    app.state.shadow = Shadow(other, app.state.predictor, share, app.state.admission, app.state.batches)
    return app


def counts(candidate: Path) -> dict[str, float]:
    """Texts by result."""
    sha256 = Bundle(candidate).sha256
    [metric] = TEXTS.collect()
    return {
        one.labels["result"]: one.value
        for one in metric.samples
        if one.labels["sha256"] == sha256 and one.name.endswith("_total") and one.value
    }


def ask(app: Starlette, candidate: Path, *, busy: bool = False) -> tuple[list[str], dict[str, float]]:
    """The labels of a batch of three, and what the shadow counted a while later. `busy`: other work runs all the time."""

    async def run() -> list[str]:
        ticket = await app.state.admission.thread.enter(1.0) if busy else None
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            answer = await client.post("/classify", json=BATCH)
        assert not counts(candidate)  # the client has its answer first
        with anyio.fail_after(PATIENCE):
            while app.state.shadow._task is not None and not app.state.shadow._task.done():
                await anyio.sleep(0.01)
        if ticket is not None:
            app.state.admission.thread.leave(ticket)
        return [one["label"] for one in answer.json()["results"]]

    return anyio.run(run), counts(candidate)


def test_agreement_is_counted_and_the_answer_is_that_of_the_bundle_that_is_served(make_bundle: MakeBundle) -> None:
    served, same, opposite = make_bundle("served"), make_bundle("same"), negated(make_bundle("opposite"))
    labels = ["positive", "negative", "positive"]
    assert ask(with_shadow(served, same), same) == (labels, {"agrees": 3})
    assert ask(with_shadow(served, opposite), opposite) == (labels, {"differs": 3})


def test_a_worker_with_other_work_answers_at_once_and_skips_the_candidate(make_bundle: MakeBundle) -> None:
    candidate = make_bundle("busy")
    labels, found = ask(with_shadow(make_bundle(), candidate), candidate, busy=True)
    assert labels == ["positive", "negative", "positive"]
    assert found == {"skipped": 3}


def test_a_share_of_0_asks_nobody(make_bundle: MakeBundle) -> None:
    candidate = make_bundle("unasked")
    assert ask(with_shadow(make_bundle(), candidate, share=0.0), candidate)[1] == {}


def test_a_candidate_of_another_task_is_refused(make_bundle: MakeBundle) -> None:
    served = make_bundle()
    with pytest.raises(UserError, match="other labels than the bundle that is served"):
        with_shadow(served, make_bundle("other", labels=("no", "yes")))
    with pytest.raises(UserError, match=r"other (labels|pair) than"):
        with_shadow(served, make_bundle("pairs", pair=True))
