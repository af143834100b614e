"""The models of requests and responses, and the checks of a request. A refused request gets one line of text."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Annotated, Literal
from unicodedata import category

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from serve.settings import Limits

# fail_fast stops at the first wrong item. Otherwise a megabyte of wrong items would make as many error objects.
Texts = str | Annotated[list[str], Field(min_length=1, fail_fast=True)]
INVISIBLE = {"Cc", "Cf", "Zs", "Zl", "Zp"}  # Unicode categories: control, format (zero width) and separators
FILLERS = set("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\ufe0e\ufe0f\uffa0")  # of other categories, and invisible too


class RefusedError(Exception):
    """A request that is refused.

    The message is one line with the field and the cure. `status` is the HTTP status: 413 (too large), 422 (not valid), 429 (too
    much work waits; `retry_after` is the number of seconds after which to try again) or 504 (the client's time is over).
    """

    def __init__(self, message: str, status: int = 422, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.retry_after = status, retry_after


class Request(BaseModel):
    """Body of `POST /classify`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: Texts = Field(description="One text, or a list of texts; a blank text is refused.")
    text_b: Texts | None = Field(
        None, description="The second text of each pair: a string if `text` is a string, else a list of equal length."
    )
    scores: bool = Field(False, description="Whether the answer gives the probability of every label too.")
    domain: str | None = Field(None, description="The domain whose model answers. Without it, the default domain.")

    @classmethod
    def parse(cls, body: bytes, *, pair: bool, limits: Limits, domains: Collection[str] = ()) -> Request:
        """Read and check a body.

        :raises RefusedError: the body is not a valid request (422) or exceeds a limit (413).
        """
        return cls.checked(_read_object(body), pair=pair, limits=limits, domains=domains)

    @classmethod
    def checked(
        cls, content: dict[str, object], *, pair: bool, limits: Limits | None, domains: Collection[str] = ()
    ) -> Request:
        """Check the fields of a request.

        :param pair: whether the bundle classifies pairs. Then `text_b` is required; otherwise it is refused.
        :param limits: None: any number of texts of any length.
        :param domains: the domains that have their own model. If there are none, the field `domain` is refused.
        :raises RefusedError: as `parse`.
        """
        try:
            request = cls.model_validate(content)
        except ValidationError as error:
            raise RefusedError(_explain(error)) from None
        _check_texts("text", request.text, limits)
        if not pair and request.text_b is not None:
            raise RefusedError("text_b: this bundle classifies single texts; leave the field out")
        if pair:
            if request.text_b is None:
                raise RefusedError("text_b: missing; this bundle classifies pairs, so send the second text too")
            _check_texts("text_b", request.text_b, limits)
            _check_pairs(request.text, request.text_b)
        if request.domain is not None:
            _check_domain(request.domain, domains)
        return request

    @property
    def is_list(self) -> bool:
        """Whether `text` is a list. The answer is then a list too."""
        return isinstance(self.text, list)

    @property
    def texts(self) -> list[str]:
        """`text` as a list."""
        return as_list(self.text)

    @property
    def texts_b(self) -> list[str] | None:
        """`text_b` as a list."""
        return None if self.text_b is None else as_list(self.text_b)


class Prediction(BaseModel):
    """The answer for one text or pair."""

    label: str = Field(description="The most probable label.")
    score: float = Field(description="Its probability, to six decimals.")
    scores: dict[str, float] | None = Field(
        None, description="Probability of every label, the most probable first. Only if the request asked for it."
    )
    truncated: bool | None = Field(
        None, description="True if the text was longer than `max_length` tokens and was cut."
    )
    model: Literal["student", "teacher"] | None = Field(
        None, description="Which model answered. Only if the bundle has a cascade and it is on."
    )
    unsure: bool | None = Field(
        None, description="Whether the score is below POCKETBERT_UNSURE_BELOW. Only if that is set."
    )


class Predictions(BaseModel):
    """The answer for a list, in the order of the texts."""

    results: list[Prediction]


class Word(BaseModel):
    """A word of an explained text."""

    word: str
    weight: float | None = Field(
        None,
        description="How much the log-odds of the label fall without the word, to four decimals: above 0 it speaks for the label, below 0 "
        "against it. Absent if the model does not read the word, because the text is cut before it.",
    )


class Explanation(Prediction):
    """The answer of `POST /explain`: the prediction, and what each word does to it."""

    words: list[Word] = Field(description="The words of `text` in order: what stands between white space.")
    words_b: list[Word] | None = Field(None, description="The words of `text_b`.")


class Refusal(BaseModel):
    """The answer to a refused request."""

    error: str = Field(description="One line that names the field and the cure.")


class CascadeInfo(BaseModel):
    """The cascade that is served: which texts the teacher answers."""

    teacher: str = Field(description="Precision of the teacher.")
    threshold: float = Field(description="A text goes to the teacher if the student's score is at most this.")
    share: float | None = Field(None, description="Share of the dev texts that went to the teacher, at this threshold.")
    accuracy: float | None = Field(None, description="Accuracy on dev at this threshold, a fraction of 1.")


class Info(BaseModel):
    """The answer of `GET /info`: what is served."""

    name: str
    version: str = Field(description="Version of the bundle.")
    created: str
    bundle: str = Field(description="SHA-256 of the bundle's manifest. Answers name it in the header X-Bundle-SHA256.")
    precision: str
    device: str
    threads: int
    labels: list[str]
    pair: bool = Field(description="Whether `text_b` is required.")
    domains: list[str] | None = Field(None, description="The domains that have their own model.")
    default_domain: str | None = Field(None, description="The domain of a request that names none.")
    cascade: CascadeInfo | None = Field(
        None, description="Only if the teacher answers unsure texts; of several domains, the default one's."
    )
    domain_cascades: dict[str, CascadeInfo] | None = Field(None, description="The cascade of each domain.")
    unsure_below: float | None = Field(None, description="Answers with a lower score are marked as unsure.")
    max_length: int = Field(description="The most tokens of a text or pair. The rest is cut off.")
    max_texts: int
    max_characters: int
    max_bytes: int


def as_list(texts: str | list[str]) -> list[str]:
    """A single text as a list of one."""
    return texts if isinstance(texts, list) else [texts]


def item_name(field: str, row: int, texts: str | Sequence[str]) -> str:
    """The name of a row in a message to the client: `text` for a single text, `text[3]` in a list."""
    return field if isinstance(texts, str) else f"{field}[{row}]"


def _check_texts(field: str, texts: str | list[str], limits: Limits | None) -> None:
    rows = as_list(texts)
    if limits and len(rows) > limits.texts:
        raise RefusedError(f"{field}: {len(rows)} texts; send at most {limits.texts} in one request", 413)
    for row, text in enumerate(rows):
        if limits and len(text) > limits.characters:
            name = item_name(field, row, texts)
            raise RefusedError(f"{name}: {len(text)} characters; send at most {limits.characters} in one text", 413)
        if not any(
            map(_is_visible, text.lstrip())
        ):  # a megabyte of blanks would take the event loop a tenth of a second
            raise RefusedError(f"{item_name(field, row, texts)}: blank; send a text with at least one word")


def _is_visible(character: str) -> bool:
    return category(character) not in INVISIBLE and character not in FILLERS


def _check_pairs(text: str | list[str], text_b: str | list[str]) -> None:
    if isinstance(text, str) != isinstance(text_b, str):
        raise RefusedError("text_b: must have the shape of text: both a string, or both a list")
    if len(as_list(text)) != len(as_list(text_b)):
        raise RefusedError(f"text_b: {len(text_b)} texts for {len(text)} in text; send one for each")


def _check_domain(domain: str, domains: Collection[str]) -> None:
    if not domains:
        raise RefusedError("domain: this bundle has one model for all texts; leave the field out")
    if domain not in domains:
        raise RefusedError(f"domain: {domain[:40]!a} is unknown; send one of {', '.join(domains)}, or none")


def _read_object(body: bytes) -> dict[str, object]:
    example = 'send UTF-8 JSON such as {"text": "..."}'
    try:
        content = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise RefusedError(f"body: not JSON ({error}); {example}") from None
    if not isinstance(content, dict):
        raise RefusedError(f"body: not a JSON object; {example}")
    # Checked here and not by the model: the model would make an error object for every unknown field of a large body.
    unknown = next((name for name in content if name not in Request.model_fields), None)
    if unknown is not None:
        # The name comes from the client, so it is quoted, cut short and kept on one line.
        raise RefusedError(f"{unknown[:40]!a}: unknown field; the fields are {', '.join(Request.model_fields)}")
    return content


def _explain(error: ValidationError) -> str:
    # A union reports one error for each of its members. The error with the longest location names the item of a list.
    # Among errors of equal length, "too_short" says that the list is empty.
    details = error.errors(include_url=False, include_input=False, include_context=False)
    detail = max(details, key=lambda one: (len(one["loc"]), one["type"] == "too_short"))
    field, *inner = detail["loc"]
    position = next((f"[{part}]" for part in inner if isinstance(part, int)), "")
    if detail["type"] == "missing":
        return f'{field}: missing; send {{"{field}": "..."}}'
    if detail["type"] == "too_short":
        return f"{field}: the list is empty; send at least one text"
    if detail["type"] == "string_unicode":
        return f"{field}{position}: holds half of a character; send UTF-8"
    if detail["type"] == "bool_type":
        return f"{field}: must be true or false"
    if field == "domain":
        return "domain: must be a string"
    return f"{field}{position}: must be a string{'' if position else ' or a list of strings'}"
