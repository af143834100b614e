"""The environment decides, and a value that cannot be is an error that names its variable."""

from __future__ import annotations

from pathlib import Path

import pytest

from compress.runtime.errors import UserError
from serve.settings import Limits, Settings


def test_an_empty_environment_gives_the_documented_defaults() -> None:
    expected = Settings(artifacts=Path("artifacts").absolute(), limits=Limits(256, 20_000, 1_048_576))
    assert Settings.from_environment({}) == expected
    assert (expected.threads, expected.workers, expected.device) == (1, 1, "cpu")


def test_every_variable_is_read() -> None:
    environment = {
        "POCKETBERT_BUNDLE": "/some/bundle",
        "POCKETBERT_ARTIFACTS": "/some/artifacts",
        "POCKETBERT_PRECISION": "int8",
        "POCKETBERT_THREADS": "2",
        "POCKETBERT_DEVICE": "cuda",
        "POCKETBERT_WORKERS": "3",
        "POCKETBERT_MAX_TEXTS": "4",
        "POCKETBERT_MAX_CHARACTERS": "5",
        "POCKETBERT_MAX_BYTES": "6",
    }
    limits = Limits(texts=4, characters=5, body_bytes=6)
    expected = Settings(Path("/some/bundle"), Path("/some/artifacts"), "int8", 2, "cuda", 3, limits)
    assert Settings.from_environment(environment) == expected


def test_an_empty_value_is_the_default() -> None:
    # What `POCKETBERT_THREADS= bentoml serve` and an unfilled compose file give.
    empty = dict.fromkeys(["POCKETBERT_BUNDLE", "POCKETBERT_THREADS", "POCKETBERT_DEVICE", "POCKETBERT_PRECISION"], "")
    assert Settings.from_environment(empty) == Settings.from_environment({})


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "two", " ", "1e3", "٣"])
@pytest.mark.parametrize("variable", ["THREADS", "WORKERS", "MAX_TEXTS", "MAX_CHARACTERS", "MAX_BYTES"])
def test_a_count_that_is_no_whole_number_above_0_is_named(variable: str, value: str) -> None:
    with pytest.raises(UserError, match=f"POCKETBERT_{variable}="):
        Settings.from_environment({f"POCKETBERT_{variable}": value})


def test_an_unknown_device_is_named_with_the_known_ones() -> None:
    with pytest.raises(UserError, match="POCKETBERT_DEVICE=gpu: set it to cpu or cuda"):
        Settings.from_environment({"POCKETBERT_DEVICE": "gpu"})


def test_the_named_bundle_goes_before_the_newest(tmp_path: Path) -> None:
    assert Settings(directory=tmp_path).bundle_directory() == tmp_path
    with pytest.raises(UserError, match="no bundle under"):
        Settings(artifacts=tmp_path).bundle_directory()
