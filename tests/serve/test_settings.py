"""The settings come from the environment. A value that is not allowed is an error that names its variable."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from pydantic import ValidationError

from compress.runtime.errors import UserError
from serve.settings import Limits, Settings


def test_an_empty_environment_gives_the_documented_defaults() -> None:
    settings = Settings.from_environment()
    assert (settings.bundle, settings.artifacts) == (None, Path("artifacts").absolute())
    assert (settings.precision, settings.device, settings.threads, settings.workers) == (None, "cpu", 1, 1)
    assert settings.limits == Limits(texts=256, characters=20_000, body_bytes=1_048_576)


def test_every_variable_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {
        "POCKETBERT_BUNDLE": "/some/bundle",
        "POCKETBERT_ARTIFACTS": "/some/artifacts",
        "POCKETBERT_WATCH": "/some/versions",
        "POCKETBERT_PRECISION": "int8",
        "POCKETBERT_THREADS": "2",
        "POCKETBERT_DEVICE": "cuda",
        "POCKETBERT_WORKERS": "3",
        "POCKETBERT_CASCADE": "off",
        "POCKETBERT_CASCADE_THRESHOLD": "0.7",
        "POCKETBERT_SHADOW": "/some/candidate",
        "POCKETBERT_SHADOW_SHARE": "0.1",
        "POCKETBERT_UNSURE_BELOW": "0.8",
        "POCKETBERT_MAX_TEXTS": "4",
        "POCKETBERT_MAX_CHARACTERS": "5",
        "POCKETBERT_MAX_BYTES": "6",
        "POCKETBERT_MAX_QUEUE_MS": "7",
        "POCKETBERT_READ_SECONDS": "8",
        "POCKETBERT_DRAIN_SECONDS": "9",
        "POCKETBERT_TOKEN": "a-token-of-24-characters",
        "POCKETBERT_CORS": "https://one.example, http://localhost:8080",
        "POCKETBERT_LOG": "json",
    }
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    settings = Settings.from_environment()
    assert (settings.bundle, settings.artifacts) == (Path("/some/bundle"), Path("/some/artifacts"))
    assert (settings.shadow, settings.shadow_share) == (Path("/some/candidate"), 0.1)
    assert settings.watch == Path("/some/versions")
    assert (settings.precision, settings.device, settings.threads, settings.workers) == ("int8", "cuda", 2, 3)
    assert (settings.cascade, settings.cascade_threshold, settings.unsure_below) == (False, 0.7, 0.8)
    assert settings.limits == Limits(texts=4, characters=5, body_bytes=6)
    assert (settings.max_queue_ms, settings.read_seconds, settings.drain_seconds, settings.log) == (7, 8, 9, "json")
    assert settings.token is not None
    assert settings.token.get_secret_value() == "a-token-of-24-characters"
    assert settings.origins == ["https://one.example", "http://localhost:8080"]


def test_a_token_is_not_in_what_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POCKETBERT_TOKEN", "a-token-of-24-characters")
    assert "24" not in repr(Settings.from_environment())
    for value in ("short", "with a blank in its middle", "café-café-café-café"):
        monkeypatch.setenv("POCKETBERT_TOKEN", value)
        with pytest.raises(UserError) as caught:
            Settings.from_environment()
        assert str(caught.value).startswith("POCKETBERT_TOKEN=...: set it to at least 16 visible ASCII characters")


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("CORS", "example.com", "addresses such as https://example.com, without a path, .*"),
        (
            "CORS",
            "https://one.example,https://two.example/",
            "addresses such as https://example.com, without a path, .*",
        ),
        ("LOG", "xml", "text or json"),
        ("DRAIN_SECONDS", "-1", "a whole number, 0 or more"),
        ("CASCADE", "maybe", "on or off"),
        ("CASCADE_THRESHOLD", "1.5", "a number from 0 to 1"),
        ("CASCADE_THRESHOLD", "nan", "a number from 0 to 1"),
        ("UNSURE_BELOW", "-1", "a number from 0 to 1"),
    ],
)
def test_a_value_that_is_not_allowed_is_one_line_with_those_that_are(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, allowed: str
) -> None:
    monkeypatch.setenv(f"POCKETBERT_{variable}", value)
    with pytest.raises(UserError, match=f"^POCKETBERT_{variable}={value}: set it to {allowed}$"):
        Settings.from_environment()


def test_an_empty_value_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    # `POCKETBERT_THREADS= bentoml serve` and a compose file without a value set a variable to nothing.
    defaults = Settings.from_environment()
    for field in Settings.model_fields:
        monkeypatch.setenv(f"POCKETBERT_{field.upper()}", "")
    assert Settings.from_environment() == defaults


def test_no_env_file_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("POCKETBERT_THREADS=7\n")
    monkeypatch.chdir(tmp_path)
    assert Settings.from_environment().threads == 1


def test_a_relative_path_starts_at_the_working_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POCKETBERT_BUNDLE", "some/bundle")
    settings = Settings.from_environment()
    assert (settings.bundle, settings.artifacts) == (tmp_path / "some/bundle", tmp_path / "artifacts")


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "two", " ", "1e3", "٣"])
@pytest.mark.parametrize("variable", ["THREADS", "WORKERS", "MAX_TEXTS", "MAX_BYTES", "MAX_QUEUE_MS"])
def test_a_count_must_be_a_whole_number_above_0(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(f"POCKETBERT_{variable}", value)
    with pytest.raises(UserError) as caught:
        Settings.from_environment()
    assert str(caught.value) == f"POCKETBERT_{variable}={value}: set it to a whole number above 0"


def test_an_unknown_device_is_an_error_that_names_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POCKETBERT_DEVICE", "gpu")
    with pytest.raises(UserError, match=r"^POCKETBERT_DEVICE=gpu: set it to cpu or cuda$"):
        Settings.from_environment()


def test_settings_do_not_change_and_can_be_sent_to_another_process() -> None:
    settings = Settings.from_environment()
    with pytest.raises(ValidationError, match="frozen"):
        settings.threads = 2  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_the_bundle_of_the_settings_goes_before_the_newest(tmp_path: Path) -> None:
    assert Settings(bundle=tmp_path).bundle_directory() == tmp_path
    with pytest.raises(UserError, match="no bundle under"):
        Settings(artifacts=tmp_path).bundle_directory()
