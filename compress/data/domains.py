"""Which texts of a multi-domain corpus the teacher learns from and which the student."""

from __future__ import annotations

from compress.data.corpus import Corpus, domain_names, in_domains, load_corpus
from compress.recipe import Recipe
from compress.runtime.errors import UserError


def teacher_corpus(recipe: Recipe, corpus: Corpus) -> Corpus:
    """The texts that the teacher learns from and by which its best epoch is chosen.

    :raises UserError: a domain that is not in train, or nothing is left.
    """
    domains = recipe.domains
    if domains.teacher == "own":
        return student_corpus(recipe, corpus)
    if not domains.leave_out:
        return corpus
    known = domain_names(corpus)
    if unknown := sorted(set(domains.leave_out) - set(known)):
        raise UserError(f"domains.leave_out: no domain {unknown[0]!r} in train; there are {', '.join(known)}")
    return in_domains(corpus, set(known) - set(domains.leave_out), "domains.leave_out")


def student_corpus(recipe: Recipe, corpus: Corpus) -> Corpus:
    """The texts that the student learns from and is judged on.

    :raises UserError: a domain that is not in train, or of which another split has no text.
    """
    domain = recipe.domains.student
    return corpus if domain is None else in_domains(corpus, {domain}, "domains.student")


def load_student_corpus(recipe: Recipe) -> Corpus:
    """`load_corpus`, and of it the texts that the student is for.

    :raises UserError: what both of these raise.
    """
    return student_corpus(recipe, load_corpus(recipe.target))
