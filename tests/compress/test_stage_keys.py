"""Which stages a setting makes stale: a table over every setting of the schema, and what a stage may not read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from compress.pipeline.stage import Stage, StageContext, TaskTexts
from compress.pipeline.stages import STAGES, stage_keys, stages_of
from compress.recipe import Recipe, load_recipe
from compress.recipe.keys import restricted, setting, setting_keys
from compress.recipe.sections import L2aOptions, MaskedLmOptions, SourceOptions, UndeclaredSettingError
from export.build import bundle_stage
from tests.compress.setting_readers import BEFORE, EXCEPTIONS, FORMS, NOBODY, READERS, RECIPES

BUNDLE = bundle_stage("cpu")


def recipe_of(folder: Path, text: str) -> Recipe:
    for name in ("t.tsv", "u.tsv", "s.tsv", "other.tsv"):
        (folder / name).write_text(f"text\tlabel\n{name}\tx\n", encoding="utf-8")
    (folder / "task.toml").write_text(text, encoding="utf-8")
    return load_recipe(folder / "task.toml")


def keys_of(recipe: Recipe) -> dict[str, str]:
    keys = stage_keys(recipe)
    return keys | {BUNDLE.name: BUNDLE.key(recipe, keys)}


def changed(recipe: Recipe, key: str, value: Any) -> Recipe:
    """A copy with another value of one setting; a model's copy is not validated, so any value will do."""
    section, _, rest = key.partition(".")
    if section in ("target", "source"):
        key = f"data.{key}" if recipe.source is not None else f"data.{rest}"
    return _changed(recipe, key.split("."), value)


def _changed(model: Any, path: list[str], value: Any) -> Any:
    name, *rest = path
    return model.model_copy(update={name: _changed(getattr(model, name), rest, value) if rest else value})


def another(recipe: Recipe, key: str, folder: Path) -> Any:
    """A value that the setting does not have."""
    section, _, name = key.rpartition(".")
    value = setting(recipe, key)
    model = setting(recipe, section) if section else recipe
    if name in ("train", "dev", "test", "unlabelled", "bank"):
        return folder / "other.tsv"
    if name in ("model", "init", "hub"):
        return str(folder)  # a directory: the hub is not asked
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, tuple):
        return tuple(part + 1 for part in value)
    if isinstance(value, list | dict):
        return type(value)()  # empty, where it was not
    choices = [choice for choice in literals(type(model).model_fields[name].annotation) if choice != value]
    return choices[0] if choices else f"{value}-other"


def literals(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [choice for part in get_args(annotation) for choice in literals(part)]


def everything_after(stages: set[str], present: set[str]) -> set[str]:
    stale = stages & present
    for stage, before in BEFORE.items():  # which are in order
        if stage in present and stale & set(before.split()):
            stale.add(stage)
    return stale


@pytest.mark.parametrize("name", RECIPES)
def test_a_setting_makes_exactly_the_right_stages_stale(tmp_path: Path, name: str) -> None:
    recipe = recipe_of(tmp_path, RECIPES[name])
    before = keys_of(recipe)
    for key in setting_keys(recipe):
        if key in FORMS:
            continue
        value = setting(recipe, key)
        new = ["x"] if value in ([], {}) else another(recipe, key, tmp_path)
        after = keys_of(changed(recipe, key, new))
        stale = {stage for stage in before if before[stage] != after.get(stage)}
        readers = set(EXCEPTIONS.get((name, key), READERS[key]).split())
        assert stale == everything_after(readers, set(before)), f"{key} = {new!r} (was {value!r})"


def test_the_table_has_every_setting_of_the_schema_and_no_other() -> None:
    assert set(READERS) | FORMS == set(schema_keys())


def test_every_setting_is_declared_by_some_stage_or_known_to_be_no_input(tmp_path: Path) -> None:
    no_inputs = {key for key, readers in READERS.items() if readers == NOBODY} | {"domains.students"}
    declared = set()
    for text in RECIPES.values():
        recipe = recipe_of(tmp_path, text)
        for stage in (*stages_of(recipe), BUNDLE):
            declared |= set(stage.declared(recipe))
    wanted = (
        set(schema_keys()) - no_inputs - {"source.use", "target.distil_unlabelled"}
    )  # these choose texts, not values
    assert wanted <= declared
    assert (declared & no_inputs) <= {"bench.threads", "bench.texts"}


def schema_keys() -> Iterator[str]:
    """Every setting that some recipe can have, by the names that code uses."""
    for key in leaves(Recipe):
        if not key.startswith("data."):
            yield key
        elif not key.startswith(("data.target.", "data.source.")):
            yield f"target.{key.removeprefix('data.')}"
    yield "target.source"
    yield from (f"source.{name}" for name in SourceOptions.model_fields)


def leaves(model: type[BaseModel]) -> set[str]:
    found: set[str] = set()
    for name, field in model.model_fields.items():
        forms = list(sections_in(field.annotation))
        for form in forms:
            found |= {f"{name}.{key}" for key in leaves(form)}
        if not forms:
            found.add(name)
    return found


def sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, UnionType) or hasattr(annotation, "__metadata__"):
        for part in get_args(annotation):
            yield from sections_in(part)


@pytest.mark.parametrize(
    ("name", "key", "value", "stale"),
    [
        (
            "cnn",
            "student.architecture",
            "residual",
            "architecture student bundle",
        ),  # search and trials are not needed then
        (
            "l2a",
            "source.use",
            ["teacher"],
            "language_model augmented teacher_outputs search trials architecture student bundle",
        ),
        ("unlabelled", "target.distil_unlabelled", False, "teacher_outputs architecture student bundle"),
    ],
)
def test_a_setting_that_chooses_texts_or_stages(tmp_path: Path, name: str, key: str, value: Any, stale: str) -> None:
    recipe = recipe_of(tmp_path, RECIPES[name])
    before, after = keys_of(recipe), keys_of(changed(recipe, key, value))
    found = {stage for stage in after if before.get(stage) != after[stage]}
    assert found - {"architecture"} == set(stale.split()) - {"architecture"}


def test_the_content_of_a_file_counts_and_not_where_it_lies(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, RECIPES["cnn"])
    before = keys_of(recipe)
    (tmp_path / "moved.tsv").write_bytes((tmp_path / "t.tsv").read_bytes())
    assert keys_of(changed(recipe, "target.train", tmp_path / "moved.tsv")) == before
    (tmp_path / "t.tsv").write_text("text\tlabel\nelse\tx\n", encoding="utf-8")
    assert not set(keys_of(recipe).values()) & set(before.values())


def test_the_files_of_a_local_model_and_a_given_genotype_count(tmp_path: Path) -> None:
    (tmp_path / "bert").mkdir()
    (tmp_path / "genotype.json").write_text("{}", encoding="utf-8")
    text = (
        '[data]\ntrain = "t.tsv"\n[teacher]\nmodel = "bert"\n[student]\nkind = "cnn"\narchitecture = "genotype.json"\n'
    )
    recipe = recipe_of(tmp_path, text)
    before = keys_of(recipe)
    (tmp_path / "bert" / "model.safetensors").write_bytes(b"1")
    trained_again = keys_of(recipe)
    assert trained_again["teacher"] != before["teacher"]
    (tmp_path / "genotype.json").write_text("{ }", encoding="utf-8")
    other_genotype = keys_of(recipe)
    assert other_genotype["architecture"] != trained_again["architecture"]
    assert other_genotype["teacher_outputs"] == trained_again["teacher_outputs"]


def test_a_stage_cannot_read_what_it_does_not_declare(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, RECIPES["l2a"])
    seen = restricted(recipe, ["teacher.epochs", "target.max_length", "augmentation.epochs"])
    assert (seen.teacher.epochs, seen.target.max_length) == (recipe.teacher.epochs, recipe.target.max_length)
    # The form of a section is a setting too: who does not declare it sees only what all its forms share.
    assert isinstance(seen.augmentation, MaskedLmOptions)
    assert not isinstance(seen.augmentation, L2aOptions)
    undeclared = (
        lambda: seen.seed,
        lambda: seen.teacher.model,
        lambda: seen.target.train,
        lambda: seen.source,
        lambda: seen.augmentation.batch_size,
        lambda: seen.student,
        lambda: seen.source_learners,
        lambda: getattr(seen.teacher, "method", "finetune"),  # a default does not hide it
    )
    for read in undeclared:
        with pytest.raises(UndeclaredSettingError):
            read()


def test_a_stage_sees_no_texts_that_it_did_not_ask_for(tmp_path: Path) -> None:
    text = RECIPES["l2a"]
    recipe = recipe_of(tmp_path, text)
    rows = "".join(f"{i} {word}\t{word}\n" for i in range(40) for word in ("good", "bad"))
    (tmp_path / "t.tsv").write_text("text\tlabel\n" + rows, encoding="utf-8")
    (tmp_path / "s.tsv").write_text("text\tlabel\nfine thing\tgood\npoor thing\tbad\n", encoding="utf-8")
    task = TaskTexts(changed(recipe, "target.train_fraction", 0.5))
    seen = {stage.name: task.visible(list(stage.texts(task.recipe))) for stage in STAGES if stage.needed(task.recipe)}
    assert seen["architecture"].source is None
    assert seen["teacher"].source is not None
    assert seen["teacher"].unlabelled is None
    model = seen["language_model"]
    assert model.unlabelled is not None
    assert {*model.splits["train"].labels, *model.splits["dev"].labels} == {-1}


def test_a_context_gives_no_result_that_the_record_does_not_name(tmp_path: Path) -> None:
    stage = Stage("x", lambda context: None, after=("teacher",))
    recipe = recipe_of(tmp_path, RECIPES["cnn"])
    context = StageContext(stage, recipe, TaskTexts(recipe), {"teacher": tmp_path}, tmp_path, tmp_path, None, None, "x")
    assert context.result("teacher") == tmp_path
    with pytest.raises(KeyError):
        context.result("student")
    with pytest.raises(AssertionError, match="asks for no texts"):
        _ = context.corpus
