"""Which changes of a task's texts make which stage anew, and which change nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from compress.pipeline.stage import TaskTexts
from compress.pipeline.stages import stage_keys
from compress.recipe import Recipe, load_recipe
from compress.runtime.errors import UserError
from tests.tiny_task import sentences, write_tsv

CBERT = ["compress.preset=logits", "augmentation.method=cbert"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A recipe over one table; its augmentation has a language model."""
    write_tsv(tmp_path / "t.tsv", sentences(100))
    file = tmp_path / "task.toml"
    file.write_text('[data]\ntrain = "t.tsv"\n')
    return file


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A recipe with a source domain."""
    write_tsv(tmp_path / "t.tsv", sentences(100))
    write_tsv(tmp_path / "s.tsv", sentences(40, seed=1))
    file = tmp_path / "two.toml"
    file.write_text('[data.target]\ntrain = "t.tsv"\n[data.source]\ntrain = "s.tsv"\n')
    return file


def recipe(file: Path, *settings: str) -> Recipe:
    return load_recipe(file, [*CBERT, *settings])


def keys(file: Path, *settings: str) -> dict[str, str]:
    return stage_keys(recipe(file, *settings))


def changed(one: dict[str, str], other: dict[str, str]) -> set[str]:
    assert set(one) == set(other)
    return {stage for stage in one if one[stage] != other[stage]}


STAGES = {"teacher", "linear", "language_model", "augmented", "teacher_outputs", "student"}


def test_the_keys_follow_the_content_of_a_table_and_not_its_place(file: Path, tmp_path: Path) -> None:
    moved = write_tsv(tmp_path / "elsewhere.tsv", sentences(100))
    another = write_tsv(tmp_path / "another.tsv", sentences(101))
    base = keys(file)
    assert set(base) == STAGES
    assert keys(file, f"data.train={moved}") == base
    assert changed(base, keys(file, f"data.train={another}")) == STAGES
    dev = [write_tsv(tmp_path / f"d{i}.tsv", sentences(20, seed=seed)) for i, seed in enumerate((3, 3, 4))]
    with_dev = [keys(file, f"data.dev={path}") for path in dev]
    assert with_dev[0] == with_dev[1]
    assert changed(base, with_dev[0]) == changed(with_dev[0], with_dev[2]) == STAGES


def test_a_table_that_is_changed_in_its_place_is_another(file: Path) -> None:
    base = keys(file)
    write_tsv(file.parent / "t.tsv", sentences(102))
    assert changed(base, keys(file)) == STAGES


def test_which_texts_are_labelled_is_nothing_to_the_language_model(file: Path, tmp_path: Path) -> None:
    base, labelled = keys(file), STAGES - {"language_model"}
    assert changed(base, keys(file, "data.train_limit=10", "data.sample=3")) == labelled
    assert changed(base, keys(file, "data.train_fraction=0.3")) == labelled
    assert changed(base, keys(file, 'data.labels=["positive","negative"]')) == labelled
    assert changed(base, keys(file, "data.max_length=64")) >= {"teacher", "language_model"}
    more = write_tsv(tmp_path / "u.tsv", [("an odd text",)], ("text",))
    # The unlabelled texts are the language model's; nobody else reads them unless they are distilled.
    further = keys(file, f"data.unlabelled={more}")
    assert changed(base, further) == {"language_model", "augmented", "teacher_outputs", "student"}
    assert changed(further, keys(file, f"data.unlabelled={more}", "data.distil_unlabelled=true")) == {
        "teacher_outputs",
        "student",
    }


def test_labels_with_other_names_are_for_the_language_model_too(file: Path) -> None:
    """They decide which texts are held out of one table, and it must not read those."""
    one, other = keys(file), keys(file, 'data.relabel={positive="negative"}')
    assert changed(one, other) == STAGES


def test_a_local_data_set_is_all_of_its_files(tmp_path: Path) -> None:
    """Its tables often lie in a folder, as on the hub."""
    table = tmp_path / "set" / "data" / "train.csv"
    table.parent.mkdir(parents=True)
    (tmp_path / "set" / ".cache").mkdir()
    table.write_text("text,label\na,x\n", encoding="utf-8")
    (tmp_path / "task.toml").write_text('[data]\nhub = "set"\n', encoding="utf-8")
    before = keys(tmp_path / "task.toml")
    (tmp_path / "set" / ".cache" / "lock").touch()
    assert keys(tmp_path / "task.toml") == before
    table.write_text("text,label\nanother,x\n", encoding="utf-8")
    assert changed(before, keys(tmp_path / "task.toml")) == STAGES


def test_a_sample_is_of_all_texts_only_where_there_is_a_limit(file: Path) -> None:
    limited = [keys(file, "data.limit=50", f"data.sample={sample}") for sample in (0, 1)]
    assert changed(*limited) == STAGES  # other texts
    assert keys(file)["language_model"] == keys(file, "data.sample=1")["language_model"]


def test_the_recipes_seed_is_nothing_to_the_language_model(file: Path) -> None:
    assert changed(keys(file), keys(file, "seed=7")) == STAGES - {"language_model", "linear"}


def test_unlabelled_texts_are_read_by_who_asks_for_them(file: Path, tmp_path: Path) -> None:
    more = write_tsv(tmp_path / "u.tsv", [("an odd text",)], ("text",))
    plain = ["augmentation.method=none", f"data.unlabelled={more}"]
    assert keys(file, "augmentation.method=none") == keys(file, *plain)
    distilled = keys(file, *plain, "data.distil_unlabelled=true")
    assert changed(keys(file, *plain), distilled) == {"teacher_outputs", "student"}


def test_the_identity_of_the_labelled_texts(file: Path, tmp_path: Path) -> None:
    """A student's card has it; figures on other texts are not to be compared."""
    more = write_tsv(tmp_path / "u.tsv", [("an odd text",)], ("text",))
    moved = write_tsv(tmp_path / "elsewhere.tsv", sentences(100))
    base, unlabelled, elsewhere, cut = (
        TaskTexts(recipe(file, *settings)).fingerprint
        for settings in ([], [f"data.unlabelled={more}"], [f"data.train={moved}"], ["data.train_limit=10"])
    )
    assert base == unlabelled == elsewhere != cut


def test_the_source_belongs_to_who_learns_from_it(two: Path, tmp_path: Path) -> None:
    base = keys(two)
    moved = write_tsv(tmp_path / "elsewhere.tsv", sentences(40, seed=1))
    another = write_tsv(tmp_path / "another.tsv", sentences(41, seed=1))
    assert keys(two, f"data.source.train={moved}") == base
    assert changed(base, keys(two, f"data.source.train={another}")) == STAGES - {"linear"}
    assert keys(two, 'data.source.use=["teacher","language_model"]') == base  # what it does anyway
    student = ['data.source.use=["student"]']
    other = [keys(two, *student, *more) for more in ([], [f"data.source.train={another}"])]
    assert changed(*other) == {"teacher_outputs", "student"}
    only_student = changed(base, other[0])
    assert {"teacher", "language_model"} <= only_student


@pytest.mark.parametrize(
    ("fixture", "setting"),
    [
        ("file", "data.train"),
        ("file", "data.dev"),
        ("file", "data.test"),
        ("file", "data.unlabelled"),
        ("two", "data.target.train"),
        ("two", "data.source.train"),
    ],
)
def test_a_missing_file_is_named_by_its_setting(
    request: pytest.FixtureRequest, tmp_path: Path, fixture: str, setting: str
) -> None:
    path = request.getfixturevalue(fixture)
    absent = tmp_path / "absent.tsv"
    with pytest.raises(UserError, match=rf"^{setting}: .*absent\.tsv: no such file$"):
        keys(path, f"{setting}={absent}")
