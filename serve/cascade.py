"""The cascade at work: which texts of a request go to the teacher, and its answers. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compress.runtime.encode import Encoded
from compress.runtime.errors import UserError
from export.bundle import TOKENIZER, Bundle
from export.manifest import Cascade as Entry
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


def open_cascades(
    bundle: Bundle, students: Mapping[str | None, BundleSession], settings: Settings
) -> dict[str | None, Cascade]:
    """The cascade of each domain of a bundle, or of its only student under the key None; none if the settings turn it off.

    :raises UserError: the settings ask for what the bundle does not have, or a teacher cannot be loaded.
    """
    if settings.cascade is False:
        if settings.cascade_threshold is not None:
            raise UserError("a threshold for a cascade that is turned off: leave one of the two settings out")
        return {}
    if bundle.manifest.cascade is None and (settings.cascade or settings.cascade_threshold is not None):
        raise UserError(
            f"{bundle.directory}: the bundle has no cascade; set cascade.within_points in the recipe and export it again"
        )
    teachers: dict[tuple[str, str], ModelSession] = {}
    return {
        domain: _open(bundle, part.cascade, students[domain].precision, settings, teachers)
        for domain, part in bundle.parts.items()
        if part.cascade is not None
    }


def _open(
    bundle: Bundle,
    entry: Entry,
    student: str,
    settings: Settings,
    teachers: dict[tuple[str, str], ModelSession],
) -> Cascade:
    """Open a cascade.

    :param student: its precision.
    :param teachers: those that are open, by the files of model and tokenizer. Domains that have the same teacher load it once.
    """
    files = entry.teacher.file, entry.tokenizer
    if files not in teachers:
        teachers[files] = teacher_session(
            bundle.directory, entry, bundle.manifest.max_length, threads=settings.threads, device=settings.device
        )
    opened = teachers[files]
    chosen = entry.route(student).chosen
    override = settings.cascade_threshold
    return Cascade(
        teacher=ModelSession(opened.model, opened.encoder, entry.pad_token_id, entry.teacher.temperature),
        threshold=chosen.threshold if override is None else override,
        same_tokens=entry.tokenizer == TOKENIZER,
        info=CascadeInfo(
            teacher=entry.precision,
            threshold=chosen.threshold if override is None else override,
            share=chosen.share if override is None else None,
            accuracy=chosen.accuracy if override is None else None,
        ),
    )
