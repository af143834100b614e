"""Shadow mode: a candidate bundle answers some requests too, in silence, and a metric says how often it agrees.

The client has its answer before the candidate begins. The candidate gets the lane of long requests, and only while nothing waits or runs in
either lane, so at most one short run of it can be before a request.
"""

from __future__ import annotations

import asyncio
import logging
from random import random

from anyio import CapacityLimiter, to_thread
from prometheus_client import Counter

from compress.runtime.errors import UserError
from serve.admission import Admission
from serve.messages import Prediction, Predictions, RefusedError, Request
from serve.predictor import Predictor

PAUSE_SECONDS = 0.002  # in which the answer is sent
LONGEST_SECONDS = 0.05  # that a candidate may take by its forecast, and that a request could have to wait for it
logger = logging.getLogger("bentoml.pocketbert")
TEXTS = Counter(
    "pocketbert_shadow_texts",
    "Texts for the shadow's bundle: it gave the same label (agrees) or another (differs), could not answer (failed), or was not asked, "
    "because the worker had other work or the request was too long (skipped).",
    ["sha256", "result"],
)


class Shadow:
    """The candidate beside the predictor of a worker.

    :param share: of the requests that the candidate gets, from 0 to 1.
    :param admission: the lanes of the worker.
    :param batches: lets one request at a time run in a thread.
    :raises UserError: the candidate has other labels, domains or another kind of input than `served`.
    """

    def __init__(
        self, candidate: Predictor, served: Predictor, share: float, admission: Admission, batches: CapacityLimiter
    ) -> None:
        for what in ("labels", "domains", "pair"):
            if sorted(map(str, _values(candidate, what))) != sorted(map(str, _values(served, what))):
                raise UserError(
                    f"shadow {candidate.info.name}: other {what} than the bundle that is served; choose a bundle of the same task"
                )
        self._candidate, self._share, self._admission, self._batches = candidate, share, admission, batches
        self._task: asyncio.Task[None] | None = None

    def offer(self, request: Request, answer: Prediction | Predictions) -> None:
        """Have the candidate answer a request too, later, if its turn comes by the share and by the work of the worker."""
        if random() >= self._share:
            return
        labels = _labels(answer)
        if self._task is not None and not self._task.done():
            self._count("skipped", len(labels))
            return
        self._task = asyncio.get_running_loop().create_task(self._compare(request, labels))

    async def _compare(self, request: Request, labels: list[str]) -> None:
        await asyncio.sleep(PAUSE_SECONDS)
        seconds = self._candidate.seconds(request)
        if seconds > LONGEST_SECONDS or not (self._admission.loop.is_idle and self._admission.thread.is_idle):
            self._count("skipped", len(labels))
            return
        ticket = await self._admission.thread.enter(seconds)
        try:
            found = await to_thread.run_sync(self._answer, request, limiter=self._batches)
        except RefusedError:
            self._count("failed", len(labels))
        except Exception:  # whatever it is, the clients have their answers
            logger.exception("the shadow's bundle failed on a request")
            self._count("failed", len(labels))
        else:
            if found is None:
                self._count("skipped", len(labels))
                return
            agreed = sum(one == other for one, other in zip(found, labels, strict=True))
            self._count("agrees", agreed)
            self._count("differs", len(labels) - agreed)
        finally:
            self._admission.thread.leave(ticket)

    def _answer(self, request: Request) -> list[str] | None:
        """The candidate's labels. None: its teacher would have to answer, and take too long."""
        draft = self._candidate.begin(request)
        if draft.answer is not None:
            return _labels(draft.answer)
        if self._candidate.teacher_seconds(draft) > LONGEST_SECONDS:
            return None
        return _labels(self._candidate.finish(draft))

    def _count(self, result: str, texts: int) -> None:
        TEXTS.labels(self._candidate.info.bundle, result).inc(texts)


def _labels(answer: Prediction | Predictions) -> list[str]:
    return [one.label for one in (answer.results if isinstance(answer, Predictions) else [answer])]


def _values(predictor: Predictor, what: str) -> list[object]:
    value = getattr(predictor, what)
    return value if isinstance(value, list) else [value]
