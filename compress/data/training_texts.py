"""All texts that a student learns from, in a fixed order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import reduce

from compress.data.batches import EncodedSplit, encode_split, join_splits
from compress.data.corpus import Split
from compress.runtime.encode import TextEncoder


@dataclass(frozen=True, kw_only=True)
class TrainingTexts:
    """The training texts of a student by kind. The order of the fields is the order of the joined texts."""

    own: Split  # the task's labelled texts
    source: Split | None = None  # labelled texts of the source domain
    unlabelled: Split | None = None  # real texts without a label
    augmented: Split | None = None  # texts made by augmentation, without a label

    def parts(self) -> Iterator[Split]:
        """The texts of each kind that is not None, in order."""
        return (part for field in fields(self) if (part := getattr(self, field.name)) is not None)

    def __len__(self) -> int:
        return sum(map(len, self.parts()))

    def encode(self, encoder: TextEncoder) -> EncodedSplit:
        """All texts as token ids, joined in order."""
        return reduce(join_splits, (encode_split(part, encoder) for part in self.parts()))

    @property
    def domains(self) -> list[str]:
        """The domains of the texts, in order. Texts without a domain are left out."""
        return [domain for part in self.parts() for domain in part.domains or []]
