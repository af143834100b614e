"""Which engines there are for a task, and which of them the user asks for."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property

from bench.engines import FAMILIES, KINDS, Engine, Offer
from bench.task import Task
from compress.runtime.errors import UserError, one_line

REFERENCE = "bert-torch"  # speed-ups are relative to this engine
TEACHER, LINEAR = "teacher-torch", "linear"  # the share of the gap is between these two
_MADE_LATE = {"rival": 1, "bert": 2}


@dataclass(frozen=True)
class Roster:
    """The engines of one task."""

    task: Task

    def names(self) -> list[str]:
        """Names of all engines, in the order of the tables.

        :raises UserError: the task has no bundle.
        """
        return list(self._offers)

    def choose(self, rivals: str, only: list[str], skip: list[str]) -> list[str]:
        """The engines that the user asks for, see `select`.

        :param rivals: `cheap`, `all`, `none`, or names of rivals; without `only`, the others are left out.
        :raises UserError: as `select`.
        """
        if only:
            return select(self.names(), only, skip)
        offers = self._offers.values()
        wanted = {
            "cheap": lambda offer: offer.by_default,
            "all": lambda offer: True,
            "none": lambda offer: False,
        }.get(rivals)
        if wanted is None:
            of_rivals = [offer.name for offer in offers if offer.family == "rival"]
            named = select(of_rivals, rivals.split(","), [], flag="--rivals")
            wanted = lambda offer: offer.name in named  # noqa: E731
        return select([o.name for o in offers if o.family != "rival" or wanted(o)], [], skip)

    def engine(self, name: str) -> Engine:
        """The engine of that name, with its files. Those of the BERT baseline and of rivals are made if they are not kept.

        :raises UserError: a file is missing, or a model has other labels than the data.
        """
        return self._offers[name].make()

    def engines(self, names: list[str], skipped: dict[str, str]) -> list[Engine]:
        """The engines of these names, in this order.

        What has to be made takes minutes, so BERT and the rivals come last, and BERT's options are checked before: an error is
        then seen at once.

        :param skipped: gets the rivals that cannot be made, with the reason.
        :raises UserError: as `engine`.
        """
        if any(self._offers[name].family == "bert" for name in names):
            self.task.bert()
        made: dict[str, Engine] = {}
        for name in sorted(names, key=lambda n: _MADE_LATE.get(self._offers[n].family, 0)):
            try:
                made[name] = self.engine(name)
            except Exception as error:  # whatever a rival fails at, it must not cost the comparison of the others
                if self._offers[name].family != "rival":
                    raise
                skipped[name] = str(error) if isinstance(error, UserError) else one_line(error)
        return [made[name] for name in names if name in made]

    @cached_property
    def _offers(self) -> dict[str, Offer]:
        offers = [offer for kind in KINDS for offer in kind.offers(self.task)]
        if self.task.known_rivals is None:
            offers = [offer for offer in offers if offer.family != "rival"]
        return {offer.name: offer for offer in sorted(offers, key=lambda o: FAMILIES.index(o.family))}


def select(names: list[str], only: list[str], skip: list[str], *, flag: str = "--only") -> list[str]:
    """The engines that match a pattern of `only` and no pattern of `skip`. If `only` is empty, all match it.

    :param only: names; `*` stands for any characters.
    :param skip: likewise.
    :param flag: the option that `only` comes from, for the message.
    :raises UserError: a pattern matches no engine, or no engine is left.
    """
    for option, patterns in ((flag, only), ("--skip", skip)):
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise UserError(f"{option} {pattern}: no such engine; there are {', '.join(names)}")
    chosen = [name for name in names if not only or any(fnmatchcase(name, pattern) for pattern in only)]
    chosen = [name for name in chosen if not any(fnmatchcase(name, pattern) for pattern in skip)]
    if not chosen:
        raise UserError(f"--skip: leaves no engine to measure; there are {', '.join(names)}")
    return chosen
