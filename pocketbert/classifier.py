"""A bundle as a Python object: texts in, labels out. No torch, and no HTTP."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, overload

from compress.html import html_table
from compress.runtime.errors import UserError
from export.bundle import find_bundle
from serve.messages import Prediction as Answer
from serve.messages import Predictions as Answers
from serve.messages import RefusedError, Request
from serve.predictor import Predictor
from serve.settings import Device, Settings

SHOWN = 20  # predictions that a notebook shows


@dataclass(frozen=True)
class Prediction:
    """The answer for one text, or for one pair of texts."""

    text: str
    text_b: str | None
    label: str  # the most probable one
    score: float  # its probability
    scores: dict[str, float]  # the probability of every label, the most probable first
    model: str | None = None  # "student" or "teacher", which of them answered; None: there is no cascade
    unsure: bool | None = None  # whether the score is below `unsure_below`; None: that is not set

    def as_dict(self, *, scores: bool = False) -> dict[str, Any]:
        """The prediction as plain JSON types.

        :param scores: with the probability of every label.
        """
        texts = {"text": self.text} if self.text_b is None else {"text": self.text, "text_b": self.text_b}
        asked = {"scores": self.scores if scores else None, "model": self.model, "unsure": self.unsure}
        given = {name: value for name, value in asked.items() if value is not None}
        return {**texts, "label": self.label, "score": self.score, **given}

    def __str__(self) -> str:
        return f"{self.label}\t{self.score:.4f}\t{self.shown}"

    @property
    def shown(self) -> str:
        """The one or two texts on one line."""
        return " ".join(" ‖ ".join([self.text, *([] if self.text_b is None else [self.text_b])]).split())


class Predictions(Sequence[Prediction]):
    """The answers for several texts, in the order of the texts. A notebook shows them as a table, `print` as lines."""

    def __init__(self, predictions: Iterable[Prediction]) -> None:
        self._predictions = tuple(predictions)

    @property
    def labels(self) -> list[str]:
        """The label of each text."""
        return [prediction.label for prediction in self]

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> Predictions: ...
    def __getitem__(self, index: int | slice) -> Prediction | Predictions:
        found = self._predictions[index]
        return found if isinstance(found, Prediction) else Predictions(found)

    def __len__(self) -> int:
        return len(self._predictions)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Predictions) and self._predictions == other._predictions

    def __hash__(self) -> int:
        return hash(self._predictions)

    def __repr__(self) -> str:
        return f"Predictions({list(self._predictions)!r})"

    def __str__(self) -> str:
        return "\n".join(map(str, self))

    def _repr_html_(self) -> str:
        rows = [[one.label, f"{one.score:.4f}", one.shown] for one in self[:SHOWN]]
        title = f"{len(self):,} texts, of which the first {SHOWN} are shown" if len(self) > SHOWN else ""
        return html_table(["label", "score", "text"], rows, title)


class Classifier:
    """A loaded bundle that answers with the same labels and scores as the service does.

    Made by `Classifier.load`. Two threads may call one classifier at the same time.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    @classmethod
    def load(
        cls,
        bundle: str | Path | None = None,
        *,
        precision: str | None = None,
        device: Literal["cpu", "cuda"] = "cpu",
        threads: int = 1,
        cascade: bool | None = None,
        threshold: float | None = None,
        unsure_below: float | None = None,
    ) -> Classifier:
        """Load a bundle. Its files are checked, and each of its models runs once.

        :param bundle: the directory of a bundle, or `artifacts/NAME`. None: the newest bundle in `artifacts`.
        :param precision: such as "int8", "fp32" or "tensorrt" (on a GPU). None: the default of the bundle.
        :param threads: CPU threads of one prediction.
        :param cascade: whether the teacher answers the texts of which the student is unsure. None: if the bundle has a cascade.
        :param threshold: a text goes to the teacher if the student's score is at most this. None: the bundle's.
        :param unsure_below: mark answers whose score is lower.
        :raises UserError: there is no bundle, a file of it is corrupt, it has not this precision or no cascade, or the device is
            missing.
        """
        if device not in get_args(Device):
            raise UserError(f"device {device!r}: choose {' or '.join(get_args(Device))}")
        if threads < 1:
            raise UserError(f"threads {threads}: must be 1 or more")
        for name, value in (("threshold", threshold), ("unsure_below", unsure_below)):
            if value is not None and not 0 <= value <= 1:
                raise UserError(f"{name} {value}: must be a number from 0 to 1")
        directory = find_bundle(None if bundle is None else Path(bundle))
        # `model_construct` and not the constructor, which would read the service's environment variables too.
        settings = Settings.model_construct(
            bundle=directory.absolute(),
            precision=precision,
            device=device,
            threads=threads,
            cascade=cascade,
            cascade_threshold=threshold,
            unsure_below=unsure_below,
        )
        return cls(Predictor(settings))

    @property
    def labels(self) -> list[str]:
        """All labels that there are."""
        return list(self._predictor.labels)

    @property
    def pair(self) -> bool:
        """Whether it classifies pairs of texts. Then `predict` needs `texts_b`."""
        return self._predictor.pair

    @property
    def domains(self) -> list[str]:
        """The domains that have a model of their own. Empty: one model for all texts."""
        return list(self._predictor.domains)

    @property
    def precision(self) -> str:
        """The precision of the model that answers."""
        return self._predictor.info.precision

    @property
    def cascade(self) -> bool:
        """Whether the teacher answers the texts of which the student is unsure."""
        return self._predictor.cascade is not None

    @overload
    def predict(self, texts: str, texts_b: str | None = None, *, domain: str | None = None) -> Prediction: ...  # type: ignore[overload-overlap]
    @overload
    def predict(
        self, texts: Iterable[str], texts_b: Iterable[str] | None = None, *, domain: str | None = None
    ) -> Predictions: ...
    def predict(
        self, texts: str | Iterable[str], texts_b: str | Iterable[str] | None = None, *, domain: str | None = None
    ) -> Prediction | Predictions:
        """Classify one text, or several.

        :param texts: a text, or any iterable of texts such as a list or a column of a data frame.
        :param texts_b: the second text of each pair, in a bundle for pairs.
        :param domain: whose model answers, in a bundle with a model for each domain. None: the bundle's default.
        :returns: a `Prediction` for a string, else `Predictions`, in the order of the texts.
        :raises UserError: a text is blank or no string, texts and second texts are not equally many, or the domain is unknown.
        """
        first = texts if isinstance(texts, str) else list(texts)
        second = texts_b if texts_b is None or isinstance(texts_b, str) else list(texts_b)
        if first == [] and second in (None, []):
            return Predictions([])
        try:
            request = Request.checked(
                {"text": first, "text_b": second, "scores": True, "domain": domain},
                pair=self.pair,
                limits=None,
                domains=self.domains,
            )
            answer = self._predictor.classify(request)
        except RefusedError as error:
            raise UserError(str(error)) from None
        answers = answer.results if isinstance(answer, Answers) else [answer]
        seconds: Sequence[str | None] = request.texts_b or [None] * len(answers)
        found = [_prediction(*item) for item in zip(request.texts, seconds, answers, strict=True)]
        return Predictions(found) if request.is_list else found[0]

    def __repr__(self) -> str:
        info = self._predictor.info
        return f"<Classifier {info.name!r}, {info.precision} on {info.device}: {', '.join(self.labels)}>"


def _prediction(text: str, text_b: str | None, answer: Answer) -> Prediction:
    return Prediction(text, text_b, answer.label, answer.score, answer.scores or {}, answer.model, answer.unsure)
