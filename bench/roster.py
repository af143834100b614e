"""Which engines there are for a task, and which of them the user asks for."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property

from bench.engines import FAMILIES, KINDS, Engine, Offer
from bench.task import Task
from compress.runtime.errors import UserError

REFERENCE = "bert-torch"  # speed-ups are relative to this engine


@dataclass(frozen=True)
class Roster:
    """The engines of one task."""

    task: Task

    def names(self) -> list[str]:
        """Names of all engines, in the order of the tables.

        :raises UserError: the task has no bundle.
        """
        return list(self._offers)

    def engine(self, name: str) -> Engine:
        """The engine of that name, with its files. Those of the BERT baseline are made if they are not in the cache.

        :raises UserError: a file is missing, or a model has other labels than the data.
        """
        return self._offers[name].make()

    def engines(self, names: list[str]) -> list[Engine]:
        """The engines of these names, in this order.

        BERT's files take a minute to make, so they come last: any other error is then seen at once.

        :raises UserError: as `engine`.
        """
        made = {name: self.engine(name) for name in sorted(names, key=lambda n: self._offers[n].family == "bert")}
        return [made[name] for name in names]

    @cached_property
    def _offers(self) -> dict[str, Offer]:
        offers = [offer for kind in KINDS for offer in kind.offers(self.task)]
        return {offer.name: offer for offer in sorted(offers, key=lambda o: FAMILIES.index(o.family))}


def select(names: list[str], only: list[str], skip: list[str]) -> list[str]:
    """The engines that match a pattern of `only` and no pattern of `skip`. If `only` is empty, all match it.

    :param only: names; `*` stands for any characters.
    :param skip: likewise.
    :raises UserError: a pattern matches no engine, or no engine is left.
    """
    for flag, patterns in (("--only", only), ("--skip", skip)):
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise UserError(f"{flag} {pattern}: no such engine; there are {', '.join(names)}")
    chosen = [name for name in names if not only or any(fnmatchcase(name, pattern) for pattern in only)]
    chosen = [name for name in chosen if not any(fnmatchcase(name, pattern) for pattern in skip)]
    if not chosen:
        raise UserError(f"--skip: leaves no engine to measure; there are {', '.join(names)}")
    return chosen
