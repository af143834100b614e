"""The section `augmentation`: how further training texts of the student are made."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from compress.recipe.sections.base import Positive, Probability, Rate, Section, Weight

Copies = Annotated[int, Field(gt=0, le=100, description="augmented texts for each training text")]
Fraction = Annotated[float, Field(gt=0, lt=1)]


class NoAugmentation(Section):
    """The labelled texts only."""

    method: Literal["none"] = "none"


class SpansOptions(Section):
    """Contiguous spans of each text, with 15 to 85 % of its words."""

    method: Literal["spans"] = "spans"
    copies: Copies = 2


class EdaOptions(Section):
    """Easy data augmentation: synonyms, insertion, swap, deletion (arXiv 1901.11196)."""

    method: Literal["eda"] = "eda"
    copies: Copies = 2
    alpha: Fraction = Field(0.1, description="share of the words that an operation changes")


class MaskedLmOptions(Section):
    """The training of the masked language model of an augmentation.

    Its head is trained if the checkpoint has none. The fine-tuning of CBERT with labels has the same settings.
    """

    epochs: Positive = Field(3, description="passes of the language model over the texts")
    learning_rate: Rate = Field(5e-4, description="highest learning rate of the language model")
    batch_size: Positive = Field(32, description="texts in a step of the language model")


class CbertOptions(MaskedLmOptions):
    """Label-conditional masked language model (arXiv 1812.06705)."""

    method: Literal["cbert"] = "cbert"
    copies: Copies = 2
    mask: Fraction = Field(0.15, description="share of the words replaced")
    temperature: Rate = Field(1.0, description="temperature of the sampled words; lower is more cautious")
    top_k: Positive = Field(50, description="sample from this many most probable words")


class ReplacementOptions(MaskedLmOptions):
    """TinyBERT's word replacement (arXiv 1909.10351, Alg. 1).

    Candidates come from a masked language model. For a word of several tokens they are the nearest word embeddings.
    """

    method: Literal["tinybert"] = "tinybert"
    copies: Copies = 2
    probability: Fraction = Field(0.4, description="chance that a word is replaced")
    candidates: Positive = Field(15, description="number of most probable words to choose from")


class SamplingOptions(Section):
    """Masking, same-POS replacement and n-gram sampling (arXiv 1903.12136 §3.3)."""

    method: Literal["sampling"] = "sampling"
    copies: Copies = 5
    mask: Probability = Field(0.1, description="chance that a word is masked")
    pos: Probability = Field(0.1, description="chance that a word is replaced by one of the same part of speech")
    ngram: Probability = Field(0.25, description="chance that only an n-gram of the text is kept")


class GenerationOptions(MaskedLmOptions):
    """The settings of the sampler of `gibbs` and `l2a`."""

    copies: Copies = 2
    sweeps: Annotated[float, Field(gt=0, le=100)] = Field(
        0.25, description="how often each word is resampled, in random order; 0.25: a quarter of the words, once"
    )
    block: Positive = Field(
        1,
        description="words of a text that are sampled in one forward pass, given all other words; 1 is exact, more is faster",
    )
    temperature: Rate = Field(1.0, description="temperature of the sampled words; lower is more cautious")
    top_k: Annotated[int, Field(ge=0)] = Field(
        50, description="sample from this many most probable words; 0: from all words"
    )
    metropolis: bool = Field(
        False,
        description="accept a sample by the Metropolis-Hastings rule for the text's pseudo-likelihood (arXiv 2106.02736); "
        "every sample then costs one forward pass for each word of the text",
    )

    @model_validator(mode="after")
    def _check_metropolis(self) -> Self:
        if self.metropolis and (self.block > 1 or self.top_k):
            raise ValueError(
                "metropolis needs block = 1 and top_k = 0, so that every text can be reached from every other"
            )
        return self


class GibbsOptions(GenerationOptions):
    """Gibbs sampling from a masked language model (arXiv 1902.04094): words are masked and sampled one after another."""

    method: Literal["gibbs"] = "gibbs"


class SelectorOptions(Section):
    """The selector of L2A, trained by reinforcement learning.

    It decides which texts the student learns from, besides the labelled texts of the target.
    """

    keep: Literal["learned", "all", "random"] = Field(
        "learned",
        description="which samples, source texts and unlabelled texts to keep: those that the policy chooses, all, or a random choice of as "
        "many as the policy keeps",
    )
    pool: Annotated[int, Field(ge=2)] = Field(
        64, description="texts of an episode; the policy makes one step for each episode"
    )
    reward: Literal["loss", "accuracy"] = Field(
        "accuracy",
        description="the reward, measured on dev: the decrease of the loss, or the increase of the expected accuracy, which is the mean "
        "probability of the right label",
    )
    credit: Literal["text", "episode"] = Field(
        "text",
        description="the reward of a text: its own first-order share of the episode's gain, or the gain of the whole episode, as in plain "
        "REINFORCE",
    )
    dev_sample: Annotated[int, Field(ge=8)] = Field(
        128,
        description="dev texts for measuring the credit of each text; the gain of a whole episode is measured on all dev texts",
    )
    hidden: Positive = Field(64, description="width of the policy's hidden layer")
    learning_rate: Rate = Field(
        0.3, description="learning rate of the policy (plain gradient descent; advantages are scaled to 1)"
    )
    prior: Fraction = Field(
        0.5, description="probability of keeping a text at the start; the policy is drawn back to it by kl"
    )
    kl: Weight = Field(
        0.25,
        description="weight of the KL divergence from the prior; with prior = 0.5 it is the entropy bonus of plain REINFORCE",
    )
    baseline: Annotated[float, Field(ge=0, lt=1)] = Field(0.8, description="decay of the moving average of the rewards")


class L2aOptions(GenerationOptions):
    """Learning to augment (arXiv 2101.08106): Gibbs samples of target and source texts, and a policy that selects among them."""

    method: Literal["l2a"] = "l2a"
    source_share: Probability | None = Field(
        None, description="share of the samples that are made from source texts; default: 0.5, or 0 without a source"
    )
    selector: SelectorOptions = Field(SelectorOptions(), description="which of the samples are kept")


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
