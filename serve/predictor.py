"""A loaded bundle that answers checked requests. No torch."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from compress.runtime.encode import Encoded, pad_batch
from compress.runtime.errors import UserError
from export.bundle import Bundle
from export.session import BundleSession, FloatArray, ModelSession, softmax
from serve.cascade import Cascade, open_cascades
from serve.drift import Drift
from serve.explain import explain
from serve.messages import Explanation, Info, Prediction, Predictions, RefusedError, Request, item_name
from serve.settings import Settings
from serve.timing import measure

LONGEST_ON_EVENT_LOOP = 0.002  # seconds; a request that takes longer is answered in a thread
WARM_UP_LENGTHS = (4, 16, 32, 64, 128, 256, 512)  # tokens


@dataclass(frozen=True)
class Draft:
    """What the student says about a request, and the rows that go to the teacher."""

    request: Request
    encoded: list[Encoded]
    probabilities: FloatArray  # (N, C)
    passed_on: list[int]
    answer: Prediction | Predictions | None = None  # None: the teacher has to be asked


class Predictor:
    """A bundle in memory, with every model run once.

    :raises UserError: the bundle or the precision does not exist, a file is corrupt, or a model cannot run here.
    """

    def __init__(self, settings: Settings) -> None:
        # By default the tokenizer uses all cores of the machine for a batch. A worker must use only the cores it is given.
        if settings.threads == 1:
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        bundle = Bundle(settings.bundle_directory())
        self.limits = settings.limits
        self.labels = bundle.manifest.labels
        self.pair = bundle.manifest.pair
        domains = bundle.manifest.domains or {}
        # The key is None in a bundle of one student. It is also the domain of a request that names none.
        self.sessions = {
            domain: BundleSession(
                bundle,
                precision=settings.precision,
                threads=settings.threads,
                device=settings.device,
                domain=domain,
            )
            for domain in (domains or [None])
        }
        self.default_domain = bundle.manifest.default_domain
        self.domains = list(domains)
        self.session = self.sessions[self.default_domain]
        self.cascades = open_cascades(bundle, self.sessions, settings)  # by domain, as the sessions
        self.unsure_below = settings.unsure_below
        precisions = {domain: session.precision for domain, session in self.sessions.items()}
        self.drift = Drift(bundle, precisions, settings.drift_window) if settings.drift_window else None
        self.on_cpu = settings.device == "cpu"
        self.info = Info(
            **bundle.manifest.model_dump(include={"name", "version", "created", "labels", "pair", "max_length"}),
            domains=self.domains or None,
            default_domain=self.default_domain,
            bundle=bundle.sha256,
            precision=self.session.precision,
            device="cpu" if self.on_cpu else "cuda",
            threads=settings.threads,
            cascade=self.cascade and self.cascade.info,
            domain_cascades={domain: one.info for domain, one in self.cascades.items() if domain is not None} or None,
            unsure_below=self.unsure_below,
            max_texts=self.limits.texts,
            max_characters=self.limits.characters,
            max_bytes=self.limits.body_bytes,
        )
        name = bundle.manifest.name
        for session in self.sessions.values():
            self._warm_up(session, f"{name}, precision {session.precision}")
        teachers = {id(one.teacher.model): one for one in self.cascades.values()}
        for cascade in teachers.values():
            self._warm_up(cascade.teacher, f"{name}, teacher in {cascade.info.teacher}")
        self.times = measure(lambda text: self._answer_one(text, by_teacher=False))
        if self.cascades:
            self.teacher_times = measure(lambda text: self._answer_one(text, by_teacher=True))

    @property
    def cascade(self) -> Cascade | None:
        """The cascade of a request that names no domain."""
        return self.cascades.get(self.default_domain)

    def parse(self, body: bytes) -> Request:
        """Read a request body, and check it against the bundle's kind of input and the limits.

        :raises RefusedError: see `Request.parse`.
        """
        return Request.parse(body, pair=self.pair, limits=self.limits, domains=self.domains)

    def seconds(self, request: Request) -> float:
        """How long `classify` will take, forecast from what was measured when the bundle was loaded."""
        return self.times(_characters(request))

    def teacher_seconds(self, draft: Draft) -> float:
        """How long the teacher will take for the texts of a draft that it gets."""
        return self.teacher_times([_characters(draft.request)[row] for row in draft.passed_on])

    def is_quick(self, seconds: float) -> bool:
        """Whether to answer a request of so many seconds on the event loop instead of in a thread.

        A CNN student on a CPU answers one short text in a fraction of a millisecond. A thread would add 0.1 ms to that.
        A longer request on the event loop would make the other clients wait. A GPU always gets the thread, because its
        execution context takes one caller at a time.
        """
        return self.on_cpu and seconds <= LONGEST_ON_EVENT_LOOP

    def classify(self, request: Request) -> Prediction | Predictions:
        """Answer a checked request, in the order of its texts.

        :raises RefusedError: the tokenizer finds no token in a text.
        """
        return self.finish(self.draft(request))

    def begin(self, request: Request) -> Draft:
        """The student's part of `classify`: a draft with the answer, or, if the teacher has to be asked, one for `finish`.

        :raises RefusedError: see `classify`.
        """
        draft = self.draft(request)
        return draft if draft.passed_on else replace(draft, answer=self.finish(draft))

    def draft(self, request: Request) -> Draft:
        """What the student says about a request.

        :raises RefusedError: see `classify`.
        """
        domain = request.domain or self.default_domain
        session, cascade = self.sessions[domain], self.cascades.get(domain)
        encoded = session.encoder.encode(request.texts, request.texts_b)
        special_tokens = session.encoder.special_tokens
        for row, one in enumerate(encoded):
            if len(one) <= special_tokens:
                raise RefusedError(f"{item_name('text', row, request.text)}: holds no token of the vocabulary")
        probabilities = session.probabilities(encoded)
        return Draft(request, encoded, probabilities, cascade.unsure(probabilities) if cascade else [])

    def finish(self, draft: Draft) -> Prediction | Predictions:
        """The teacher's part of `classify`, if there is any, and the answer. The teacher takes tens of times longer than the student."""
        request, probabilities, rows = draft.request, draft.probabilities, draft.passed_on
        if rows:
            texts_b = request.texts_b and [request.texts_b[row] for row in rows]
            probabilities = probabilities.copy()
            probabilities[rows] = self.cascades[request.domain or self.default_domain].ask(
                [request.texts[row] for row in rows], texts_b, [draft.encoded[row] for row in rows]
            )
        passed_on = set(rows)
        predictions = [
            self._prediction(own, request.scores, one.truncated, row in passed_on)
            for row, (own, one) in enumerate(zip(probabilities, draft.encoded, strict=True))
        ]
        return Predictions(results=predictions) if request.is_list else predictions[0]

    def explain(self, request: Request) -> Explanation:
        """Answer a checked request for one text or pair, and say what each of its words does to the answer.

        :raises RefusedError: see `serve.explain.explain`.
        """
        explained = explain(self.sessions[request.domain or self.default_domain], request, self.limits)
        prediction = self._prediction(softmax(explained.logits), request.scores, explained.truncated, False)
        words, *words_b = explained.words
        return Explanation(**prediction.model_dump(), words=words, words_b=words_b[0] if words_b else None)

    def _answer_one(self, text: str, *, by_teacher: bool) -> None:
        """Answer a text, and in a bundle of pairs a pair of its halves, to see how long it takes.

        :param by_teacher: whether the teacher answers too, however sure the student is. Otherwise it does not.
        """
        middle = len(text) // 2
        text, text_b = (text[:middle], text[middle:]) if self.pair else (text, None)
        with suppress(RefusedError):  # a tokenizer may know none of these words
            draft = self.draft(Request(text=text, text_b=text_b))
            self.finish(replace(draft, passed_on=[0] if by_teacher else []))

    def _prediction(self, probabilities: FloatArray, with_scores: bool, truncated: bool, passed_on: bool) -> Prediction:
        best = int(probabilities.argmax())
        score = round(float(probabilities[best]), 6)
        scores = None
        if with_scores:
            order = np.argsort(-probabilities, kind="stable")
            scores = {self.labels[i]: round(float(probabilities[i]), 6) for i in order}
        return Prediction(
            label=self.labels[best],
            score=score,
            scores=scores,
            truncated=truncated or None,
            model=None if not self.cascades else "teacher" if passed_on else "student",
            unsure=None if self.unsure_below is None else score < self.unsure_below,
        )

    def _warm_up(self, session: ModelSession, name: str) -> None:
        """Run one text of each of several lengths and check the logits.

        The first run at a length allocates memory. No client has to wait for that.

        :param name: of the model, for the error message.
        :raises UserError: the model cannot run, or its logits have a wrong shape or are not finite.
        """
        longest, pad = session.encoder.max_length, session.pad_token_id
        for length in sorted({min(length, longest) for length in WARM_UP_LENGTHS}):
            zeros = np.zeros(length, np.int64)
            try:
                logits = session.model.logits(pad_batch([Encoded(zeros + pad, zeros, zeros)], pad))
            except Exception as error:  # the exception classes of ONNX Runtime are not public
                raise _model_error(name, f"cannot be run ({str(error).splitlines()[0]})") from None
            if logits.shape != (1, len(self.labels)):
                raise _model_error(name, f"gives logits of shape {logits.shape} for {len(self.labels)} labels")
            if not np.isfinite(logits).all():
                raise _model_error(name, f"gives logits that are not finite for {length} tokens")


def _characters(request: Request) -> list[int]:
    """The number of characters of each text or pair."""
    lengths = list(map(len, request.texts))
    if request.texts_b is not None:
        lengths = [a + b for a, b in zip(lengths, map(len, request.texts_b), strict=True)]
    return lengths


def _model_error(name: str, fault: str) -> UserError:
    return UserError(f"{name}: the model {fault}; export the bundle again")
