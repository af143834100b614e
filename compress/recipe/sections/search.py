"""The section `search`: how the architecture of a cnn is searched, and how much it may cost."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from compress.recipe.sections.base import Positive, Rate, Section, Weight


class SearchOptions(Section):
    """Differentiable search of the cnn's cell (arXiv 2001.04246)."""

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
