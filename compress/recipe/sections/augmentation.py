"""The recipe's `augmentation` section: how the student's texts are multiplied, and by which settings."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from compress.recipe.sections.base import Positive, Probability, Rate, Section, Weight

Copies = Annotated[int, Field(gt=0, le=100)]
Fraction = Annotated[float, Field(gt=0, lt=1)]


class NoAugmentation(Section):
    """The labelled texts only."""

    method: Literal["none"] = "none"


class SpansOptions(Section):
    """Contiguous stretches of each text, 15-85 % of its words."""

    method: Literal["spans"] = "spans"
    copies: Copies = Field(2, description="augmented texts made of each training text")


class EdaOptions(Section):
    """Easy data augmentation: synonyms, insertion, swap, deletion (arXiv 1901.11196)."""

    method: Literal["eda"] = "eda"
    copies: Copies = 2
    alpha: Fraction = Field(0.1, description="share of the words that an operation changes")


class MaskedLmOptions(Section):
    """Training of the masked language model behind an augmentation: its head where the checkpoint has none.

    CBERT's fine-tuning with labels is as long.
    """

    epochs: Positive = 3
    learning_rate: Rate = 5e-4
    batch_size: Positive = 32


class CbertOptions(MaskedLmOptions):
    """Label-conditional masked language model (arXiv 1812.06705)."""

    method: Literal["cbert"] = "cbert"
    copies: Copies = 2
    mask: Fraction = Field(0.15, description="share of the words replaced")
    temperature: Rate = 1.0
    top_k: Positive = 50


class ReplacementOptions(MaskedLmOptions):
    """TinyBERT's word replacement: masked-LM candidates, nearest embeddings for split words (arXiv 1909.10351, Alg. 1)."""

    method: Literal["tinybert"] = "tinybert"
    copies: Copies = 2
    probability: Fraction = Field(0.4, description="chance that a word is replaced")
    candidates: Positive = Field(15, description="likeliest words to choose from")


class SamplingOptions(Section):
    """Masking, same-POS replacement and n-gram sampling (arXiv 1903.12136 §3.3)."""

    method: Literal["sampling"] = "sampling"
    copies: Copies = 5
    mask: Probability = 0.1
    pos: Probability = 0.1
    ngram: Probability = 0.25


class GenerationOptions(MaskedLmOptions):
    """The sampler behind `gibbs` and `l2a`."""

    copies: Copies = 2
    sweeps: Annotated[float, Field(gt=0, le=100)] = Field(
        0.25, description="how often each word is visited, in random order; 0.25: a quarter of the words, once"
    )
    block: Positive = Field(
        1, description="words of a text drawn in one pass, each given the words that stay; 1 is exact, more is faster"
    )
    temperature: Rate = 1.0
    top_k: Annotated[int, Field(ge=0)] = Field(50, description="draw from so many of the likeliest words; 0: from all")
    metropolis: bool = Field(
        False,
        description="accept a draw by the Metropolis-Hastings rule for the text's pseudo-likelihood (arXiv 2106.02736); "
        "costs a pass for every word of the text at each draw",
    )

    @model_validator(mode="after")
    def _check_metropolis(self) -> Self:
        if self.metropolis and (self.block > 1 or self.top_k):
            raise ValueError("metropolis needs block = 1 and top_k = 0: every text must be within reach of every other")
        return self


class GibbsOptions(GenerationOptions):
    """Gibbs sampling from a masked language model: every word in turn is masked and drawn anew (arXiv 1902.04094)."""

    method: Literal["gibbs"] = "gibbs"


class SelectorOptions(Section):
    """The reinforced selector of L2A: which texts the student learns from besides the labelled ones of the target."""

    keep: Literal["learned", "all", "random"] = Field(
        "learned",
        description="of samples, and of real texts of the source or without labels: the policy decides, every text is kept, or as "
        "many as the policy would keep, at random",
    )
    pool: Annotated[int, Field(ge=2)] = Field(64, description="texts of an episode, the policy's step")
    reward: Literal["loss", "accuracy"] = Field(
        "accuracy",
        description="what is rewarded on dev: the fall of the loss, or the rise of the expected accuracy, which is the mean "
        "probability of the right label",
    )
    credit: Literal["text", "episode"] = Field(
        "text",
        description="each text is credited with its own first-order share of an episode's gain, or all with the whole of it, "
        "as plain REINFORCE does",
    )
    dev_sample: Annotated[int, Field(ge=8)] = Field(
        128,
        description="dev texts that an episode's credits are measured on; a gain that rewards a whole episode is measured on all",
    )
    hidden: Positive = Field(64, description="width of the policy's hidden layer")
    learning_rate: Rate = Field(0.3, description="of plain gradient descent; advantages are scaled to one")
    prior: Fraction = Field(
        0.5, description="probability of keeping a text that the policy starts with, and leaves only for a reason"
    )
    kl: Weight = Field(
        0.25,
        description="weight of the divergence from that prior; with prior = 0.5 it is the entropy bonus of plain REINFORCE",
    )
    baseline: Annotated[float, Field(ge=0, lt=1)] = Field(0.8, description="decay of the moving average of the rewards")


class L2aOptions(GenerationOptions):
    """Learning to augment: Gibbs samples from target and source texts, kept or dropped by a policy (arXiv 2101.08106)."""

    method: Literal["l2a"] = "l2a"
    source_share: Probability | None = Field(
        None, description="share of the samples that start from source texts; default: half, or none without a source"
    )
    selector: SelectorOptions = SelectorOptions()


AugmentationOptions = Annotated[
    NoAugmentation
    | SpansOptions
    | EdaOptions
    | CbertOptions
    | ReplacementOptions
    | SamplingOptions
    | GibbsOptions
    | L2aOptions,
    Field(discriminator="method"),
]
