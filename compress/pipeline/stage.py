"""What a stage is: a record of what it is made from and the function that makes it.

A stage sees only what its record declares. Its function gets a copy of the recipe in which every other setting is missing, a
corpus without the texts that it did not ask for, and the results of the stages that it named. So an undeclared input
cannot be read by mistake, and the key of a stage, made from the declared inputs, changes whenever its result could.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rich.markup import escape

from compress import __version__
from compress.console import console
from compress.data.corpus import Corpus, load_corpus
from compress.data.files import fingerprint, sha256_file, why_no_file
from compress.data.hub import HubRepository, commit_of, is_local
from compress.recipe import Recipe
from compress.recipe.keys import expand, restricted, setting, setting_keys
from compress.recipe.sections import SPECIAL_NAMES, Content
from compress.runtime.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from compress.teachers.judge import Int8Model, Int8Teacher


class Texts(Enum):
    """The texts of a task that a stage may ask for. The value: the settings that decide which texts these are."""

    LABELLED = ("target", "-target.unlabelled", "-target.distil_unlabelled", "-target.max_length")
    UNLABELLED = ("target", "-target.distil_unlabelled", "-target.max_length")
    SOURCE = ("source", "-source.use")
    # All texts of the target, labelled or not, without their labels; for a language model.
    WITHOUT_LABELS = (
        *("target", "-target.distil_unlabelled", "-target.max_length"),
        *("-target.labels", "-target.train_limit", "-target.train_fraction"),
    )


class Latency(Protocol):
    """Times a student, trained or not, where it will run. It comes from outside this package, since it needs the exporter."""

    def __call__(self, student: PreTrainedModel, *, tokenizer: Path, recipe: Recipe, corpus: Corpus) -> float:
        """Median milliseconds at batch 1 over the task's own texts, tokenisation included."""


def nothing(recipe: Recipe) -> Iterable[Any]:
    """The default of a record that declares no inputs of a kind."""
    return ()


@dataclass(frozen=True)
class Stage:
    """A stage of the pipeline: its inputs and the function that makes its result."""

    name: str
    make: Callable[[StageContext], None]  # writes the result into `context.directory`
    # The settings that it reads, as patterns for `compress.recipe.keys.expand`.
    settings: Callable[[Recipe], Iterable[str]] = nothing
    texts: Callable[[Recipe], Iterable[Texts]] = nothing  # the texts of the task that it reads
    after: tuple[str, ...] = ()  # the stages whose results it reads, where the recipe has them
    needed: Callable[[Recipe], bool] = lambda recipe: True  # whether the recipe has this stage
    # What else the result depends on: the version of a library, or what this stage has computed since its code changed.
    versions: tuple[str, ...] = ()
    shared: bool = True  # whether several recipes may use one result, see `Workspace.run_shared`
    # Whether only the first of several processes makes it. The others wait: it trains nothing that they share, or it measures times.
    alone: Callable[[Recipe], bool] = lambda recipe: False

    def declared(self, recipe: Recipe) -> list[str]:
        """All settings that the result may depend on, those that decide its texts included."""
        patterns: list[list[str]] = [
            list(self.settings(recipe)),
            *(text_settings(kind, recipe) for kind in self.texts(recipe)),
        ]
        named = {key for some in patterns for key in expand(recipe, some)}
        return [key for key in setting_keys(recipe) if key in named]

    def key(self, recipe: Recipe, keys: dict[str, str]) -> str:
        """The identity of all that the result is made from.

        :param keys: those of the stages before this one.
        :raises UserError: a file that the recipe names is missing, or the hub does not give a repository.
        """
        values = {name: _identity(recipe, name) for name in self.declared(recipe)}
        kinds = sorted(kind.name for kind in self.texts(recipe))
        before = {name: keys[name] for name in self.after if name in keys}
        return fingerprint(__version__, self.name, self.versions, values, kinds, before)


@dataclass
class TaskTexts:
    """The task's corpus, read once for all stages of a run."""

    recipe: Recipe

    @cached_property
    def corpus(self) -> Corpus:
        """All texts. Only settings that some kind of `Texts` declares are read.

        :raises UserError: what `load_corpus` raises.
        """
        declared = {key for kind in Texts for key in expand(self.recipe, text_settings(kind, self.recipe))}
        recipe = restricted(self.recipe, declared)
        corpus = load_corpus(recipe.target, recipe.source)
        if corpus.summary is not None:
            for line in corpus.summary.lines():
                console.print(f"  {escape(line)}")
            for line in corpus.summary.warnings:
                console.print(f"  [yellow]data:[/] {escape(line)}")
        for found in corpus.contamination:
            if found.equal or found.shared:
                console.print(f"  [yellow]contamination:[/] {found}")
        return corpus

    @property
    def fingerprint(self) -> str:
        """The identity of the labelled texts.

        :raises UserError: a file is missing.
        """
        keys = expand(self.recipe, text_settings(Texts.LABELLED, self.recipe))
        return fingerprint({key: _identity(self.recipe, key) for key in keys})

    def visible(self, kinds: Sequence[Texts]) -> Corpus:
        """The part of the corpus that a stage sees if it asks for these texts."""
        corpus = self.corpus
        if Texts.SOURCE not in kinds:
            corpus = replace(corpus, source=None)
        if Texts.WITHOUT_LABELS in kinds:
            return corpus.without_labels()
        return corpus if Texts.UNLABELLED in kinds else replace(corpus, unlabelled=None)


@dataclass
class StageContext:
    """All that the function of a stage gets to see."""

    stage: Stage
    recipe: Recipe  # with the declared settings only
    task: TaskTexts
    results: dict[str, Path]  # of the stages that it comes after
    directory: Path  # where the result goes
    scratch: Path  # where checkpoints go; what lies there comes from a killed run with the same inputs
    latency: Latency | None
    int8: Int8Teacher | None
    # For cards and titles only: no result may depend on them.
    name: str
    recipe_as_written: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def corpus(self) -> Corpus:
        """The task's texts, as far as the stage's record asks for them.

        :raises UserError: what `load_corpus` raises.
        """
        kinds = list(self.stage.texts(self.task.recipe))
        assert kinds, f"the record of {self.stage.name} asks for no texts"
        return self.task.visible(kinds)

    @property
    def open_int8(self) -> Callable[[Path, Path], Int8Model] | None:
        """How a finished teacher of the task is opened as INT8, see `Judges`; None: there is no exporter."""
        if self.int8 is None:
            return None
        return partial(self.int8, pair=self.corpus.pair, max_length=self.recipe.target.max_length)

    def declares(self, key: str) -> bool:
        """Whether the stage's record names this setting; some are named in some recipes only."""
        return key in self.stage.declared(self.task.recipe)

    def result(self, stage: str) -> Path:
        """The directory of an earlier stage's result.

        :raises KeyError: the record does not name that stage, or the recipe does not have it.
        """
        return self.results[stage]


def text_settings(kind: Texts, recipe: Recipe) -> list[str]:
    """The settings that decide what texts of a kind there are."""
    patterns = list(kind.value)
    if kind is Texts.WITHOUT_LABELS:
        if recipe.target.limit is None:
            patterns.append("-target.sample")  # decides then only which texts have labels
        if not recipe.target.relabel:
            patterns.append("-target.relabel")  # else it decides which texts are held out: each class gives its share
    return patterns


def file_hashes() -> Callable[[Path], str]:
    """SHA-256 of files, computed once for each path, size and time of change."""
    known: dict[tuple[Path, int, int], str] = {}

    def hashed(path: Path) -> str:
        state = path.stat()
        identity = (path, state.st_size, state.st_mtime_ns)
        if identity not in known:
            known[identity] = sha256_file(path)
        return known[identity]

    return hashed


_file_hash = file_hashes()


def _identity(recipe: Recipe, key: str) -> Any:
    """What a setting means for a result: its value, or the content of the file or model that it names."""
    section, _, name = key.rpartition(".")
    value = setting(recipe, key)
    content = type(setting(recipe, section) if section else recipe).contents().get(name)
    if value is None or content is None:
        return value.model_dump(mode="json") if hasattr(value, "model_dump") else value
    if value in SPECIAL_NAMES.get(content, ()):
        return value
    if content in (Content.MODEL, Content.INIT, Content.DATASET):
        nested = content is Content.DATASET
        return value, _directory_files(value, nested=nested) if is_local(value) else _commit(recipe, section, name)
    if not Path(value).is_file():
        written = f"{_written(recipe, section)}.{name}"
        names = SPECIAL_NAMES.get(content)
        cure = f"; give {', '.join(names)} or a file" if names else ""
        raise UserError(f"{written}: {value}: {why_no_file(Path(value))}{cure}")
    try:
        return _file_hash(Path(value))  # where a file lies does not change what is in it
    except OSError as error:
        raise UserError(f"{_written(recipe, section)}.{name}: {value}: cannot be read ({error.strerror})") from None


def _commit(recipe: Recipe, section: str, name: str) -> str:
    """The commit of a model or data set of the hub."""
    named = setting(recipe, section)
    content = type(named).contents()[name]
    return commit_of(
        HubRepository(
            "dataset" if content is Content.DATASET else "model",
            getattr(named, name),
            getattr(named, "revision", None),  # a student's first weights have none
            f"{_written(recipe, section)}.{name}",
        )
    )


def _written(recipe: Recipe, section: str) -> str:
    """The section's name in the recipe's file."""
    if section == "target":
        return recipe.target.section
    return "data.source" if section == "source" else section


def _directory_files(place: str, *, nested: bool) -> list[tuple[str, int, int]] | None:
    """Names, sizes and times of the files of a local model or data set: a model that was trained again is another input.

    :param nested: also those in its folders, as a data set has them; but for hidden folders, which hold the caches of tools.
    """
    directory = Path(place)
    if not directory.is_dir():
        return None
    found = []
    for path in sorted(directory.rglob("*") if nested else directory.iterdir()):
        name = path.relative_to(directory)
        if path.is_file() and not any(folder.startswith(".") for folder in name.parts[:-1]):
            found.append((name.as_posix(), path.stat().st_size, path.stat().st_mtime_ns))
    return found
