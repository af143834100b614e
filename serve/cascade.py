"""The cascade at work: which texts of a request go to the teacher, and its answers. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compress.runtime.encode import Encoded
from compress.runtime.errors import UserError
from export.bundle import TOKENIZER, Bundle
from export.session import BundleSession, FloatArray, ModelSession, teacher_session
from serve.messages import CascadeInfo
from serve.settings import Settings


@dataclass(frozen=True)
class Cascade:
    """The teacher of a bundle, and the threshold up to which a student's score is unsure."""

    teacher: ModelSession
    threshold: float
    same_tokens: bool  # whether teacher and student have one tokenizer
    info: CascadeInfo

    def unsure(self, probabilities: FloatArray) -> list[int]:
        """The rows of the student's probabilities (N, C) whose text goes to the teacher."""
        return [row for row, score in enumerate(probabilities.max(axis=1)) if score <= self.threshold]

    def ask(self, texts: Sequence[str], texts_b: Sequence[str] | None, encoded: Sequence[Encoded]) -> FloatArray:
        """The teacher's probabilities (N, C).

        :param texts: or the first texts of pairs.
        :param encoded: the student's tokens of them.
        """
        return self.teacher.probabilities(encoded if self.same_tokens else self.teacher.encoder.encode(texts, texts_b))


def open_cascade(bundle: Bundle, student: BundleSession, settings: Settings) -> Cascade | None:
    """The cascade of a bundle; None if it has none or the settings turn it off.

    :raises UserError: the settings ask for what the bundle does not have, or the teacher cannot be loaded.
    """
    entry = bundle.manifest.cascade
    if settings.cascade is False:
        if settings.cascade_threshold is not None:
            raise UserError("a threshold for a cascade that is turned off: leave one of the two settings out")
        return None
    if entry is None:
        if settings.cascade or settings.cascade_threshold is not None:
            raise UserError(
                f"{bundle.directory}: the bundle has no cascade; set cascade.within_points in the recipe and export it again"
            )
        return None
    chosen = entry.routes[student.precision].chosen
    override = settings.cascade_threshold
    return Cascade(
        teacher=teacher_session(bundle, entry, threads=settings.threads, device=settings.device),
        threshold=chosen.threshold if override is None else override,
        same_tokens=entry.tokenizer == TOKENIZER,
        info=CascadeInfo(
            teacher=entry.precision,
            threshold=chosen.threshold if override is None else override,
            share=chosen.share if override is None else None,
            accuracy=chosen.accuracy if override is None else None,
        ),
    )
