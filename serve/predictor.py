"""The bundle, loaded and warmed up, answering checked requests. No torch."""

from __future__ import annotations

import os

import numpy as np

from compress.runtime.encode import Encoded, pad_batch
from compress.runtime.errors import UserError
from export.bundle import Bundle
from export.session import BundleSession, FloatArray, softmax
from serve.messages import Info, Prediction, Predictions, RefusedError, Request, item_name
from serve.settings import Settings

INLINE_CHARACTERS = 2_000
WARM_UP_LENGTHS = (4, 16, 32, 64, 128, 256, 512)  # tokens


class Predictor:
    """A bundle ready to answer.

    :raises UserError: no such bundle or precision, a file that is corrupt, a model that cannot run here.
    """

    def __init__(self, settings: Settings) -> None:
        # A worker keeps to the cores it was given: the tokenizer would split a batch over all of them otherwise.
        if settings.threads == 1:
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        bundle = Bundle(settings.bundle_directory())
        self.limits = settings.limits
        self.labels = bundle.manifest.labels
        self.pair = bundle.manifest.pair
        domains = bundle.manifest.domains or {}
        # A bundle of one student has it under None, which is also what a request without a domain asks for.
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
        _, entry = bundle.model(settings.precision)
        self.on_cpu = entry.runtime == "onnxruntime" and settings.device == "cpu"
        self.info = Info(
            **bundle.manifest.model_dump(include={"name", "version", "created", "labels", "pair", "max_length"}),
            domains=self.domains or None,
            default_domain=self.default_domain,
            precision=self.session.precision,
            device="cpu" if self.on_cpu else "cuda",
            threads=settings.threads,
            max_texts=self.limits.texts,
            max_characters=self.limits.characters,
            max_bytes=self.limits.body_bytes,
        )
        for session in self.sessions.values():
            self._warm_up(session)

    def parse(self, body: bytes) -> Request:
        """Read a request body against this bundle's kind of input and the limits.

        :raises RefusedError: the body breaks them.
        """
        return Request.parse(body, pair=self.pair, limits=self.limits, domains=self.domains)

    def is_quick(self, request: Request) -> bool:
        """Whether to answer on the event loop instead of in a thread.

        One short text takes a CNN student a fraction of a millisecond on a CPU, to which the way to a thread and back
        would add 0.1 ms. Anything longer would keep the other clients waiting. What runs on a GPU goes to the thread
        too, because an execution context takes one caller at a time.
        """
        texts = [*request.texts, *(request.texts_b or [])]
        return self.on_cpu and len(request.texts) == 1 and sum(map(len, texts)) <= INLINE_CHARACTERS

    def classify(self, request: Request) -> Prediction | Predictions:
        """Answer a checked request, in the order of its texts.

        :raises RefusedError: a text in which the tokenizer finds no token.
        """
        session = self.sessions[request.domain or self.default_domain]
        encoded = session.encoder.encode(request.texts, request.texts_b)
        for row, one in enumerate(encoded):
            if len(one) == 0:
                raise RefusedError(f"{item_name('text', row, request.text)}: holds no token of the vocabulary")
        rows = softmax(session.logits(encoded))
        predictions = [self._prediction(row, request.scores) for row in rows]
        return Predictions(results=predictions) if request.is_list else predictions[0]

    def _prediction(self, probabilities: FloatArray, with_scores: bool) -> Prediction:
        best = int(probabilities.argmax())
        scores = None
        if with_scores:
            order = np.argsort(-probabilities, kind="stable")
            scores = {self.labels[i]: round(float(probabilities[i]), 6) for i in order}
        return Prediction(label=self.labels[best], score=round(float(probabilities[best]), 6), scores=scores)

    def _warm_up(self, session: BundleSession) -> None:
        """Run several lengths, so that no client pays for first-time allocations, and check what comes out."""
        manifest = session.manifest
        for length in sorted({min(length, manifest.max_length) for length in WARM_UP_LENGTHS}):
            zeros = np.zeros(length, np.int64)
            batch = pad_batch([Encoded(zeros + manifest.pad_token_id, zeros, zeros)], manifest.pad_token_id)
            try:
                logits = session.model.logits(batch)
            except Exception as error:  # ORT's exception classes are not part of its public API
                raise _broken(session, f"cannot be run ({str(error).splitlines()[0]})") from None
            if logits.shape != (1, len(self.labels)):
                raise _broken(session, f"gives logits of shape {logits.shape} for {len(self.labels)} labels")
            if not np.isfinite(logits).all():
                raise _broken(session, f"gives logits that are not finite for {length} tokens")


def _broken(session: BundleSession, fault: str) -> UserError:
    model = f"{session.manifest.name}, precision {session.precision}"
    return UserError(f"{model}: the model {fault}; export the bundle again")
