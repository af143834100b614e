"""A frozen teacher judges many texts: in any precision the answers are its own, and a killed run goes on."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from compress.data.batches import Batch, EncodedSplit, encode_split
from compress.data.corpus import Split
from compress.runtime.encode import IntArray
from compress.runtime.errors import UserError
from compress.teachers import judge
from compress.teachers.finetune import open_teacher
from compress.teachers.judge import Judges, choose, judge_texts
from compress.training.evaluation import predict_logits
from export.judge import int8_teacher
from tests.tiny_task import KilledError, killed_at, sentences, tiny_teacher

INT8 = partial(int8_teacher, pair=False, max_length=32)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_teacher(tmp_path_factory.mktemp("judge") / "bert")


@pytest.fixture(scope="module")
def texts(teacher: Path) -> EncodedSplit:
    rows = [text + " and good" * (number % 7) for number, (text, _) in enumerate(sentences(300))]
    return encode_split(Split(rows, None, [-1] * len(rows), None), open_teacher(teacher, 32)[1])


@pytest.fixture(scope="module")
def expected(teacher: Path, texts: EncodedSplit) -> torch.Tensor:
    return predict_logits(open_teacher(teacher, 32)[0], texts)


def labelled(texts: EncodedSplit, logits: torch.Tensor) -> EncodedSplit:
    """The texts with the labels that the teacher predicts."""
    return EncodedSplit(texts.encoded, logits.argmax(dim=1), texts.pad_token_id)


def test_the_answers_are_the_teachers_in_the_order_of_the_texts(
    teacher: Path, texts: EncodedSplit, expected: torch.Tensor, tmp_path: Path
) -> None:
    for precision, tolerance in (("fp32", 1e-5), ("int8", 0.05)):
        (tmp_path / precision).mkdir()
        judges = Judges(teacher, tmp_path / precision, INT8)
        logits = judge_texts(judges, precision, texts, texts)  # type: ignore[arg-type]
        assert torch.allclose(logits, expected, atol=tolerance), precision
        assert logits.std() > 10 * (logits - expected).std()


def test_a_killed_run_goes_on_with_the_part_that_it_had_not_finished(
    teacher: Path, texts: EncodedSplit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "PART", 90)
    monkeypatch.setattr(judge, "BATCH_TOKENS", {"cpu": 400, "gpu": 400})
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole = judge_texts(Judges(teacher, tmp_path / "whole", INT8), "int8", texts, texts)
    judges = Judges(teacher, tmp_path / "killed", INT8)
    with monkeypatch.context() as patch:
        patch.setattr(judge, "_write", killed_at(3, judge._write))
        with pytest.raises(KilledError):
            judge_texts(judges, "int8", texts, texts)
    assert len(list((tmp_path / "killed").glob("logits-*.npy"))) == 2
    monkeypatch.setattr(judge, "BATCH_TOKENS", {"cpu": 900, "gpu": 900})  # as if it went on on another device
    asked: list[int] = []

    def counted(teacher: Path, file: Path) -> judge.Int8Model:
        model = INT8(teacher, file)

        def run(arrays: dict[str, IntArray]) -> NDArray[np.float32]:
            asked.append(len(arrays["input_ids"]))
            return model(arrays)

        return run

    again = judge_texts(Judges(teacher, tmp_path / "killed", counted), "int8", texts, texts)
    assert torch.equal(again, whole)  # ranges of INT8 depend on a batch, so the batches were the same
    assert 90 <= sum(asked) < 150


def test_after_an_error_no_batch_is_begun_that_was_in_line(texts: EncodedSplit, tmp_path: Path) -> None:
    asked: list[int] = []

    def slow(batch: Batch) -> torch.Tensor:
        asked.append(len(batch))
        time.sleep(0.01)
        return torch.zeros(len(batch), 2)

    parts = [[[row]] for row in range(len(texts))]
    with pytest.raises(FileNotFoundError) as caught:
        judge._judge_parts(
            judge.Judge("fp32", slow), texts, parts, [tmp_path / "absent" / "x"] * len(parts), torch.zeros(300, 2)
        )
    assert caught.value.filename  # a known error, as to who prints it, keeps alive what it has passed
    begun = len(asked)
    time.sleep(0.3)
    assert len(asked) == begun < 300


def test_int8_is_taken_if_it_is_faster_and_agrees_with_fp32_on_dev(
    teacher: Path,
    texts: EncodedSplit,
    expected: torch.Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    dev = labelled(texts, expected)
    by_ids = {tuple(text.input_ids.tolist()): row for row, text in enumerate(texts.encoded)}

    def instant(teacher: Path, file: Path, *, wrong: int) -> judge.Int8Model:
        """Knows the answers by heart, but for the first `wrong` texts."""

        def run(arrays: dict[str, IntArray]) -> NDArray[np.float32]:
            real = zip(arrays["input_ids"], arrays["attention_mask"].sum(axis=1), strict=True)
            rows = [by_ids[tuple(ids[:length].tolist())] for ids, length in real]
            return np.stack([expected[row].numpy() * (-1 if row < wrong else 1) for row in rows])

        return run

    assert choose(Judges(teacher, tmp_path, partial(instant, wrong=0)), texts, dev) == "fp32"  # too short a work
    monkeypatch.setattr(judge, "WORTH_A_CHECK", 0.0)
    seconds = {"fp32": 2.0, "int8": 1.0}
    monkeypatch.setattr(judge, "_seconds", lambda judge, texts: seconds[judge.precision])
    monkeypatch.setattr(judge, "ACCURACY_LOSS", 1.0)
    assert choose(Judges(teacher, tmp_path, partial(instant, wrong=8)), texts, dev) == "int8"
    assert "on 300 dev texts 97.3% of fp32's labels, accuracy 97.33% (fp32 100.00%)" in capsys.readouterr().err
    assert choose(Judges(teacher, tmp_path, partial(instant, wrong=10)), texts, dev) == "fp32"
    assert "int8 is not used: on 300 dev texts 96.7%" in capsys.readouterr().err
    monkeypatch.setattr(judge, "ACCURACY_LOSS", 0.005)
    # Seven of 300 texts are 2.33 points, and two standard errors of the difference 1.76; six are 2 points, and these 1.63.
    assert choose(Judges(teacher, tmp_path, partial(instant, wrong=7)), texts, dev) == "fp32"
    assert choose(Judges(teacher, tmp_path, partial(instant, wrong=6)), texts, dev) == "int8"
    seconds["int8"] = 3.0
    assert choose(Judges(teacher, tmp_path, partial(instant, wrong=0)), texts, dev) == "fp32"


def test_a_teacher_that_cannot_be_exported_judges_in_fp32(
    teacher: Path,
    texts: EncodedSplit,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(judge, "WORTH_A_CHECK", 0.0)

    def refuses(teacher: Path, file: Path) -> judge.Int8Model:
        raise RuntimeError("no such operator\nmore")

    assert choose(Judges(teacher, tmp_path, refuses), texts, texts) == "fp32"
    assert "int8 is not possible for this teacher (no such operator)" in capsys.readouterr().err


def test_bf16_is_refused_where_the_machine_has_no_instructions_for_it(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    with pytest.raises(UserError, match=r"transfer\.judge: .* no instructions for bf16"):
        Judges(teacher, tmp_path, None).open("bf16")
