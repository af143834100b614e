"""The stages of compression in order: teacher → language_model → augmented → teacher_outputs → search → trials → architecture → student."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from compress import __version__, processes
from compress.console import console
from compress.data.corpus import Corpus, Split, data_key, load_corpus, source_key, text_key
from compress.data.domains import student_corpus, teacher_corpus
from compress.data.files import fingerprint, sha256_file, write_json
from compress.pipeline.workspace import Workspace
from compress.recipe import Recipe
from compress.recipe.sections import (
    SPECIAL_ARCHITECTURES,
    SPECIAL_INITS,
    L2aOptions,
    MaskedLmOptions,
    TransformerOptions,
)
from compress.runtime.errors import UserError
from compress.runtime.session import check_device

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from compress.data.batches import EncodedSplit
    from compress.distil.task import StudentTask
    from compress.distil.transfer import Transfer
    from compress.runtime.encode import TextEncoder

STAGES = ("teacher", "language_model", "augmented", "teacher_outputs", "search", "trials", "architecture", "student")


class Latency(Protocol):
    """Times a student, trained or not, where it will run.

    Given from outside, for the exporter that it takes is none of this package's business.
    """

    def __call__(self, student: PreTrainedModel, *, tokenizer: Path, recipe: Recipe) -> float:
        """Median milliseconds at batch 1 over the task's own texts, tokenisation included."""


def stages_of(recipe: Recipe) -> list[str]:
    """The stages that this recipe needs, in order."""
    skipped = set()
    if recipe.augmentation.method == "none":
        skipped.add("augmented")
    if not isinstance(recipe.augmentation, MaskedLmOptions):
        skipped.add("language_model")
    if recipe.objective.method == "none" and recipe.student.kind != "cnn":
        skipped.add("teacher_outputs")
    if recipe.student.kind != "cnn":
        skipped |= {"search", "trials", "architecture"}
    elif recipe.student.architecture != "searched":
        skipped |= {"search", "trials"}
    elif not recipe.search.trials:
        skipped.add("trials")
    return [stage for stage in STAGES if stage not in skipped]


def stage_keys(recipe: Recipe) -> dict[str, str]:
    """What each stage is made from, each key including those of the stages before it. Imports no torch."""
    sections = ("teacher", "augmentation", "student", "objective", "search", "compress")
    options = {name: getattr(recipe, name).model_dump(mode="json") for name in sections}
    training = options["compress"]
    del training["preset"]  # a name for what is written out beside it
    rounded = training.pop("quantization_epochs")
    # What a stage has from the source domain; nothing, and no part of its key, where there is none.
    source = {role: [source_key(recipe.source)] for role in recipe.source_learners} if recipe.source else {}
    selector = options["augmentation"].pop("selector", None)  # decides in the student's stage
    model = (recipe.teacher.model, _directory_state(recipe.teacher.model))
    keys = {"data": fingerprint(__version__, data_key(recipe.data), recipe.seed)}
    del options["teacher"]["method"]  # likewise: see `_scope`
    of_teacher = [*_scope(recipe), *source.get("teacher", [])]
    keys["teacher"] = fingerprint(keys["data"], options["teacher"], model, *of_teacher)
    keys["augmented"] = fingerprint(keys["data"], model, options["augmentation"])
    if recipe.domains.student is not None:
        keys["augmented"] = fingerprint(keys["augmented"], recipe.domains.student)
    if isinstance(recipe.augmentation, L2aOptions) and recipe.source:
        keys["augmented"] = fingerprint(keys["augmented"], source_key(recipe.source))
    if isinstance(recipe.augmentation, MaskedLmOptions):
        training_of_it = {name: options["augmentation"][name] for name in MaskedLmOptions.model_fields}
        keys["language_model"] = fingerprint(
            __version__, text_key(recipe.data), model, training_of_it, *source.get("language_model", [])
        )
        keys["augmented"] = fingerprint(keys["augmented"], keys["language_model"])
    searched = recipe.student.kind == "cnn"
    more = [*(["expertise"] if recipe.weights_examples else []), *source.get("student", [])]
    if recipe.data.distil_unlabelled:
        more += ["unlabelled", text_key(recipe.data)]
    keys["teacher_outputs"] = fingerprint(keys["teacher"], keys["augmented"], searched, *more)
    # What only the final training uses does not outdate the search.
    steps = {name: training[name] for name in ("batch_size", "learning_rate", "weight_decay")}
    bounds = {name: options["search"].pop(name) for name in ("max_cost", "max_parameters", "target_latency_ms")}
    trials = {name: options["search"].pop(name) for name in ("trials", "trial_steps")}
    inherit = options["search"].pop("inherit")
    keys["search"] = fingerprint(
        keys["teacher_outputs"], options["student"], options["search"], steps, options["objective"]
    )
    keys["trials"] = fingerprint(keys["search"], trials)
    given = _file_state(getattr(recipe.student, "architecture", "searched"))
    chosen_from = "trials" if "trials" in stages_of(recipe) else "search"
    keys["architecture"] = fingerprint(keys[chosen_from], bounds, given)  # all that only the choice uses
    init = _directory_state(getattr(recipe.student, "init", "random"))
    keys["student"] = fingerprint(
        keys["architecture" if searched else "teacher_outputs"],
        options["student"],
        options["objective"],
        training,
        init,
        *([recipe.transfer_weight] if recipe.transfer_weight else []),
        *([] if selector is None else [selector]),
        *([{"quantization_epochs": rounded}] if rounded else []),
        *([{"inherit": inherit}] if "search" in stages_of(recipe) else []),
    )
    return keys


def _scope(recipe: Recipe) -> list[Any]:
    """What sets the teacher apart from one that is fine-tuned on all texts.

    Not the student's domain, unless the teacher is its own: one meta-teacher serves the students of all domains.
    """
    domains = recipe.domains
    scope: list[Any] = [{"own": domains.student}] if domains.teacher == "own" else []
    if domains.leave_out:
        scope.append({"leave_out": sorted(domains.leave_out)})
    if recipe.teacher.method == "meta":
        scope.append({"corruption": recipe.meta.corruption})
    return scope


def compress(
    recipe: Recipe,
    workspace: Workspace,
    *,
    force: bool = False,
    until: str = "student",
    latency: Latency | None = None,
) -> Path:
    """Run the stages that are not up to date; returns the directory of the last one.

    :param force: make every stage anew.
    :param until: the last stage to run.
    :param latency: how a student is timed where it will run, needed for `search.target_latency_ms`.
    :raises UserError: the student and the objective do not fit the teacher, before anything is trained.
    """
    keys = stage_keys(recipe)
    run = _Run(recipe, workspace, latency)
    makers = {
        "teacher": run.teacher,
        "language_model": run.language_model,
        "augmented": run.augmented,
        "teacher_outputs": run.teacher_outputs,
        "search": run.search,
        "trials": run.trials,
        "architecture": run.architecture,
        "student": run.student,
    }
    if until == "student" and (force or not workspace.is_current("student", keys["student"])):
        run.check()
    for stage in stages_of(recipe):
        runner = workspace.run if stage == "student" else workspace.run_shared
        runner(stage, keys[stage], makers[stage], force=force)
        if stage == until:
            break
    return workspace.root / until


@dataclass
class _Run:
    """The stages' work; the corpus is read and torch imported when the first stage needs them."""

    recipe: Recipe
    workspace: Workspace
    latency: Latency | None
    _corpus: Corpus | None = None

    @property
    def corpus(self) -> Corpus:
        if self._corpus is None:
            self._corpus = load_corpus(self.recipe.data, self.recipe.source)
            for found in self._corpus.contamination:
                if found.equal or found.shared:
                    console.print(f"  [yellow]contamination:[/] {found}")
        return self._corpus

    @property
    def student_corpus(self) -> Corpus:
        """Of the corpus, what the student learns from and is judged on."""
        return student_corpus(self.recipe, self.corpus)

    def teacher(self, directory: Path, scratch: Path) -> None:
        corpus = self.corpus  # before torch is imported: a mistake in the data shows at once
        from compress.teachers.finetune import make_teacher

        make_teacher(self.recipe, corpus, directory, scratch)

    def check(self) -> None:
        """Whether student, objective and teacher fit together, as far as their configurations show."""
        corpus = self.student_corpus  # before torch is imported: a mistake in the data shows at once
        teacher_corpus(self.recipe, self.corpus)
        section = self.recipe.data.section
        if self.recipe.data.distil_unlabelled and not corpus.unlabelled:
            raise UserError(
                f"{section}.distil_unlabelled: there are no unlabelled texts; name their table in {section}.unlabelled, or "
                f"leave training texts without their labels by {section}.train_limit"
            )
        if self.recipe.search.cost == "measured-gpu" and "search" in stages_of(self.recipe):
            check_device("cuda")
        inputs = getattr(self.recipe.student, "pair_inputs", "aligned")
        if inputs != "aligned" and not corpus.pair:
            raise UserError(
                f'student.pair_inputs: "{inputs}" is for pairs of texts, and these data have one text; set {section}.text_b or leave it out'
            )
        if not isinstance(self.recipe.student, TransformerOptions):
            return
        from compress.distil.plan import check_objective
        from compress.students.transformer import student_config
        from compress.teachers.finetune import classifier_config

        teacher = classifier_config(self.recipe.teacher, corpus.labels)
        check_objective(self.recipe.objective, student_config(self.recipe.student, teacher), teacher)

    def language_model(self, directory: Path, scratch: Path) -> None:
        corpus = self.corpus
        from compress.augment.stage import make_language_model

        make_language_model(self.recipe, corpus, directory, scratch)

    def augmented(self, directory: Path, scratch: Path) -> None:
        corpus = self.student_corpus
        from compress.augment.stage import make_augmented

        made = "language_model" in stages_of(self.recipe)
        language_model = self.workspace.root / "language_model" if made else None
        make_augmented(self.recipe, corpus, language_model, directory, scratch)

    def teacher_outputs(self, directory: Path, scratch: Path) -> None:
        from compress.runtime.encode import TextEncoder
        from compress.teachers.outputs import make_teacher_outputs

        teacher = self.workspace.root / "teacher"
        encoder = TextEncoder(teacher / "tokenizer.json", self.recipe.data.max_length)
        searched = self.recipe.student.kind == "cnn"
        make_teacher_outputs(
            teacher,
            self._student_texts(encoder),
            self.recipe.data.max_length,
            directory,
            probes=searched,
            weights=self.recipe.weights_examples,
        )

    def search(self, directory: Path, scratch: Path) -> None:
        from compress.search.adabert import search_architecture

        search_architecture(self._student_task(), self.recipe, directory, scratch)

    def trials(self, directory: Path, scratch: Path) -> None:
        from compress.search.trials import run_trials

        run_trials(self._student_task(), self.recipe, self.workspace.root / "search", directory, scratch)

    def architecture(self, directory: Path, scratch: Path) -> None:
        if not processes.is_first():
            return  # others would disturb its timings
        corpus = self.corpus
        from compress.runtime.encode import TextEncoder
        from compress.search.architecture import choose_architecture
        from compress.teachers.finetune import classifier_config

        teacher = self.workspace.root / "teacher"
        vocabulary = classifier_config(self.recipe.teacher, corpus.labels).vocab_size
        tokenizer = teacher / "tokenizer.json"
        encoder = TextEncoder(tokenizer, self.recipe.data.max_length)
        measure = partial(self.latency, tokenizer=tokenizer, recipe=self.recipe) if self.latency else None
        choose_architecture(self.recipe, corpus, encoder, vocabulary, self.workspace.root, directory, measure)

    def student(self, directory: Path, scratch: Path) -> None:
        from compress.distil.student import train_student
        from compress.pipeline.build_student import build_student
        from compress.teachers.finetune import open_teacher, save_tokenizer_copy, teacher_card

        task = self._student_task()
        teacher, _ = open_teacher(self.workspace.root / "teacher", self.recipe.data.max_length)
        student = build_student(self.recipe, task, teacher, self.workspace.root)
        objective, training, augmentation = self.recipe.objective, self.recipe.compress, self.recipe.augmentation
        if isinstance(augmentation, L2aOptions):
            from compress.augment.stage import load_pool, pool_of_texts
            from compress.l2a.loop import train_with_selector
            from compress.l2a.plot import draw_selector

            pool = load_pool(self.workspace.root / "augmented")
            for texts, source in reversed(self._further_texts()):
                pool = pool_of_texts(len(texts), source=source) + pool
            history, log = train_with_selector(
                student, teacher, task, pool, objective, training, augmentation.selector, scratch
            )
            write_json(directory / "selector.json", log)
            draw_selector(log, directory, self.recipe.name)
        else:
            transfer = self._transfer(student)
            history = train_student(student, teacher, task, objective, training, scratch, transfer)
        student.save_pretrained(directory)
        save_tokenizer_copy(self.workspace.root / "teacher", directory)
        card: dict[str, Any] = {
            "recipe": self.recipe.dump(),
            "data": data_key(self.recipe.data),
            "contamination": [vars(found) for found in self.corpus.contamination],
            "sizes": {name: len(split) for name, split in self.student_corpus.splits.items()},
            "labels": self.corpus.labels,
            "pair": self.corpus.pair,
            "report_split": self.corpus.report_split,
            "teacher": teacher_card(self.workspace.root / "teacher"),
            "parameters": sum(p.numel() for p in student.parameters()),
            "seed": self.recipe.seed,
            "version": __version__,
            "history": history,
        }
        if self.recipe.student.kind == "cnn":
            found = json.loads((self.workspace.root / "architecture" / "genotype.json").read_text())
            card["genotype"] = found["genotype"]
        write_json(directory / "card.json", card)

    def _transfer(self, student: PreTrainedModel) -> Transfer | None:
        if not self.recipe.transfer_weight:
            return None
        from compress.distil.transfer import Transfer
        from compress.teachers.meta import DomainKnowledge

        knowledge = DomainKnowledge.load(self.workspace.root / "teacher")
        return Transfer(knowledge.representation, student.config.hidden_size, self.recipe.transfer_weight)

    def _student_task(self) -> StudentTask:
        import torch

        from compress.data.batches import encode_split
        from compress.data.contamination import shared_text_groups
        from compress.distil.task import StudentTask
        from compress.teachers.finetune import open_teacher
        from compress.teachers.outputs import load_outputs

        model, encoder = open_teacher(self.workspace.root / "teacher", self.recipe.data.max_length)
        texts = self._student_texts(encoder)
        if "teacher_outputs" in stages_of(self.recipe):
            texts.targets |= load_outputs(self.workspace.root / "teacher_outputs")
            verdict = texts.targets["logits"].argmax(dim=1)
            texts.labels = torch.where(texts.labels < 0, verdict, texts.labels)
        own = self.student_corpus.splits["train"]
        return StudentTask(
            texts,
            len(own),
            shared_text_groups(own.normalised),
            encode_split(self.student_corpus.splits["dev"], encoder),
            self.corpus.labels,
            self.corpus.pair,
            model.config.pad_token_id or 0,
            model.get_input_embeddings().weight.detach().clone(),
            self.recipe.seed,
        )

    def _student_texts(self, encoder: TextEncoder) -> EncodedSplit:
        """The training texts, the source's and the unlabelled ones where the student learns from them, then the augmented ones.

        Where no label is known it is −1.

        For a meta-teacher, with their `domain`.
        """
        from compress.data.batches import encode_split, join_splits

        originals = self.student_corpus.splits["train"]
        texts, domains = encode_split(originals, encoder), originals.domains or []
        for further, _ in self._further_texts():
            texts = join_splits(texts, encode_split(further, encoder))
        if self.recipe.augmentation.method != "none":
            from compress.augment.stage import load_augmented

            augmented = load_augmented(self.workspace.root / "augmented", originals)
            texts, domains = join_splits(texts, encode_split(augmented, encoder)), domains + (augmented.domains or [])
        if self.recipe.teacher.method == "meta":
            from compress.teachers.meta import DomainKnowledge

            texts.targets["domain"] = DomainKnowledge.load(self.workspace.root / "teacher").numbers(domains)
        return texts

    def _further_texts(self) -> list[tuple[Split, bool]]:
        """What the student learns from besides training texts and augmented ones, and whether that is the source's."""
        texts = []
        if self.corpus.source and "student" in self.recipe.source_learners:
            texts.append((self.corpus.source, True))
        if self.corpus.unlabelled and self.recipe.data.distil_unlabelled:
            texts.append((self.corpus.unlabelled, False))
        return texts


def _file_state(architecture: str) -> str | None:
    """SHA-256 of a given genotype."""
    if architecture in SPECIAL_ARCHITECTURES:
        return None
    if not Path(architecture).is_file():
        raise UserError(
            f"student.architecture: {architecture}: no such file; give {', '.join(SPECIAL_ARCHITECTURES)} or a genotype.json"
        )
    return sha256_file(Path(architecture))


def _directory_state(model: str) -> list[tuple[str, int, int]] | None:
    """Names, sizes and times of a local model's files: a retrained checkpoint is another input."""
    directory = Path(model)
    if model in ("embedded", *SPECIAL_INITS) or not directory.is_dir():
        return None
    return [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(directory.iterdir()) if p.is_file()]
