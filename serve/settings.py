"""The settings of the service. They come from the environment variables `POCKETBERT_*`. No torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from compress.runtime.errors import UserError
from export.bundle import MANIFEST, newest_bundle
from serve.watch import highest_version

AbsolutePath = Annotated[Path, AfterValidator(Path.absolute)]  # a relative path starts at the working directory
Device = Literal["cpu", "cuda"]
Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
PACKED = Path("build/bundle")  # in the directory from which `bentoml build` makes a bento
ALLOWED = {  # what an error message says; all other fields are counts
    "device": "cpu or cuda",
    "log": "text or json",
    "page": "on or off",
    "cascade": "on or off",
    "cascade_threshold": "a number from 0 to 1",
    "shadow_share": "a number from 0 to 1",
    "unsure_below": "a number from 0 to 1",
    "drain_seconds": "a whole number, 0 or more",
    "drift_window": "a whole number, 0 or more",
    "token": "at least 16 visible ASCII characters, such as `openssl rand -hex 32` gives",
    "cors": "addresses such as https://example.com, without a path, with commas between them, or *",
}


def _token(token: SecretStr) -> SecretStr:
    text = token.get_secret_value()
    if len(text) < 16 or not all("!" <= character <= "~" for character in text):
        raise ValueError
    return token


def _origins(value: str) -> str:
    # A browser sends no path, not even a slash: with one, no page would ever be allowed.
    if value != "*" and not all(re.fullmatch(r"https?://[^/\s]+", one.strip()) for one in value.split(",")):
        raise ValueError
    return value


@dataclass(frozen=True)
class Limits:
    """The most that one request may hold. A larger request is answered with status 413."""

    texts: int
    characters: int  # of one text
    body_bytes: int


class Settings(BaseSettings):
    """One field for each variable: `threads` is `POCKETBERT_THREADS`.

    A variable that is unset or empty takes its default. No `.env` file is read. Arguments of the constructor go before
    the environment.
    """

    model_config = SettingsConfigDict(env_prefix="POCKETBERT_", env_ignore_empty=True, frozen=True)

    bundle: AbsolutePath | None = Field(default_factory=lambda: bundle_of_bento())
    watch: AbsolutePath | None = None  # a directory of versions (`serve.watch`); goes before `bundle`
    artifacts: AbsolutePath = Path("artifacts")  # searched for the newest bundle if `bundle` is not set
    precision: str | None = None  # None: the default precision of the bundle
    threads: PositiveInt = 1  # of one worker
    device: Device = "cpu"
    workers: PositiveInt = 1
    shadow: AbsolutePath | None = None  # a bundle that answers too, in silence (`serve.shadow`)
    shadow_share: Probability = 1.0  # of the requests
    cascade: bool | None = None  # None: on if the bundle has one; True: it must have one
    cascade_threshold: Probability | None = None  # None: the bundle's
    unsure_below: Probability | None = None  # answers with a lower score are marked; None: no answer is
    drift_window: NonNegativeInt = 1000  # texts of a worker that are compared with dev (`serve.drift`); 0: none are
    max_texts: PositiveInt = 256
    max_characters: PositiveInt = 20_000
    max_bytes: PositiveInt = 1_048_576
    page: bool = True  # the page for people at /; off: the OpenAPI page is there
    max_queue_ms: PositiveInt = 500  # a request that would wait longer is refused with 429
    read_seconds: PositiveInt = 20  # in which a client must send the whole of a request
    drain_seconds: NonNegativeInt = 0  # how long a worker goes on after SIGTERM, with 503 on /readyz
    token: Annotated[SecretStr, AfterValidator(_token)] | None = None  # of /classify, /explain, /info and /admin
    cors: Annotated[str, AfterValidator(_origins)] | None = (
        None  # origins whose pages may ask, with commas between them
    )
    log: Literal["text", "json"] = "text"

    @classmethod
    def from_environment(cls) -> Settings:
        """Read the variables.

        :raises UserError: a value is not allowed; the message names the variable and the allowed values.
        """
        try:
            return cls()
        except ValidationError as error:
            raise _user_error(error) from None

    @property
    def limits(self) -> Limits:
        """The three `max_*` settings."""
        return Limits(self.max_texts, self.max_characters, self.max_bytes)

    @property
    def origins(self) -> list[str]:
        """`cors` as a list."""
        return [one.strip() for one in self.cors.split(",")] if self.cors else []

    def bundle_directory(self) -> Path:
        """The directory of the highest version in `watch`, else of `bundle`, else of the newest bundle under `artifacts`.

        :raises UserError: there is no bundle.
        """
        if self.watch is not None:
            return highest_version(self.watch)
        return self.bundle or newest_bundle(self.artifacts)


def bundle_of_bento(root: Path = Path(__file__).parents[1]) -> Path | None:
    """The bundle that `bentoml build` packed with this code. None: this code is not in a bento.

    :param root: the directory with the packages of the project.
    """
    packed = root / PACKED
    return packed if (root.parent / "bento.yaml").is_file() and (packed / MANIFEST).is_file() else None


def _user_error(error: ValidationError) -> UserError:
    problem = error.errors(include_url=False)[0]
    field = str(problem["loc"][0])
    given = "..." if field == "token" else problem["input"]
    return UserError(f"POCKETBERT_{field.upper()}={given}: set it to {ALLOWED.get(field, 'a whole number above 0')}")
