"""What all engines share: their fields, how a task offers them, and the model that they open."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from bench.inputs import Texts
from compress.runtime.encode import TextEncoder, pad_batch

if TYPE_CHECKING:
    from bench.task import Task

Family = Literal["bert", "teacher", "student", "rival"]  # rival: what a user could take in the place of a student
FAMILIES: tuple[Family, ...] = get_args(Family)  # in the order of the tables
FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Classifier:
    """A classifier of the task, whatever runs it."""

    family: Family
    title: str
    tokenizer: Path  # a tokenizer.json; lengths are counted in its tokens
    pad_token_id: int
    max_length: int  # tokens of a text, or of a pair; the rest is cut off
    scored: bool  # it was trained for the task, so its accuracy has a meaning
    note: str = ""  # shown under the tables
    nanotoken: str | None = (
        None  # the version that gives this tokenizer's ids, see `TextEncoder`; None: `tokenizers` is used
    )


class Engine(BaseModel, ABC):
    """One way to run one classifier. It holds all that a fresh process needs to open it, and travels there as JSON."""

    model_config = ConfigDict(frozen=True)
    timed: ClassVar[bool] = True  # whether its time has a meaning
    includes: ClassVar[str] = "tokenisation, network"  # what a time of it is of

    name: str  # for --only and --skip
    title: str  # in tables and plots
    family: Family
    path: Path  # a checkpoint's directory, an .onnx file or a bundle
    precision: str  # fp32, bf16 or int8; in a bundle, the bundle's own name of a model
    tokenizer: Path
    pad_token_id: int
    max_length: int
    scored: bool
    note: str = ""
    nanotoken: str | None = None

    @classmethod
    @abstractmethod
    def offers(cls, task: Task) -> Iterator[Offer]:
        """The engines of this kind that the task can have.

        :raises UserError: the task has no bundle, if this kind needs one.
        """

    @abstractmethod
    def open(self, threads: int, device: str) -> Model:
        """Load tokenizer and model.

        :param device: "cpu" or "cuda".
        :raises UserError: a file is missing or broken, or the device is not there.
        """

    @classmethod
    def of(cls, classifier: Classifier, *, runner: str, **own: Any) -> Self:
        """Make the engine for a classifier.

        :param runner: software and precision; it becomes the second half of the title, if there is any.
        :param own: the fields that the classifier does not have.
        """
        shared = asdict(classifier) | {
            "title": f"{classifier.title} · {runner}" if runner else classifier.title,
            "tokenizer": classifier.tokenizer.absolute(),
        }
        return cls(**shared, **own)


@dataclass(frozen=True)
class Offer:
    """An engine that a task can have; `make` finds its files, or makes them."""

    name: str
    family: Family
    make: Callable[[], Engine]  # raises UserError if a file is missing or belongs to another task
    by_default: bool = True  # whether it is measured without being asked for


class Model(ABC):
    """An opened classifier.

    :raises UserError: the tokenizer is missing or broken.
    """

    file_bytes: int  # size of what is loaded from the disk
    pads: ClassVar[bool] = True  # whether a batch is an array of token ids, padded to its longest text

    def __init__(self, engine: Engine) -> None:
        self.encoder = TextEncoder(engine.tokenizer, engine.max_length, nanotoken=engine.nanotoken)
        self._pad_token_id = engine.pad_token_id

    def encode(self, texts: Texts) -> Any:
        """What `logits` takes. By default: token ids, padded to the longest text, as arrays (B, L).

        It is timed as tokenisation.
        """
        return pad_batch(self.encoder.encode(texts.first, texts.second), self._pad_token_id)

    @abstractmethod
    def logits(self, batch: Any) -> FloatArray:
        """Logits (B, C) in the host's memory. The largest one of a row is the answer."""

    @abstractmethod
    def parameters(self) -> int | None:
        """Number of weights; None if the file does not tell."""


def precision_title(precision: str) -> str:
    """A precision as titles show it: `INT8`, but `fp32`."""
    return precision.upper() if precision.startswith("int") else precision
