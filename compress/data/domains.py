"""The texts of a multi-domain corpus for the teacher, and those for the student."""

from __future__ import annotations

from compress.data.corpus import Corpus, check_domains, in_domains, load_corpus
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
