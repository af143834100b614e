"""What users bring: a setting without effect is said, and trouble is met before anything is trained."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from compress.__main__ import app
from compress.augment.stage import say_how_many_are_equal
from compress.console import machine_fault
from compress.data.assets import cache_directory
from compress.data.corpus import load_corpus
from compress.pipeline.check import check as check_against
from compress.pipeline.per_domain import folder_name
from compress.pipeline.preflight import preflight
from compress.pipeline.run import compress
from compress.pipeline.stage import TaskTexts
from compress.pipeline.stages import STAGES
from compress.pipeline.workspace import Workspace
from compress.recipe import Recipe, load_recipe
from compress.recipe.sections import TeacherOptions
from compress.runtime.errors import UserError
from tests.tiny_task import ROOT, sentences, write_tsv
from tests.tiny_teachers import RECIPE, tiny_bert_task, tiny_teacher_of

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.fixture
def task(tmp_path: Path) -> Callable[..., Recipe]:
    """Write a small task with a BERT, and read its recipe with these settings."""
    file = tiny_bert_task(tmp_path)
    return lambda *settings: load_recipe(file, ["student.width=16", *settings])


def refused(recipe: Recipe, folder: Path) -> str:
    """The message of a run that ends before a teacher is trained."""
    with pytest.raises(UserError) as caught:
        compress(recipe, Workspace(folder / "artifacts"))
    assert not (folder / "artifacts" / "teacher").exists()
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[data]\ntrain = 't.csv'\nhub = 'a/b'\n", r":1: data: .*train and hub \(a/b\) are two sources"),
        ("[data]\nhub = 'a/b'\ndev = 'd.csv'\n", "dev: a dataset of the hub has its own splits"),
        ("[data]\ntrain = 't.csv'\nhub_config = 'sst2'\n", "train and hub"),
        ("[data]\nhub_config = 'sst2'\n", "hub_config: only a dataset of the hub"),
        ("[data]\ntext = 'body'\n", ":2: data.text: no table of this task"),
        ("[data]\ntrain = 't.jsonl'\nseparator = ';'\n", ":3: data.separator: no table of this task"),
        ("[data]\ntrain = 't.parquet'\nencoding = 'latin-1'\n", ":3: data.encoding: no table of this task"),
        ("[data]\ndomain = 'shop'\n", ":2: data.domain: no table of this task"),
        (
            "[data.target]\ntrain = 't.csv'\n[data.source]\ntrain = 's.parquet'\nseparator = ';'\n",
            ":5: data.source.separator: no table of this task",
        ),
        ("[transfer]\nbank = 'b.txt'\n", ":2: transfer.bank: without transfer.texts"),
        ("[transfer]\nbank = 'b.txt'\njoined = 9\n", ":2: transfer.bank: no text is drawn from a bank without"),
        (
            "[data]\ntrain = 't.csv'\ntext_b = 'b'\n[transfer]\nsampled = 9\n",
            ":5: transfer.sampled: only single texts are sampled",
        ),
        ("[transfer]\nreplaced = 9\nselect = 'random'\n", ":3: transfer.select: no text is drawn from a bank without"),
        (
            "[student]\narchitecture = 'random'\n[search]\nmax_parameters = 9\n",
            ":4: search.max_parameters: a random architecture keeps to search.max_cost only",
        ),
        ("[student]\nkind = 'transformer'\ninit = 'random'\ncopied = 'last'\n", "no layers are copied"),
        ("[student]\nkind = 'transformer'\nlayers = 2\ncopied = [1, 1]\n", "a layer is named twice"),
        ("[teacher]\nfine_tuned = true\nhead_first = true\n", "head_first: a fine-tuned model keeps"),
        ("[teacher]\nlearning_rate = inf\n", ":2: teacher.learning_rate: .*finite"),
        ("[compress]\nweight_decay = nan\n", ":2: compress.weight_decay: .*finite"),
        ("seed = 4294967296\n", ":1: seed: "),
        ("name = 'my task'\n", ':1: name: .*set name = "my-task"'),
        (f"name = '{'x' * 101}'\n", "up to 100"),
        ("[data]\ntrain = '~nobody-of-this-name/t.csv'\n", "data.train: .*write the whole path"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_when_the_recipe_is_read(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "task.toml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        load_recipe(tmp_path / "task.toml")


@pytest.mark.parametrize(
    "text",
    [
        "[data]\ntrain = 't.jsonl'\ndev = 'd.csv'\nseparator = ';'\n",
        "[data]\ntext = 'body'\nunlabelled = 'u.csv'\n",
        "[data]\ntrain = 't.parquet'\nencoding = 'latin-1'\n[transfer]\nbank = 'b.txt'\ntexts = 9\n",
        "[transfer]\nbank = 'b.txt'\ntexts = 0\n",
    ],
)
def test_a_setting_that_one_of_the_tables_needs_is_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "task.toml").write_text(text, encoding="utf-8")
    written = load_recipe(tmp_path / "task.toml").dump()
    assert Recipe.model_validate(written).dump() == written


def test_a_recipe_without_a_name_in_a_file_with_spaces_says_which_name_to_give(tmp_path: Path) -> None:
    (tmp_path / "my first task.toml").write_text("seed = 1\n", encoding="utf-8")
    with pytest.raises(UserError, match='set name = "my-first-task"'):
        load_recipe(tmp_path / "my first task.toml")


def test_names_that_nothing_has_and_texts_that_nothing_reads_are_said(
    task: Callable[..., Recipe], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = task('data.relabel={Positive="positive"}', f"data.unlabelled={tmp_path / 'dev.tsv'}")
    with pytest.raises(UserError, match="as far as here"):
        compress(recipe, Workspace(tmp_path / "artifacts"), trial_export=stop)
    printed = " ".join(capsys.readouterr().err.split())
    assert "data.relabel: nothing is called 'Positive'" in printed
    assert "data.unlabelled: nothing learns from these texts" in printed


def test_a_training_of_a_model_that_is_not_trained_is_said(
    task: Callable[..., Recipe], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = task("teacher.fine_tuned=true", "teacher.soup=3")
    check_against(recipe, load_corpus(recipe.target))
    printed = " ".join(capsys.readouterr().err.split())
    assert "teacher.steps, teacher.soup: no effect with teacher.fine_tuned = true" in printed
    recipe = recipe.model_copy(update={"teacher": TeacherOptions(fine_tuned=True, steps=600)})
    check_against(recipe, load_corpus(recipe.target))
    assert not capsys.readouterr().err


def stop(*arguments: object, **options: object) -> None:
    """Ends a run at the end of its preflight."""
    raise UserError("as far as here")


@pytest.mark.parametrize(
    ("bank", "message"),
    [
        ("sentences of dev", "has no text that could be used"),
        (
            "rain and wind from the west tomorrow morning\nclouds in the east by noon or later\n",
            "no text of .* resembles",
        ),
    ],
)
def test_a_bank_without_a_text_to_draw_is_said_before_the_teacher_is_trained(
    task: Callable[..., Recipe], tmp_path: Path, bank: str, message: str
) -> None:
    if bank == "sentences of dev":
        bank = "\n".join(text for text, _ in sentences(20, seed=1))
    (tmp_path / "bank.txt").write_text(bank, encoding="utf-8")
    recipe = task(f"transfer.bank={tmp_path / 'bank.txt'}", "transfer.texts=10")
    with pytest.raises(UserError) as caught:
        preflight(recipe, TaskTexts(recipe).corpus)
    line = str(caught.value)
    assert line.startswith("transfer.bank: ")
    assert re.search(message, line), line


def test_a_large_bank_is_left_to_the_stage_which_comes_before_the_teacher(
    task: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compress.transfer.stage.TRIED", 10)
    (tmp_path / "bank.txt").write_text("rain and wind from the west tomorrow morning\n", encoding="utf-8")
    recipe = task(f"transfer.bank={tmp_path / 'bank.txt'}", "transfer.texts=10")
    preflight(recipe, TaskTexts(recipe).corpus)
    assert "resembles" in refused(recipe, tmp_path)


def test_what_needs_no_teacher_comes_before_it() -> None:
    names = [stage.name for stage in STAGES]
    assert names.index("transfer_set") < names.index("teacher")


def test_a_student_of_another_checkpoint_has_all_weights_of_its_encoder(
    task: Callable[..., Recipe], tmp_path: Path
) -> None:
    small = tiny_teacher_of("bert", tmp_path / "small")
    settings = ("compress.preset=logits", f"student.init={small}")

    def recipe(*more: str) -> Recipe:
        return load_recipe(tmp_path / "task.toml", [*settings, *more])

    preflight(recipe(), TaskTexts(recipe()).corpus)
    assert "has 2 layers, not 1; leave student.layers out" in refused(recipe("student.layers=1"), tmp_path)
    weights = load_file(small / "model.safetensors")
    save_file(
        {name: value for name, value in weights.items() if "layer.1" not in name},
        small / "model.safetensors",
        metadata={"format": "pt"},
    )
    assert "16 of the encoder's weights are missing" in refused(recipe(), tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "vocab.txt"])
def test_a_pointer_of_git_lfs_is_no_model(task: Callable[..., Recipe], tmp_path: Path, name: str) -> None:
    if name == "vocab.txt":
        (tmp_path / "teacher" / "tokenizer.json").unlink()
    (tmp_path / "teacher" / name).write_text(POINTER, encoding="utf-8")
    (tmp_path / "teacher" / "flax_model.msgpack").write_text(POINTER, encoding="utf-8")  # of another framework
    assert f"{name} is a pointer of Git LFS" in refused(task(), tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (POINTER, "git lfs pull"),
        ("<!DOCTYPE html>\n<html></html>\n", "is a web page"),
        (
            "text\tlabel\n" + "".join(f"{text}\tid{i}\n" for i, (text, _) in enumerate(sentences(60))),
            "60 different labels",
        ),
    ],
)
def test_a_table_that_is_none_is_said(task: Callable[..., Recipe], tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "train.tsv").write_text(content, encoding="utf-8")
    (tmp_path / "task.toml").write_text(RECIPE.replace('dev = "dev.tsv"\n', ""), encoding="utf-8")
    assert message in refused(task(), tmp_path)


def test_a_label_as_long_as_a_text_is_cut_in_the_summary(task: Callable[..., Recipe], tmp_path: Path) -> None:
    rows = [(text, label * 400) for text, label in sentences(60)]
    write_tsv(tmp_path / "train.tsv", rows)
    write_tsv(tmp_path / "dev.tsv", rows[:10])
    summary = TaskTexts(task()).corpus.summary
    assert summary is not None
    assert all(len(line) < 400 for line in (*summary.lines(), *summary.warnings))


def test_quotation_marks_around_every_text_are_said(task: Callable[..., Recipe], tmp_path: Path) -> None:
    write_tsv(tmp_path / "train.tsv", [(f'"{text}"', label) for text, label in sentences(40)])
    summary = TaskTexts(task()).corpus.summary
    assert summary is not None
    assert any("40 texts stand in quotation marks, such as line 2" in line for line in summary.warnings)


def test_bytes_are_no_labels(task: Callable[..., Recipe], tmp_path: Path) -> None:
    from pyarrow import parquet, table

    rows = sentences(40)
    columns = {"text": [text for text, _ in rows], "label": [label.encode() for _, label in rows]}
    parquet.write_table(table(columns), tmp_path / "train.parquet")
    assert "column 'label' holds b'negative', bytes" in refused(
        task(f"data.train={tmp_path / 'train.parquet'}"), tmp_path
    )


def test_a_plan_of_a_model_that_cannot_be_trained_is_one_line(task: Callable[..., Recipe], tmp_path: Path) -> None:
    task()
    tiny_teacher_of("gpt2", tmp_path / "teacher")
    command = ["plan", str(tmp_path / "task.toml"), "--artifacts", str(tmp_path / "artifacts")]
    done = CliRunner().invoke(app, command)
    assert isinstance(done.exception, UserError)
    assert "is a decoder" in str(done.exception)


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("POCKETBERT_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(UserError, match="set POCKETBERT_CACHE"):
        cache_directory()


@pytest.mark.parametrize("record", [b"", b"\xff\xfe\x00", b"[]", b"{}", b"null"])
def test_a_record_that_a_crash_has_damaged_makes_the_stage_again(tmp_path: Path, record: bytes) -> None:
    workspace = Workspace(tmp_path)

    def make(directory: Path, scratch: Path) -> None:
        (directory / "x").write_text("x", encoding="utf-8")

    made = workspace.run("stage", "key", make)
    assert workspace.is_current("stage", "key")
    (tmp_path / ".stages" / "stage.json").write_bytes(record)
    assert not workspace.is_current("stage", "key")
    assert workspace.seconds("stage") is None
    assert (made / "x").is_file()


def test_names_of_domains_become_names_of_folders() -> None:
    assert folder_name("a/b ..") == "a%2Fb %2E%2E"
    long = [folder_name("сообщения " * 9 + end) for end in "ab"]
    assert long[0] != long[1]
    assert all(len(name) < 256 for name in long)


def test_an_augmentation_that_changes_nothing_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    for equal in (0, 1, 480):
        say_how_many_are_equal("spans", equal, 480)
    assert "480 of 480 texts of spans equal their originals" in " ".join(capsys.readouterr().err.split())


def test_a_fault_of_the_machine_is_one_line_with_its_cure() -> None:
    for error, message in (
        (OSError(28, "No space left on device", "x"), "x: the disk is full"),
        (
            RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 203072 vs 202960"),
            "the disk is full",
        ),
        (
            OSError(24, "Too many open files", "x"),
            "x: Too many open files; allow this process more of them (ulimit -n)",
        ),
        (PermissionError(13, "Permission denied", "x"), "x: Permission denied; choose a place that this user can read"),
    ):
        assert (machine_fault(error) or "").startswith(message)
    assert machine_fault(RuntimeError("shapes differ")) is None


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_output_to_a_full_disk_is_one_line() -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pocketbert", "--version"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
    assert done.returncode == 2
    assert done.stderr == "error: the disk is full; make room and run the same command again, which carries on\n"


def test_make_takes_a_recipe_in_a_place_with_spaces() -> None:
    command = ["make", "-n", "compress-and-export", "RECIPE=/tmp/my recipes/x y.toml"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    words = [word for line in done.stdout.splitlines() for word in shlex.split(line, comments=True)]
    assert words.count("/tmp/my recipes/x y.toml") == 2
    assert not [word for word in words if word.startswith("/tmp/my") and word != "/tmp/my recipes/x y.toml"]
