"""The domains of a corpus: which there are, and whose texts are for the teacher and whose for the student."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from compress.data.corpus import Corpus, Split, load_corpus
from compress.runtime.errors import UserError

if TYPE_CHECKING:
    from compress.recipe import Recipe


def teacher_corpus(recipe: Recipe, corpus: Corpus) -> Corpus:
    """The texts for training the teacher and for choosing its best epoch.

    :raises UserError: a domain is not in train, or no text is left.
    """
    domains = recipe.domains
    if domains.teacher == "own":
        return student_corpus(recipe, corpus)
    if not domains.leave_out:
        return corpus
    known = check_domains(corpus, domains.leave_out, "domains.leave_out")
    return in_domains(corpus, set(known) - set(domains.leave_out), "domains.leave_out")


def student_corpus(recipe: Recipe, corpus: Corpus) -> Corpus:
    """The texts for training and evaluating the student.

    :raises UserError: a domain is not in train, or another split has no text of it.
    """
    domain = recipe.domains.student
    return corpus if domain is None else in_domains(corpus, {domain}, "domains.student")


def load_student_corpus(recipe: Recipe) -> Corpus:
    """The `student_corpus` of the target's data, read by `load_corpus`.

    :raises UserError: as `load_corpus` and `student_corpus`.
    """
    return student_corpus(recipe, load_corpus(recipe.target))


def domain_names(corpus: Corpus) -> list[str]:
    """The domains of the training texts, sorted.

    :raises UserError: the texts have none.
    """
    domains = corpus.splits["train"].domains
    if domains is None:
        raise UserError("data.domain: the texts have no domains; name the column that holds them")
    return sorted(set(domains))


def check_domains(corpus: Corpus, chosen: Collection[str], key: str) -> list[str]:
    """The domains of the training texts, sorted, after a check that the chosen ones are among them.

    :param key: the recipe's setting that names the chosen domains, for the message.
    :raises UserError: the training texts have no domains, or not one of the chosen domains.
    """
    known = domain_names(corpus)
    if unknown := sorted(set(chosen) - set(known)):
        raise UserError(f"{key}: no domain {unknown[0]!r} in train; there are {', '.join(known)}")
    return known


def in_domains(corpus: Corpus, chosen: Collection[str], key: str) -> Corpus:
    """The corpus with the texts of the chosen domains only.

    :param key: the recipe's setting that names the chosen domains, for the message.
    :raises UserError: as `check_domains`, or a split has no text of these domains, or train only those of one class.
    """
    check_domains(corpus, chosen, key)
    splits = {name: texts_of_domains(split, chosen) for name, split in corpus.splits.items()}
    names = ", ".join(sorted(chosen)) or "any domain that is left"
    for name, split in splits.items():
        if not len(split):
            raise UserError(f"{key}: {name} has no text of {names}")
    if len(there := set(splits["train"].labels)) < 2:
        raise UserError(
            f"{key}: all training texts of {names} have the label {corpus.labels[there.pop()]!r}; a classifier needs two"
        )
    return replace(corpus, splits=splits)


def texts_of_domains(split: Split, chosen: Collection[str]) -> Split:
    """The texts of a split that are of the chosen domains; none if it has no domains."""
    return split.take([i for i, domain in enumerate(split.domains or []) if domain in chosen])
