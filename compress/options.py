"""The sections of a recipe: what may be set, within which bounds, and what each setting means."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

Positive = Annotated[int, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Decontaminate = Literal["off", "exact", "overlap"]
SourceLearner = Literal["teacher", "language_model", "student"]
SPECIAL_ARCHITECTURES = ("searched", "random", "residual")  # of a cnn; anything else is a file
SPECIAL_INITS = ("pretrained", "teacher", "random")  # of a transformer student; anything else is a model


class Section(BaseModel):
    """A table of the recipe; unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TextOptions(Section):
    """Where labelled texts are and how to read them."""

    _section: str = PrivateAttr("data")
    source: Literal["embedded", "files", "hub"] = "embedded"
    train: Path | None = Field(None, description="training table: .tsv .csv .jsonl .parquet, or the first two .gz")
    hub: str | None = Field(None, description="dataset id on the Hugging Face hub, e.g. nyu-mll/glue")
    hub_config: str | None = Field(None, description="configuration of the hub dataset, e.g. sst2")
    text: str = Field("text", description="column with the text, or the first text of a pair")
    text_b: str | None = Field(None, description="column with the second text of a pair")
    label: str = Field("label", description="column with the label")
    domain: str | None = Field(None, description="column with the domain of a multi-domain corpus")
    only_domains: list[str] | None = Field(None, min_length=1, description="use the texts of these domains only")
    quoting: bool | None = Field(None, description="fields may be quoted; default: true for .csv, false for .tsv")
    limit: Positive | None = Field(
        None, description="use a sample of so many texts of each split (to try a recipe quickly)"
    )
    sample: Annotated[int, Field(ge=0)] = Field(0, description="which sample: another number takes other texts")

    @property
    def section(self) -> str:
        """The recipe's section that this is, for messages: data, or data.target or data.source where there are both."""
        return self._section

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if self.source == "files" and self.train is None:
            raise ValueError('source = "files" needs data.train, the path of the training table')
        if self.source == "hub" and self.hub is None:
            raise ValueError('source = "hub" needs data.hub, the dataset\'s id')
        if self.source == "embedded" and any(getattr(self, key, None) for key in ("train", "dev", "test", "hub")):
            raise ValueError('data.train, dev, test and hub need source = "files" or "hub"')
        if self.only_domains and self.domain is None and self.source != "embedded":
            raise ValueError("domains needs domain, the column that names a text's domain")
        return self


class DataOptions(TextOptions):
    """The task's data, or the target's where there is a source domain too."""

    dev: Path | None = Field(
        None, description="table for early stopping and the accuracy gate; carved from train if absent"
    )
    test: Path | None = Field(None, description="held-out table; carved too if dev is absent, else dev is reported")
    unlabelled: Path | None = Field(
        None,
        description="further texts in the same columns, without labels, for an augmentation's language model and `distil_unlabelled`",
    )
    distil_unlabelled: bool = Field(
        False,
        description="the student learns the teacher's answers on the unlabelled texts too, those of `unlabelled` and of the "
        "training texts left out",
    )
    labels: list[str] | None = Field(None, description="label names in the order of the logits; default: sorted")
    max_length: Annotated[int, Field(ge=8, le=512)] = Field(128, description="tokens kept of a text (or pair)")
    train_limit: Positive | None = Field(None, description="use a sample of so many training texts; dev and test whole")
    train_fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="the same as a share of the texts; those left out, by either, count as unlabelled"
    )
    decontaminate: Decontaminate = Field(
        "off",
        description="training and unlabelled texts to remove: those that equal a dev or test text (exact), or share a run of "
        "five words with one too (overlap); off only counts them. Unlabelled examples that are one of dev or test as a whole "
        "are always removed",
    )


class SourceOptions(TextOptions):
    """A source domain: labelled texts of the same task from elsewhere, where the target's are scarce."""

    _section: str = PrivateAttr("data.source")
    relabel: dict[str, str] = Field({}, description="the target's label for each label that is called otherwise here")
    use: list[SourceLearner] | None = Field(
        None,
        description="who learns from these texts as they are; default: teacher and language model, and with L2A the student too, "
        "whose selector decides on each of them",
    )
    decontaminate: Decontaminate = Field(
        "overlap", description="as in the target's data, against its dev and test texts"
    )


class TrainOptions(Section):
    """One training: how long, in what steps."""

    epochs: Positive = 1
    batch_size: Positive = 32
    learning_rate: Rate = 5e-5
    weight_decay: Weight = 0.01
    warmup: Annotated[float, Field(ge=0, lt=1)] = Field(0.1, description="fraction of the steps with a rising rate")
    patience: Positive = Field(3, description="evaluations without a better dev metric before stopping")
    max_grad_norm: Rate = 1.0


class TeacherOptions(TrainOptions):
    """The uncompressed classifier."""

    model: str = Field("embedded", description="'embedded' (MiniLM-L6-H384), a local directory or a hub id")
    fine_tuned: bool = Field(False, description="the model already classifies into these labels: do not train it")
    method: Literal["finetune", "meta"] = Field(
        "finetune", description="'meta': a meta-teacher over the domains of the texts (arXiv 2012.01266)"
    )


class MetaOptions(Section):
    """Meta-KD (arXiv 2012.01266): what a meta-teacher learns, and what it passes on."""

    corruption: Weight = Field(0.5, description="γ1, weight of the domain corruption in the teacher's loss; 0: none")
    expertise: bool = Field(True, description="weight each example by what the meta-teacher knows of it")
    transfer: Weight = Field(
        0.5, description="γ2, weight of the transfer loss, for objectives that compare inner states; 0: none"
    )


class DomainOptions(Section):
    """Which domains of a multi-domain corpus the teacher learns from and the student is for."""

    student: str | None = Field(None, description="the student learns from and is judged on this domain; default: all")
    students: Literal["shared", "per-domain"] = Field(
        "shared", description="one student for all domains, or one for each"
    )
    teacher: Literal["all", "own"] = Field(
        "all", description="the teacher learns from all domains or the student's own"
    )
    leave_out: list[str] = Field([], description="domains of which the teacher sees nothing")

    @model_validator(mode="after")
    def _check_scope(self) -> DomainOptions:
        if self.student is not None and self.students == "per-domain":
            raise ValueError(
                'student names one domain, and students = "per-domain" makes one for each; set one of them'
            )
        if self.teacher == "own" and self.student is None and self.students == "shared":
            raise ValueError('teacher = "own" needs domains.student, or students = "per-domain"')
        if self.teacher == "own" and self.leave_out:
            raise ValueError('leave_out says what a teacher of all domains does not see; teacher = "own" has one only')
        return self


class CnnOptions(Section):
    """A convolutional student whose cell is searched (AdaBERT)."""

    kind: Literal["cnn"] = "cnn"
    width: Annotated[int, Field(ge=16, le=1024, multiple_of=8)] = Field(128, description="channels")
    architecture: str = Field(
        "searched",
        description="'searched', 'random' (drawn with the recipe's seed, of search.max_cost), 'residual' (hand-made, conv3 beside identity), "
        "or a genotype.json, say of another task's search",
    )
    max_cells: Annotated[int, Field(ge=1, le=8)] = Field(
        2, description="K_max, the deepest student considered; a random or residual one has so many cells"
    )
    pair_inputs: Literal["aligned", "together", "streams"] = Field(
        "aligned",
        description="of a pair of texts, what the first cell's two inputs are: both texts, and each token beside its match in the "
        "other text; both texts on both; or one text on each, as in AdaBERT",
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    token_dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.1, description="share of tokens zeroed in training")


class TransformerOptions(Section):
    """A small BERT: layers copied from a larger one, or of its own size."""

    kind: Literal["transformer"] = "transformer"
    init: str = Field(
        "teacher",
        description="'teacher' (layers of the fine-tuned teacher), 'pretrained' (of the model the teacher was made from), "
        "'random', or a local directory or hub id of a small BERT",
    )
    layers: Positive = Field(3, description="layers copied, or of a random student")
    copied: Literal["skip", "first", "last"] | list[Positive] = Field(
        "skip",
        description="which layers to copy: every so-many-th up to the last, the first, the last, or their numbers",
    )
    width: Positive | None = Field(None, description="hidden size of a random student (312)")
    heads: Positive | None = Field(None, description="attention heads of a random student (12)")
    intermediate: Positive | None = Field(None, description="inner size of its feed-forward layers (4 × width)")

    @model_validator(mode="after")
    def _check_size(self) -> TransformerOptions:
        given = [name for name in ("width", "heads", "intermediate") if getattr(self, name) is not None]
        if self.init != "random" and given:
            raise ValueError(f'{given[0]} is that of the copied model; only init = "random" chooses its own')
        if self.init == "random" and (self.width or 312) % (self.heads or 12):
            raise ValueError(f"width {self.width or 312} is not a multiple of heads {self.heads or 12}")
        if isinstance(self.copied, list) and len(self.copied) != self.layers:
            raise ValueError(f"copied names {len(self.copied)} layers, but layers = {self.layers}")
        return self


class BiLstmOptions(Section):
    """A one-layer bidirectional LSTM (arXiv 1903.12136)."""

    kind: Literal["bilstm"] = "bilstm"
    width: Annotated[int, Field(ge=8, le=1024)] = Field(256, description="size of the word embeddings")
    hidden: Annotated[int, Field(ge=8, le=1024)] = Field(150, description="size of each direction's state")
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2


StudentOptions = Annotated[CnnOptions | TransformerOptions | BiLstmOptions, Field(discriminator="kind")]


class NoObjective(Section):
    """The labels only: what the student learns without a teacher."""

    method: Literal["none"] = "none"


class ProbesObjective(Section):
    """AdaBERT's probe distillation: every cell learns from the probe of its teacher layer."""

    method: Literal["probes"] = "probes"
    gamma: Probability = Field(0.8, description="share of distillation in the loss")
    tau: Rate = Field(1.0, description="temperature of the probe weights")


class LogitsObjective(Section):
    """Soft labels (Hinton et al. 2015): (1 − α)·CE + α·τ²·KL."""

    method: Literal["logits"] = "logits"
    temperature: Rate = 2.0
    alpha: Probability = 0.9


class MseObjective(Section):
    """Mean squared error of the logits (arXiv 1903.12136): (1 − α)·CE + α·MSE."""

    method: Literal["mse"] = "mse"
    alpha: Probability = 1.0


class DistilBertObjective(Section):
    """DistilBERT's triple loss: soft labels, labels, cosine of the last hidden states (arXiv 1910.01108)."""

    method: Literal["distilbert"] = "distilbert"
    temperature: Rate = 2.0
    soft: Weight = Field(5.0, description="weight of the soft labels")
    hard: Weight = Field(2.0, description="weight of the labels")
    cosine: Weight = Field(1.0, description="weight of the cosine loss")


class PkdObjective(Section):
    """Patient knowledge distillation: [CLS] of matched layers besides soft labels (arXiv 1908.09355)."""

    method: Literal["pkd"] = "pkd"
    temperature: Rate = 5.0
    alpha: Probability = Field(0.7, description="share of the soft labels against the labels")
    beta: Weight = Field(100.0, description="weight of the patient loss")
    layers: Literal["skip", "last"] = Field("skip", description="which teacher layers the student's are matched to")


class TwoStageObjective(Section):
    """An objective whose first stage learns the teacher's inner states and whose second learns its predictions."""

    intermediate_epochs: Positive = Field(2, description="epochs of the first stage; compress.epochs are the second's")
    intermediate_learning_rate: Rate = 1e-4


class TinyBertObjective(TwoStageObjective):
    """Embeddings, hidden states and attention scores, then predictions (arXiv 1909.10351)."""

    method: Literal["tinybert"] = "tinybert"
    temperature: Rate = 1.0


class MiniLmObjective(TwoStageObjective):
    """Attention and value relations of the last layer, then predictions (arXiv 2002.10957)."""

    method: Literal["minilm"] = "minilm"
    temperature: Rate = 1.0


ObjectiveOptions = Annotated[
    NoObjective
    | ProbesObjective
    | LogitsObjective
    | MseObjective
    | DistilBertObjective
    | PkdObjective
    | TinyBertObjective
    | MiniLmObjective,
    Field(discriminator="method"),
]


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


class CompressOptions(Section):
    """The training of the student."""

    preset: str = Field("adabert", description="names the augmentation, student and objective that are not set")
    epochs: Positive
    batch_size: Positive
    learning_rate: Rate
    weight_decay: Weight = 0.01
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    average: Annotated[float, Field(ge=0, lt=1)] = Field(
        description="decay of the weights' moving average, a step; 0: none is taken"
    )
    patience: Positive = 4
    max_grad_norm: Rate = 1.0
    quantization_epochs: Annotated[int, Field(ge=0)] = Field(
        0,
        description="then fine-tune with INT8's rounding for so many passes, for a student that fails the export's gate",
    )


class ExportOptions(Section):
    """Precisions to build and the accuracy they may cost."""

    precisions: list[Literal["fp32", "int8"]] = Field(["fp32", "int8"], min_length=1)
    budget: Weight = Field(1.0, description="points of dev accuracy a precision may lose")
    calibration_texts: Annotated[int, Field(ge=16)] = Field(512, description="training texts that set the INT8 ranges")
    compute_capability: Annotated[str, Field(pattern=r"^\d{1,2}\.\d$")] = Field(
        "8.9", description="GPU of a TensorRT engine"
    )


class BenchOptions(Section):
    """What `python -m bench compare` measures."""

    threads: Positive = 1
    lengths: list[Annotated[int, Field(ge=4, le=512)]] = Field([32, 128], min_length=1)
    batch_size: Positive = 32
    texts: Positive = Field(200, description="the task's own texts, each timed at batch 1")
    seconds: Rate = Field(5.0, description="measuring time of one cell of the table")
