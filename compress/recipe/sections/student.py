"""The section `student`: the kind and the size of the small model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from compress.recipe.sections.base import Content, Positive, Section

SPECIAL_ARCHITECTURES = ("searched", "random", "residual")  # of a cnn; any other value is a file
SPECIAL_INITS = ("pretrained", "teacher", "random")  # of a transformer student; any other value is a model


class CnnOptions(Section):
    """A convolutional student whose cell is searched (AdaBERT)."""

    kind: Literal["cnn"] = "cnn"
    width: Annotated[int, Field(ge=16, le=1024, multiple_of=8)] = Field(128, description="channels of each member")
    members: Annotated[int, Field(ge=1, le=8)] = Field(
        1,
        description="networks of this shape whose logits are averaged, trained and served as one network with grouped convolutions; "
        "two of width 96 are faster and more accurate than one of 192",
    )
    architecture: Annotated[str, Content.GENOTYPE] = Field(
        "searched",
        description="'searched', 'random' (sampled with the recipe's seed, within search.max_cost), 'residual' (hand-made: conv3 and identity "
        "in parallel), or the path of a genotype.json, for example from the search of another task",
    )
    max_cells: Annotated[int, Field(ge=1, le=8)] = Field(
        2,
        description="K_max, the largest number of cells in the search; a random or residual architecture has exactly this many",
    )
    halvings: Annotated[int, Field(ge=0, le=8)] = Field(
        0,
        description="cells, from the first, that see half of the positions of the one before, through a convolution of five with a "
        "stride of 2; 0: all cells see every token",
    )
    pair_inputs: Literal["aligned", "together", "streams"] = Field(
        "aligned",
        description="the two inputs of the first cell for a pair of texts: both texts, and each token with its match in the other text "
        "(aligned); both texts in both inputs (together); one text in each input, as in AdaBERT (streams)",
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.2, description="share of the features that are set to zero in training"
    )
    token_dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.1, description="share of the tokens that are set to zero in training"
    )


class TransformerOptions(Section):
    """A small BERT: layers copied from a larger one, or a model of its own size."""

    kind: Literal["transformer"] = "transformer"
    init: Annotated[str, Content.INIT] = Field(
        "teacher",
        description="initial weights: 'teacher' (layers of the fine-tuned teacher), 'pretrained' (layers of teacher.model before "
        "fine-tuning), 'random', or a local directory or hub id of a small BERT",
    )
    layers: Positive = Field(3, description="number of layers that are copied, or of a random student")
    copied: Literal["skip", "first", "last"] | list[Positive] = Field(
        "skip",
        description="which layers to copy: layers at equal distances, the last included (skip); the first; the last; or their numbers",
    )
    width: Positive | None = Field(None, description="hidden size of a random student; default: 312")
    heads: Positive | None = Field(None, description="attention heads of a random student; default: 12")
    intermediate: Positive | None = Field(
        None, description="inner size of the feed-forward layers of a random student; default: 4 × width"
    )

    @model_validator(mode="after")
    def _check_size(self) -> TransformerOptions:
        given = [name for name in ("width", "heads", "intermediate") if getattr(self, name) is not None]
        if self.init != "random" and given:
            raise ValueError(f'{given[0]} comes from the copied model; it can be set only with init = "random"')
        if self.init == "random" and (self.width or 312) % (self.heads or 12):
            raise ValueError(f"width {self.width or 312} is not a multiple of heads {self.heads or 12}")
        if self.init not in ("teacher", "pretrained") and self.copied != "skip":
            raise ValueError(f"copied: no layers are copied with init = {self.init!r}; leave it out")
        if isinstance(self.copied, list) and len(set(self.copied)) < len(self.copied):
            raise ValueError(f"copied: a layer is named twice in {self.copied}")
        if isinstance(self.copied, list) and len(self.copied) != self.layers:
            raise ValueError(f"copied names {len(self.copied)} layers, but layers = {self.layers}")
        return self


class BiLstmOptions(Section):
    """A one-layer bidirectional LSTM (arXiv 1903.12136)."""

    kind: Literal["bilstm"] = "bilstm"
    width: Annotated[int, Field(ge=8, le=1024)] = Field(256, description="size of the word embeddings")
    hidden: Annotated[int, Field(ge=8, le=1024)] = Field(150, description="size of each direction's state")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.2, description="share of the features that are set to zero in training"
    )


StudentOptions = Annotated[CnnOptions | TransformerOptions | BiLstmOptions, Field(discriminator="kind")]
