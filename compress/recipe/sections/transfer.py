"""The section `transfer`: texts without labels on which the student hears its teacher."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from compress.recipe.sections.base import Content, Section

Count = Annotated[int, Field(ge=0, le=10_000_000)]


class TransferOptions(Section):
    """The transfer set: many texts that the teacher labels and the student learns from, besides the task's own."""

    bank: Annotated[str, Content.BANK] = Field(
        "embedded",
        description="where texts are drawn from: 'embedded' (English talk, news, tweets and debates), or a file: .txt with a text "
        "a line, or a table with the columns of data.text and data.text_b; also .gz. For a task on pairs, single texts are put "
        "beside their neighbours, and a table has pairs",
    )
    texts: Count = Field(0, description="number of texts (or pairs) drawn from the bank")
    select: Literal["similar", "random"] = Field(
        "similar", description="draw texts that resemble the task's own, or draw at random"
    )
    sampled: Count = Field(
        0,
        description="number of texts sampled from a trigram model of the training texts: each word follows two others as it does in them; "
        "not for pairs. For texts of words with spaces between them; for other scripts, or few texts, 'joined'",
    )
    joined: Count = Field(
        0,
        description="number of texts joined from spans of different training texts; for a task on pairs, of pairs whose two texts "
        "come from different training pairs",
    )
    replaced: Count = Field(
        0,
        description="number of training texts (or pairs) in which words are replaced by near ones in the word embeddings of the teacher's "
        "encoder; needs a WordPiece tokenizer, as BERT's",
    )
    share: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.6,
        description="share of these texts in an epoch of the training of student, search and trials; less where they are few, since none is "
        "taken twice in an epoch",
    )
    judge: Literal["auto", "fp32", "bf16", "int8"] = Field(
        "auto",
        description="precision in which the teacher labels these texts; 'auto': the fastest one here that agrees with fp32 on dev. "
        "A meta-teacher's weights need its hidden states, so it labels as it was trained",
    )

    @property
    def any(self) -> bool:
        """Whether there is a transfer set."""
        return self.size > 0

    @property
    def size(self) -> int:
        """The number of texts, at most."""
        return self.texts + self.sampled + self.joined + self.replaced
