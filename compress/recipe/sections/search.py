"""The section `search`: how the architecture of a cnn is searched, and how much it may cost."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from compress.recipe.sections.base import Positive, Rate, Section, Weight

# What only a search by gradients has.
_OF_THE_SUPERNET = ("epochs", "cost", "inherit", "gumbel", "dense", "architecture_every", "architecture_learning_rate")


class SearchOptions(Section):
    """Search of the cnn's architecture: of its cell (arXiv 2001.04246), or of its sizes too."""

    space: Literal["paper", "wide"] = Field(
        "paper",
        description="what is searched: the cell of AdaBERT by gradients, then in trials, at the sizes of section student (paper); or in trials "
        "alone the cell, width, members and halvings (wide), which the section then gives a start",
    )
    epochs: Positive = Field(2, description="passes of the search over the texts")
    beta: Weight = Field(
        0.1,
        description="weight of the efficiency loss L_E, which is in [0, 1]; if a bound on the cost is set, it has no effect on the "
        "choice among the architectures tried",
    )
    cost: Literal["measured", "measured-gpu", "computed"] = Field(
        "measured",
        description="cost of an operation: its INT8 time on this CPU and its size (measured), its fp32 time on this GPU and its size "
        "(measured-gpu), or FLOPs and size as in the paper (computed)",
    )
    trials: Annotated[int, Field(ge=0)] = Field(
        16,
        description="number of architectures to train for a short time before one is chosen: likely ones by the search, hand-made ones, "
        "and variations of the best; 0: the most likely one is taken without a trial, as in the paper",
    )
    trial_steps: Positive = Field(200, description="length of such a trial, in batches")
    rounds: Annotated[int, Field(ge=1, le=8)] = Field(
        1,
        description="rounds of successive halving (arXiv 1502.07943): each trains the better half of the last one anew, for twice as many steps",
    )
    strategy: Literal["evolution", "random"] = Field(
        "evolution",
        description="what is tried: variations of the best so far (evolution), or architectures drawn at random, to compare with (random)",
    )
    widths: Annotated[list[Annotated[int, Field(ge=16, le=1024, multiple_of=8)]], Field(min_length=1)] = Field(
        [64, 96, 128, 192, 256],
        description="channels that a network of the wide space may have, all its members together at most the largest",
    )
    inherit: bool = Field(
        False,
        description="start the final training from the weights of the search, as in the paper; by default only its word embeddings start "
        "from something known, as for any other architecture",
    )
    max_cost: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0,
        description="highest cost of the architecture, as a share of the cost of the most expensive one; another value needs no new search",
    )
    max_parameters: Positive | None = Field(None, description="highest number of parameters of the student")
    gumbel: tuple[Rate, Rate] = Field((1.0, 0.2), description="first and last Gumbel-softmax temperature")
    dense: bool = Field(
        True, description="in architecture steps, compute all ten operations of an edge, not only the sampled one"
    )
    architecture_every: Positive = Field(4, description="weight steps for each architecture step")
    architecture_learning_rate: Rate = Field(2e-2, description="learning rate of the architecture (Adam)")

    @model_validator(mode="after")
    def _check_widths(self) -> SearchOptions:
        if sorted(set(self.widths)) != self.widths:
            raise ValueError(f"widths: {self.widths} is not in ascending order, each once")
        return self

    def rounds_of_trials(self) -> list[tuple[int, int]]:
        """How many trials each round has, and how many steps each of them."""
        numbers = [self.trials]
        while len(numbers) < self.rounds and numbers[-1] > 1:
            numbers.append((numbers[-1] + 1) // 2)
        return [(number, self.trial_steps * 2**place) for place, number in enumerate(numbers)]

    def unused_setting(self) -> str | None:
        """A setting that differs from its default and has no effect; None if there is none."""
        unused = _OF_THE_SUPERNET if self.space == "wide" else ("widths",)
        defaults = type(self).model_fields
        return next((name for name in unused if getattr(self, name) != defaults[name].default), None)
