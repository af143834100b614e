"""The plan of a run: the stages that it will make, with a forecast of the time of each on this machine.

A forecast counts the steps of a stage and multiplies them by what one step takes here, see `Speeds`. A training that dev stops
early takes less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compress.busy import BUSY_SHARE, GLANCE_S, busy_share, use_free_cpus
from compress.data.corpus import Corpus
from compress.data.domains import student_corpus, teacher_corpus
from compress.pipeline.stage import TaskTexts
from compress.pipeline.stages import stage_keys
from compress.pipeline.stages.student_inputs import is_searched
from compress.pipeline.workspace import Workspace
from compress.recipe import Recipe
from compress.recipe.sections import EdaOptions, L2aOptions, LengthOptions, SpansOptions, TwoStageObjective

if TYPE_CHECKING:
    from compress.pipeline.speeds import Speeds

# Rates of what is not timed beforehand, from runs on two cores of an EPYC with AVX2 (2026-11-29).
LINEAR = 0.75e-3  # seconds to train the linear model, for each training text
BANK = 20.0  # seconds to read and compare the embedded bank, or one of that size
BANK_TOKENS = 18  # of a text of the embedded bank in the mean
MADE = 1e-4  # seconds to make a text of the task's own
INT8 = 2.0  # how much faster a teacher judges in INT8 than in the precision of its training, on a CPU (fp32; bf16 where there is VNNI)
EVALUATION = 1 / 3  # of the time of a training step: answers on as many texts
TIMED = 4.0  # seconds to make and time the INT8 graph of a student
FRONT = 40.0  # seconds to make and time the INT8 graphs of the best of the tried architectures


@dataclass
class Work:
    """How much there is to do for a recipe."""

    recipe: Recipe
    corpus: Corpus
    speeds: Speeds

    def teacher(self) -> float:
        """Training, and the evaluations of it and of the finished teacher."""
        from compress.teachers.finetune import EVALUATIONS
        from compress.teachers.frozen import sample_size

        options = self.recipe.teacher
        texts = teacher_corpus(self.recipe, self.corpus)
        count = len(texts.splits["train"])
        if self.corpus.source is not None and "teacher" in self.recipe.source_learners:
            count += len(self.corpus.source)
        count += self._tutored
        held_out = sum(len(split) for name, split in self.corpus.splits.items() if name != "train")
        if options.fine_tuned:
            return held_out * self.speeds.judge
        evaluated = held_out + (1 + options.soup * (options.epochs or EVALUATIONS)) * len(texts.splits["dev"])
        # The head is fitted on the frozen states of some of the texts before.
        return (
            options.soup * _steps(options, count) * self.speeds.teach
            + (evaluated + min(count, sample_size(len(self.corpus.labels)))) * self.speeds.judge
        )

    def tutor(self) -> float:
        """As a teacher's."""
        return self._of_tutor.teacher()

    def tutor_outputs(self) -> float:
        """On the training texts and some of the transfer set, which are taken to be as long as the task's own."""
        return (len(self.corpus.splits["train"]) + self._tutored) * self._of_tutor.speeds.judge / self._faster("auto")

    @property
    def _of_tutor(self) -> Work:
        from compress.pipeline.speeds import Speeds

        recipe = self.recipe.of_tutor()
        return Work(recipe, self.corpus, Speeds(recipe, self.speeds.corpus))

    @property
    def _tutored(self) -> int:
        """Texts of the transfer set that the teacher learns from."""
        return min(self.recipe.tutor.texts, self._transfer) if self.recipe.has_tutor else 0

    def linear(self) -> float:
        """Its training."""
        return LINEAR * self._own

    def augmented(self) -> float | None:
        """Not known for methods with a language model."""
        cheap = isinstance(self.recipe.augmentation, SpansOptions | EdaOptions)
        return 1e-4 * self._augmented if cheap else None

    def teacher_outputs(self) -> float:
        """On all texts that the student learns from but the transfer set, and on the tokens of the vocabulary."""
        vocabulary = 0.0 if self.recipe.student.kind == "transformer" else self.speeds.vocabulary
        return self._texts * self.speeds.judge + vocabulary

    def transfer_set(self) -> float:
        """Reading the bank, the choice, and making further texts."""
        options = self.recipe.transfer
        return (BANK if options.texts else 1.0) + MADE * (options.size - options.texts)

    def transfer_outputs(self) -> float:
        """All texts are taken to be as long as the task's own, but those of the embedded bank where they are shorter."""
        options = self.recipe.transfer
        drawn: float = options.texts
        if options.bank == "embedded":
            drawn *= min(1.0, (2 if self.corpus.pair else 1) * BANK_TOKENS / self.speeds.tokens)
        return (drawn + options.size - options.texts) * self.speeds.judge / self._faster(options.judge)

    def _faster(self, judge: str) -> float:
        """How much faster than in the precision of its training a model labels with this setting of `transfer.judge`."""
        from compress.training.accelerator import make_accelerator

        on_cpu = make_accelerator().device.type == "cpu"
        return INT8 if on_cpu and judge in ("auto", "int8") else 1.0

    def search(self) -> float:
        """Its steps."""
        return self.recipe.search.epochs * self._batches(0.8 * self._own) * self.speeds.search

    def trials(self) -> float:
        """Their steps, and the evaluations on the texts held out."""
        options = self.recipe.search
        evaluated = EVALUATION * self._batches(0.2 * self._own)
        batches = sum(number * (steps + evaluated) for number, steps in options.rounds_of_trials())
        if options.space == "wide":  # students of all sizes, which take about as long as the recipe's own
            return batches * self.speeds.learn + options.trials * TIMED
        return batches * self.speeds.learn / getattr(self.recipe.student, "members", 1)  # a trial is of one member

    def architecture(self) -> float | None:
        """The times of what was tried; not known where students are timed for a target latency."""
        if self.recipe.search.space == "wide":
            return 1.0  # they are known from the trials
        if self.recipe.budget.target_latency_ms is not None:
            return None
        return FRONT if is_searched(self.recipe) and self.recipe.search.trials else 1.0

    def student(self) -> float | None:
        """Training and evaluations; not known with a selector."""
        if isinstance(self.recipe.augmentation, L2aOptions):
            return None
        from compress.distil.student import EVALUATIONS

        options, objective, texts = self.recipe.compress, self.recipe.objective, self._texts
        share = self.recipe.transfer.share
        texts += min(self._transfer, round(texts * share / (1 - share)))  # as in `LengthBatches`
        further = options.quantization_epochs
        if isinstance(objective, TwoStageObjective):
            further += objective.intermediate_epochs
        dev = self._of_student.splits["dev"]
        evaluated = (options.epochs or EVALUATIONS) * EVALUATION * self._batches(len(dev))
        return (_steps(options, texts) + further * self._batches(texts) + evaluated) * self.speeds.learn

    @property
    def _own(self) -> int:
        return len(self._of_student.splits["train"])

    @property
    def _of_student(self) -> Corpus:
        return student_corpus(self.recipe, self.corpus)

    @property
    def _augmented(self) -> int:
        return self._own * getattr(self.recipe.augmentation, "copies", 0)

    @property
    def _texts(self) -> int:
        """The texts that the student learns from, without the transfer set."""
        count = self._own + self._augmented
        if self.recipe.target.distil_unlabelled and self.corpus.unlabelled is not None:
            count += len(self.corpus.unlabelled)
        if self.corpus.source is not None and "student" in self.recipe.source_learners:
            count += len(self.corpus.source)
        return count

    @property
    def _transfer(self) -> int:
        """The texts of the transfer set, at most."""
        return self.recipe.transfer.size

    def _batches(self, texts: float) -> float:
        return texts / self.recipe.compress.batch_size


# None: not known beforehand. A language model is one of several kinds, and so is what it writes.
FORECASTS: dict[str, Callable[[Work], float | None]] = {
    "transfer_set": Work.transfer_set,
    "tutor": Work.tutor,
    "tutor_outputs": Work.tutor_outputs,
    "teacher": Work.teacher,
    "linear": Work.linear,
    "language_model": lambda work: None,
    "augmented": Work.augmented,
    "teacher_outputs": Work.teacher_outputs,
    "transfer_outputs": Work.transfer_outputs,
    "search": Work.search,
    "trials": Work.trials,
    "architecture": Work.architecture,
    "student": Work.student,
}


@dataclass(frozen=True)
class Plan:
    """The stages that a run will make, in order, with the seconds that each is forecast to take; None: not known."""

    forecast: dict[str, float | None]
    stages: int  # of the recipe
    busy: float = 0.0  # share of the CPUs that other programs used when the steps were timed

    def lines(self) -> Iterator[str]:
        """For people: before the run."""
        if not self.forecast:
            yield f"plan: nothing to make, all {self.stages} stages are up to date"
            return
        total = sum(seconds or 0.0 for seconds in self.forecast.values())
        known = "at least " if None in self.forecast.values() else ""
        yield f"plan: {len(self.forecast)} of {self.stages} stages to make, {known}{duration(total)} on this machine"
        for name, seconds in self.forecast.items():
            yield f"  {name:18}{duration(seconds):>10}"
        if self.busy > BUSY_SHARE:
            yield f"  other programs use {self.busy:.0%} of the CPUs now; without them it takes less time than this"

    def comparison(self, workspace: Workspace) -> Iterator[str]:
        """For people: after the run, how long the stages took."""
        if not self.forecast:
            return
        yield f"  {'':18}{'forecast':>10}{'taken':>10}"
        for name, seconds in self.forecast.items():
            yield f"  {name:18}{duration(seconds):>10}{duration(workspace.seconds(name)):>10}"


def make_plan(recipe: Recipe, workspace: Workspace, task: TaskTexts, *, force: bool = False) -> Plan:
    """The plan of the recipe's run. If something is to be made, some steps are timed, which takes a few seconds.

    :param force: all stages will be made.
    :raises UserError: the data or the teacher's model cannot be read.
    """
    keys = stage_keys(recipe)
    todo = [name for name, key in keys.items() if force or not workspace.is_made(name, key)]
    if not todo:
        return Plan({}, len(keys))
    corpus = task.corpus
    import torch

    from compress.pipeline.speeds import Speeds

    use_free_cpus()
    busy = busy_share(seconds=GLANCE_S)
    with torch.random.fork_rng():
        work = Work(recipe, corpus, Speeds(recipe, student_corpus(recipe, corpus)))
        return Plan({name: FORECASTS[name](work) for name in todo}, len(keys), busy)


def duration(seconds: float | None) -> str:
    """A rough duration for people."""
    if seconds is None:
        return "unknown"
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _steps(options: LengthOptions, texts: int) -> float:
    """Training steps of a section, if dev does not stop it early."""
    return options.steps if options.steps is not None else (options.epochs or 0) * texts / options.batch_size
