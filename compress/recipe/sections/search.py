"""The section `search`: how the architecture of a cnn is found, and what it may cost."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from compress.recipe.sections.base import Positive, Rate, Section, Weight


class SearchOptions(Section):
    """Differentiable search of the cnn's cell (arXiv 2001.04246)."""

    epochs: Positive = 2
    beta: Weight = Field(
        0.1,
        description="weight of the efficiency loss L_E, which is in [0, 1]; where a bound is set, the bound alone decides "
        "among the architectures tried",
    )
    cost: Literal["measured", "measured-gpu", "computed"] = Field(
        "measured",
        description="an operation's cost: its INT8 time on this CPU and its size, its fp32 time on this GPU and its size, or the "
        "paper's FLOPs and size",
    )
    trials: Annotated[int, Field(ge=0)] = Field(
        16,
        description="architectures trained briefly before one is chosen: what the search finds likely, what one would build by "
        "hand, and variations of the best; 0: the likeliest is taken untried, as in the paper",
    )
    trial_steps: Positive = Field(200, description="length of such a training, in batches")
    inherit: bool = Field(
        False,
        description="start the final training from the weights that the search has trained, as the paper does; by default it starts "
        "from the teacher's word embeddings, as that of any other architecture",
    )
    max_cost: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0,
        description="the most that the architecture may cost, as a share of the costliest one; one search serves all",
    )
    max_parameters: Positive | None = Field(None, description="the most parameters that the student may have")
    target_latency_ms: Rate | None = Field(
        None,
        description="median time that an INT8 student may take to answer one text on this machine, tokenisation included, "
        "with bench.threads threads; the best of what was tried that is fast enough is taken",
    )
    gumbel: tuple[float, float] = Field((1.0, 0.2), description="first and last Gumbel-softmax temperature")
    dense: bool = Field(
        True, description="architecture steps compute all ten operations of an edge, not only the drawn one"
    )
    architecture_every: Positive = Field(4, description="weight steps to one architecture step")
    architecture_learning_rate: Rate = 2e-2

    @property
    def bounded(self) -> bool:
        """Whether the user says what the student may cost, in whatever unit; then β has no say in it."""
        return self.max_cost < 1 or self.max_parameters is not None or self.target_latency_ms is not None
