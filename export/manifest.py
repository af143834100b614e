"""The content of `manifest.json`, which says what a bundle holds and how it was made. No torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

FORMAT = 3
ENGINE_GRAPH = "tensorrt-qdq"  # the precision of the graph from which an engine is built


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileEntry(_Part):
    """Hash and size of a file of the bundle."""

    sha256: str
    bytes: int


class ShapeProfile(_Part):
    """The shapes (B, L) of the batches that an engine takes, and the one for which it is the fastest."""

    smallest: tuple[int, int]
    optimal: tuple[int, int]
    largest: tuple[int, int]


class Engine(_Part):
    """The TensorRT package, its version and the GPU for which an engine was built. The engine runs with no other."""

    package: Literal["tensorrt", "tensorrt-rtx"]
    version: str
    compute_capability: str
    shapes: ShapeProfile
    graph_sha256: str | None = None  # of the ONNX graph that it was built from; None: not recorded


class ClassAccuracy(_Part):
    """The accuracy on the dev texts of one label."""

    label: str
    texts: int  # of this label in dev
    accuracy: float  # a fraction of 1
    drop: float  # points lost against the fp32 student


class Attempt(_Part):
    """One way to quantise that was tried, and what the accuracy gate said about it."""

    quantisation: str
    float_layers: list[str]  # nodes of the graph that stayed in float, besides the output layers
    drop: float  # points of dev accuracy lost against the fp32 student
    agreement: float  # share of the dev texts that get the label that the fp32 student gives them
    passed: bool


class Calibration(_Part):
    """How the scores of a model became probabilities: softmax(logits / temperature). See `export.calibration`.

    The errors are expected calibration errors (ECE), fractions of 1, by split.
    """

    temperature: float = Field(gt=0)
    ece_before: dict[str, float]
    ece_after: dict[str, float]


class DevAnswers(_Part):
    """What a model answered on dev. A server compares its answers with this (`serve.drift`). Shares are fractions of 1."""

    texts: int
    labels: dict[str, float]  # share of the texts that got each label
    score_edges: list[float]  # the upper end of each bin of the scores, but of the last: about tenths of dev
    score_shares: list[float]  # of the texts in each bin


class SeenTokens(_Part):
    """The tokens that occur in train. See `export.reference`."""

    bitmap: str  # a bit for each token, 1 if it occurs: base64 of zlib's format
    unseen_share: float  # of the tokens of dev, a fraction of 1


class ModelEntry(_Part):
    """One model of the bundle with the result of the accuracy gate. Accuracies are fractions, `drop` is in points."""

    file: str
    runtime: Literal["onnxruntime", "tensorrt"]
    engine: Engine | None = None
    dev_accuracy: float | None  # None: not measured, because the model could not run where it was built
    test_accuracy: float | None
    drop: float | None  # points of dev accuracy lost against the fp32 student
    passed: bool | None  # the drop is within the recipe's budget; None: not measured
    note: str  # how the model was made
    dev_error: float | None = None  # standard errors of the accuracies, fractions of 1
    test_error: float | None = None
    agreement: float | None = None  # share of the dev texts that get the label that the fp32 student gives them
    float_layers: list[str] = []  # nodes that stayed in float because INT8 lost too much there
    attempts: list[Attempt] = []  # what was tried until it passed, in this order
    # Mean squared error of the logits if only this layer is quantised, the worst first; {}: the whole graph passed the gate.
    sensitivity: dict[str, float] = {}
    classes: list[ClassAccuracy] = []  # those that lost most come first
    calibration: Calibration | None = None  # None: no logits were computed, or the bundle is older than this field
    dev_answers: DevAnswers | None = None  # None: as above, or the model is the teacher of a cascade

    @property
    def temperature(self) -> float:
        """By which its logits are divided before the softmax."""
        return self.calibration.temperature if self.calibration else 1.0


class CurvePoint(_Part):
    """What a cascade does on dev at one threshold. Shares and accuracies are fractions of 1."""

    share: float  # of the texts that go to the teacher: those whose score is at most the threshold
    threshold: float
    accuracy: float
    ms: float  # mean time of a text: the student's, and the teacher's for the share


class Route(_Part):
    """Which texts of a student go to the teacher. All figures are of dev."""

    chosen: CurvePoint
    curve: list[CurvePoint]  # from no text passed on to all of them, in steps of about a hundredth
    student_ms: float  # mean time of a text
    teacher_ms: float


class Cascade(_Part):
    """The teacher, which answers the texts of which the student is unsure."""

    precision: Literal["int8", "fp32"]
    teacher: ModelEntry
    tokenizer: str  # the bundle's own, unless the teacher's differs
    pad_token_id: int
    routes: dict[str, Route]  # by the precision of the student

    def route(self, precision: str) -> Route:
        """The route of a student. An engine, which was not run where it was built, has that of its graph: it computes the same."""
        return self.routes[precision if precision in self.routes else ENGINE_GRAPH]


class DomainEntry(_Part):
    """The models of the student of one domain. Their accuracies are measured on the texts of this domain."""

    default: str
    models: dict[str, ModelEntry]
    # Of the default model, on the dev texts of all domains. The domain with the highest one is `default_domain`.
    dev_accuracy_of_all: float
    provenance: dict[str, Any]
    golden: str | None = None  # file with golden examples; None: the recipe wants none
    seen_tokens: SeenTokens | None = None  # None: the bundle is older than this field
    cascade: Cascade | None = None  # None: the student answers all texts of this domain


class FastTokenizer(_Part):
    """The version of nanotoken that gave the ids of `tokenizers`, and on how many texts (or pairs)."""

    version: str
    task_texts: int  # all of the task
    odd_strings: int  # generated: all scripts, control characters, very long words, special tokens


class Manifest(_Part):
    """The content of `manifest.json`."""

    format: int
    name: str
    version: str
    created: str
    labels: list[str]
    max_length: int
    pair: bool
    pad_token_id: int
    default: str
    models: dict[str, ModelEntry]  # in a bundle with `domains`: the models of `default_domain`
    files: dict[str, FileEntry]
    provenance: dict[str, Any]
    domains: dict[str, DomainEntry] | None = None  # None: one student for all texts
    default_domain: str | None = None  # answers requests without a domain
    golden: str | None = None  # file with golden examples; in a bundle with `domains`, each domain has its own
    seen_tokens: SeenTokens | None = None  # None: the bundle is older than this field; each domain has its own too
    versions: dict[str, str] = {}  # of Python and of the packages that the bundle was made with
    fast_tokenizer: FastTokenizer | None = None  # None: texts are encoded by `tokenizers`
    cascade: Cascade | None = None  # None: the student answers all texts; each domain has its own too

    @property
    def parts(self) -> dict[str | None, Manifest | DomainEntry]:
        """The models of each domain; with one student for all texts, this manifest under the key None."""
        return {None: self} if self.domains is None else {domain: entry for domain, entry in self.domains.items()}  # noqa: C416 - for the types


def named_files(part: Manifest | DomainEntry) -> set[str]:
    """The files of the models of a part of a bundle."""
    names = {model.file for model in part.models.values()} | ({part.golden} if part.golden is not None else set())
    return names if part.cascade is None else names | {part.cascade.tokenizer, part.cascade.teacher.file}
