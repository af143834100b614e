"""The teacher: a Hugging Face sequence classifier that is fine-tuned on the task."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from compress.console import console
from compress.data.batches import Batch, EncodedSplit, encode_split, join_splits, make_loader
from compress.data.corpus import Corpus
from compress.data.domains import domain_names, teacher_corpus
from compress.data.files import write_json
from compress.heads import MEAN_CLASSIFIERS, MeanPooling
from compress.objectives.expertise import prototype_scores
from compress.recipe import Recipe
from compress.recipe.sections import MANY_CLASSES, TeacherOptions
from compress.runtime.encode import TextEncoder
from compress.runtime.errors import UserError
from compress.teachers.calibration import calibrate
from compress.teachers.checkpoint import check_tokenizer, open_config, open_tokenizer, open_weights, pretrained
from compress.teachers.frozen import NAMES, FrozenHead, Representation, fit_heads
from compress.teachers.head_labels import check_head_labels, head_labels
from compress.teachers.meta import MetaLearner, domain_knowledge, meta_loss, with_prototype_scores
from compress.teachers.plots import draw_domains, show_prototype_scores
from compress.teachers.soup import train_soup
from compress.teachers.tutor import tutor_loss, tutored_texts
from compress.training.accelerator import make_accelerator
from compress.training.evaluation import compute_logits, dev_metrics, predict_labels
from compress.training.loop import FitState, Schedule, fit
from compress.training.optimizer import Loss, adamw

EVALUATIONS = 5  # of a training that is given in steps
SEEDS_APART = 1000  # of the trainings of a soup, so that those of the recipe's next seeds are others


def make_teacher(
    recipe: Recipe, corpus: Corpus, directory: Path, scratch: Path, tutor_outputs: Path | None = None
) -> None:
    """Fine-tune the teacher, or take it as it is. Writes a checkpoint, its tokenizer and `card.json` to `directory`.

    A meta-teacher also gets `domains.safetensors`, see `compress.teachers.meta`.

    :param corpus: all texts of the task. The recipe's section `domains` chooses the texts for the teacher.
    :param tutor_outputs: what `make_tutor_outputs` wrote; the teacher then learns a tutor's answers and not the labels.
    :raises UserError: the model cannot be loaded, has no fast tokenizer, or its head does not fit the labels.
    """
    learned_from = teacher_corpus(recipe, corpus)
    torch.manual_seed(recipe.seed)
    model, _ = load_classifier(recipe, corpus.labels)
    encoder = save_tokenizer(recipe, model, directory)
    card: dict[str, object] = {"model": recipe.teacher.model, "method": recipe.teacher.method}
    card["commit"] = pretrained(recipe.teacher).get("revision")  # of a model of the hub
    if not recipe.teacher.fine_tuned:
        splits = {name: encode_split(split, encoder) for name, split in learned_from.splits.items()}
        if corpus.source:
            splits["train"] = join_splits(splits["train"], encode_split(corpus.source, encoder))
        model, head, card["frozen"] = with_fitted_head(recipe, model, corpus.labels, splits)
        if recipe.teacher.method == "meta":
            card |= _train_meta(recipe, model, head, learned_from, splits, directory, scratch)
            card |= {"domains": domain_names(learned_from), "corruption": recipe.meta.corruption}
        elif tutor_outputs is not None:
            splits["train"] = tutored_texts(tutor_outputs, corpus.splits["train"], encoder)
            card |= _fit(recipe, model, model, head, splits, partial(tutor_loss, model), scratch)
            card["tutored"] = {"texts": len(splits["train"])}
        else:
            card |= _fit(recipe, model, model, head, splits, partial(_label_loss, model), scratch)
        if recipe.teacher.soup > 1:
            card["temperature"] = round(calibrate(model.to(make_accelerator().device), splits["dev"]), 4)
    model.to(make_accelerator().device)
    model.save_pretrained(directory)
    write_json(directory / "card.json", card | _accuracies(model, corpus, encoder))


def with_fitted_head(
    recipe: Recipe, model: PreTrainedModel, labels: list[str], splits: dict[str, EncodedSplit]
) -> tuple[PreTrainedModel, FrozenHead | None, dict[str, object]]:
    """The model with the recipe's `teacher.representation`, and with a head fitted on it if it comes first.

    :param model: the recipe's model with its own head.
    :returns: the model, its head if that was fitted, and what the frozen encoder is worth, for the card.
    :raises UserError: there is no head on the mean of the states for this kind of model.
    """
    options, first = recipe.teacher, is_head_first(recipe.teacher, labels)
    held_out = {name: texts for name, texts in splits.items() if name != "train"}
    heads = fit_heads(model, splits["train"], held_out, recipe.seed)
    measured = ", ".join(f"{NAMES[name]} {head.accuracy['dev']:.2%}" for name, head in heads.items())
    best = max(heads.values(), key=lambda head: head.accuracy["dev"])
    console.print(f"  frozen encoder with logistic regression on {best.texts:,} texts, dev: {measured}")
    chosen = max(
        (heads[name] for name in _representations(options, model, first)), key=lambda head: head.accuracy["dev"]
    )
    if chosen.representation == "mean" and not isinstance(model, MeanPooling):
        model, _ = load_classifier(recipe, labels, "mean")
    console.print(
        f"  teacher: trained with a head on {NAMES[chosen.representation]}{', fitted first' if first else ''}"
    )
    if first:
        chosen.write_to(model)
    return model, chosen if first else None, best.describe()


def make_frozen(recipe: Recipe, corpus: Corpus, directory: Path) -> None:
    """Write the recipe's model with a head fitted on its frozen encoder, and its tokenizer, to `directory`.

    The head takes the representation that is better on dev, of those that there is a head for.

    :param corpus: the texts to fit on and to choose by.
    :raises UserError: as `make_teacher`.
    """
    torch.manual_seed(recipe.seed)
    model, _ = load_classifier(recipe, corpus.labels)
    encoder = save_tokenizer(recipe, model, directory)
    splits = {name: encode_split(corpus.splits[name], encoder) for name in ("train", "dev")}
    heads = fit_heads(model, splits["train"], {"dev": splits["dev"]}, recipe.seed)
    if model.config.model_type not in MEAN_CLASSIFIERS and not isinstance(model, MeanPooling):
        heads.pop("mean")
    best = max(heads.values(), key=lambda head: head.accuracy["dev"])
    if best.representation == "mean" and not isinstance(model, MeanPooling):
        model, _ = load_classifier(recipe, corpus.labels, "mean")
    best.write_to(model)
    model.save_pretrained(directory)


def is_head_first(options: TeacherOptions, labels: list[str]) -> bool:
    """Whether the head is fitted before all is trained.

    With many classes, the random weights of a head distort the encoder. With two, a head that was fitted first ended lower:
    84.3 % on dev instead of 85.4 on the embedded task.
    """
    return len(labels) > MANY_CLASSES if options.head_first is None else options.head_first


def _representations(options: TeacherOptions, model: PreTrainedModel, first: bool) -> list[Representation]:
    """The representations to choose from."""
    if isinstance(model, MeanPooling):  # a teacher of an earlier run
        return ["mean"]
    takes_mean = may_take_mean(options, model.config.model_type)
    if options.representation == "auto":
        return ["mean", "cls"] if takes_mean and first else ["cls"]
    return [options.representation]


def may_take_mean(options: TeacherOptions, kind: str) -> bool:
    """Whether a model of this kind may get a new head on the mean of its states.

    :param kind: `model_type` of its configuration.
    :raises UserError: the recipe wants such a head, and there is none for this kind.
    """
    known = kind in MEAN_CLASSIFIERS
    has_one = any(kind == model.config_class.model_type for model in MEAN_CLASSIFIERS.values())
    if options.representation == "mean" and not known and not has_one:
        raise UserError(
            f"teacher.representation: there is no head on the mean of the states for {kind} models, only for "
            f'{", ".join(MEAN_CLASSIFIERS)}; set it to "cls"'
        )
    return known and options.representation != "cls" and not options.fine_tuned


def _label_loss(model: PreTrainedModel, batch: Batch, progress: float) -> Tensor:
    return F.cross_entropy(compute_logits(model, batch).float(), batch.labels)


def _train_meta(
    recipe: Recipe,
    model: PreTrainedModel,
    head: FrozenHead | None,
    corpus: Corpus,
    splits: dict[str, EncodedSplit],
    directory: Path,
    scratch: Path,
) -> dict[str, object]:
    train, names = splits["train"], domain_names(corpus)
    domains = torch.tensor([names.index(domain) for domain in corpus.splits["train"].domains or []])
    train, before = with_prototype_scores(model, train.with_domains(domains), (len(names), len(corpus.labels)))
    learner = MetaLearner(model, len(names))
    loss = meta_loss(learner, recipe.meta.corruption)
    card = _fit(recipe, learner, model, head, {**splits, "train": train}, loss, scratch)
    knowledge, after = domain_knowledge(learner, train, names)
    knowledge.save(directory)
    draw_domains(before, after, domains, names, directory)
    scores = prototype_scores(after, domains, train.labels, knowledge.prototypes)
    show_prototype_scores(scores, corpus, directory)
    return card


def _fit(
    recipe: Recipe,
    learner: nn.Module,
    model: PreTrainedModel,
    head: FrozenHead | None,
    splits: dict[str, EncodedSplit],
    loss: Loss,
    scratch: Path,
) -> dict[str, object]:
    """Train the learner in place. It ends with the weights of its best evaluation, or the mean of several trainings'.

    :param learner: the module to train: the model itself, or a `MetaLearner` with the model in it.
    :param head: the model's fitted head. The model with it, before its training, is one of those that the best is taken of.
    :returns: the dev metrics of each evaluation, and of each training if there were several, for the card.
    """
    options = recipe.teacher
    length = None if options.steps is None else -(-options.steps // EVALUATIONS)
    before = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()} if head else {}

    def evaluate() -> dict[str, float]:
        return dev_metrics(model.to(make_accelerator().device), splits["dev"])

    def train(number: int) -> FitState:
        seed = recipe.seed + SEEDS_APART * number
        loader = make_loader(splits["train"], options.batch_size, shuffle=True, seed=seed, length=length)
        parameters = (
            learner.parameter_groups(options.learning_rate) if isinstance(learner, MetaLearner) else model.parameters()
        )
        step = adamw(loader, parameters, loss, options)
        schedule = Schedule(options.epochs or EVALUATIONS, options.patience, seed)
        of_soup = options.soup > 1
        name = f"teacher {number + 1} of {options.soup}" if of_soup else "teacher"
        return fit(
            name, learner, [step], lambda _: evaluate(), schedule, scratch / f"soup-{number}" if of_soup else scratch
        )

    soup = train_soup(learner, options.soup, train, lambda: evaluate()["metric"])
    if head and head.accuracy["dev"] > soup.metric:
        console.print(
            "  teacher: fine-tuning has not bettered the fitted head on dev, which is kept with the frozen encoder"
        )
        model.load_state_dict(before)
    return {"history": soup.history, **soup.card}


def _accuracies(model: PreTrainedModel, corpus: Corpus, encoder: TextEncoder) -> dict[str, object]:
    """Accuracy on dev and test, for all texts, and for each domain if the texts have domains."""
    scores, by_domain = {}, {}
    for name, split in corpus.splits.items():
        if name == "train":
            continue
        encoded = encode_split(split, encoder)
        right = (predict_labels(model, encoded) == encoded.labels).float()
        scores[name] = round(float(right.mean()), 4)
        if split.domains is not None:
            names = sorted(set(split.domains))
            rows_of = {domain: torch.tensor([other == domain for other in split.domains]) for domain in names}
            by_domain[name] = {domain: round(float(right[rows].mean()), 4) for domain, rows in rows_of.items()}
    return {"accuracy": scores} | ({"domain_accuracy": by_domain} if by_domain else {})


def load_classifier(
    recipe: Recipe, labels: list[str], representation: Representation = "cls"
) -> tuple[PreTrainedModel, list[str]]:
    """The recipe's model with a classification head for `labels`.

    :param representation: what the head gets: `mean`, or `cls` for the model's own head.
    :returns: the model, and the names of the checkpoint's weights that it has no place for.
    :raises UserError: see `open_weights`; or a fine-tuned model has other labels.
    """
    options = recipe.teacher
    config = open_config(options)
    names = {"id2label": dict(enumerate(labels)), "label2id": {name: number for number, name in enumerate(labels)}}
    if options.fine_tuned:
        check_head_labels(head_labels(config, recipe.target), labels, recipe.target)
        return open_weights(AutoModelForSequenceClassification, options, **names)
    mean = representation == "mean" and MEAN_CLASSIFIERS.get(config.model_type)
    return open_weights(mean or AutoModelForSequenceClassification, options, num_labels=len(labels), **names)


def save_tokenizer(recipe: Recipe, model: PreTrainedModel, directory: Path) -> TextEncoder:
    """Write the model's tokenizer to `directory`.

    :returns: the text encoder of the task, with this tokenizer.
    :raises UserError: see `open_tokenizer` and `check_tokenizer`.
    """
    tokenizer = open_tokenizer(recipe.teacher)
    check_tokenizer(tokenizer, model, recipe.teacher, recipe.target)
    _save(tokenizer, directory)
    return TextEncoder(directory / "tokenizer.json", recipe.target.max_length, model.config.pad_token_id or 0)


def open_teacher(directory: Path, max_length: int) -> tuple[PreTrainedModel, TextEncoder]:
    """A finished teacher and its text encoder."""
    model = AutoModelForSequenceClassification.from_pretrained(directory)
    return model, open_encoder(directory, max_length)


def open_encoder(directory: Path, max_length: int) -> TextEncoder:
    """The text encoder of a finished teacher or student. A student has the tokenizer of its teacher."""
    config = AutoConfig.from_pretrained(directory)
    return TextEncoder(directory / "tokenizer.json", max_length, config.pad_token_id or 0)


def save_tokenizer_copy(teacher: Path, directory: Path) -> None:
    """Write the teacher's tokenizer to the directory of a student."""
    _save(AutoTokenizer.from_pretrained(teacher), directory)


def _save(tokenizer: PreTrainedTokenizerBase, directory: Path) -> None:
    """Write a tokenizer, without what transformers notes about the place where it was found."""
    for name in ("is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(name, None)
    tokenizer.save_pretrained(directory)


def teacher_card(directory: Path) -> dict[str, object]:
    """`card.json` of a finished teacher."""
    return json.loads((directory / "card.json").read_text(encoding="utf-8"))
