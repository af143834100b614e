"""The exporter allows nanotoken only where it gave the ids of `tokenizers`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from compress.runtime.wordpiece import WordPiece, nanotoken_version
from export.bundle import MANIFEST, TOKENIZER, Bundle, file_entry
from export.manifest import FastTokenizer
from export.session import BundleSession
from export.tokenizer_check import check_tokenizer, odd_strings
from tests.compress.test_wordpiece import assert_equal, wordpiece
from tests.conftest import MakeBundle, make_tiny_bundle

TEXTS = ["the film was unbelievable", "Naïve films!"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    wordpiece().save(str(tmp_path / TOKENIZER))
    return tmp_path / TOKENIZER


@pytest.mark.parametrize("examples", [[TEXTS], [TEXTS, TEXTS[::-1]]], ids=["single", "pair"])
def test_equal_ids_are_recorded_with_the_version(file: Path, examples: list[list[str]]) -> None:
    version = nanotoken_version()
    assert version is not None
    expected = FastTokenizer(version=version, task_texts=2, odd_strings=10_000)
    assert check_tokenizer(file, 32, examples) == expected


def test_the_odd_strings_are_always_the_same_and_of_many_kinds(file: Path) -> None:
    tokenizer = Tokenizer.from_file(str(file))
    found = list(odd_strings(tokenizer, 0, 2_000))
    assert found == list(odd_strings(tokenizer, 0, 2_000)) != list(odd_strings(tokenizer, 1, 2_000))
    everything = "".join(found)
    for part in ("[SEP]", "##", "\x00", "\u200b", "a" * 100):
        assert part in everything
    assert len({character for character in everything if ord(character) > 0x1000}) > 1_000
    tokenizer.enable_truncation(512)
    assert max(len(encoding) for encoding in tokenizer.encode_batch(found)) > 20


@pytest.mark.parametrize("wrong", ["task", "odd", "second"])
def test_one_other_id_anywhere_is_enough_to_stay_with_tokenizers(
    file: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    """nanotoken gives one wrong id in a single text."""
    generated = list(odd_strings(Tokenizer.from_file(str(file)), 1 if wrong == "second" else 0, 10_000))
    spoiled = TEXTS[1] if wrong == "task" else next(text for text in reversed(generated) if len(text) > 10)
    encode = WordPiece._encode

    def spoil(self: WordPiece, texts: list[str], **options: object) -> list[object]:
        rows = encode(self, texts, **options)  # type: ignore[arg-type]
        return [row + 1 if text == spoiled else row for text, row in zip(texts, rows, strict=True)]

    monkeypatch.setattr(WordPiece, "_encode", spoil)
    assert check_tokenizer(file, 32, [TEXTS, TEXTS] if wrong == "second" else [TEXTS]) is None


def test_other_kinds_of_tokenizers_are_left_to_tokenizers(make_bundle: MakeBundle) -> None:
    assert check_tokenizer(make_bundle() / TOKENIZER, 32, [TEXTS]) is None  # WordLevel


def test_a_bundle_uses_nanotoken_only_if_its_manifest_has_the_installed_version(file: Path, tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "bundle")
    (bundle / TOKENIZER).write_bytes(file.read_bytes())
    manifest = json.loads((bundle / MANIFEST).read_text())
    manifest["files"][TOKENIZER] = file_entry(file).model_dump()
    encoders = []
    for version in (None, "0.0.1", nanotoken_version()):
        fast = None if version is None else {"version": version, "task_texts": 2, "odd_strings": 10_000}
        (bundle / MANIFEST).write_text(json.dumps(manifest | {"fast_tokenizer": fast}))
        encoders.append(BundleSession(Bundle(bundle)).encoder)
    assert [encoder.library for encoder in encoders] == ["tokenizers", "tokenizers", "nanotoken"]
    assert_equal(encoders[0].encode(TEXTS), encoders[2].encode(TEXTS))
