"""Figures of the results: mean and spread over the seeds, averages over the columns, and the rows of the table."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Literal

from bench.tables.results import Entries, Entry
from bench.tables.table import Table
from bench.text import MISSING, millions, significant
from export.facts import share_of_gap

Figure = Literal["value", "agreement", "distance"]  # of an entry
# What a figure is multiplied with to be shown, and its decimals: percent or points, and nats.
SHOWN: dict[Figure, tuple[float, int]] = {"value": (100.0, 1), "agreement": (100.0, 1), "distance": (1.0, 3)}


@dataclass(frozen=True)
class Score:
    """A mean over seeds or runs: in points (0 … 100), or in nats."""

    mean: float
    spread: float | None  # sample standard deviation, or standard error where a method says so; None: one value
    seeds: int  # number of values
    decimals: int = 1

    @property
    def text(self) -> str:
        """`83.0 ± 3.6`: mean ± spread."""
        return f"{self.mean:.{self.decimals}f}{self._spread}"

    @property
    def signed(self) -> str:
        """`+4.0 ± 1.1`: a difference with its sign, ± its spread."""
        return f"{self.mean:+.{self.decimals}f}{self._spread}"

    @property
    def _spread(self) -> str:
        return "" if self.spread is None else f" ± {self.spread:.{self.decimals}f}"


class Summary:
    """Figures of a table's results by row and column. A figure without results is None."""

    def __init__(self, table: Table, entries: Entries) -> None:
        self.table = table
        runs = set(table.runs())
        self.entries = [entry for entry in entries.values() if entry.run in runs]

    def score(self, method: str, data: str, precision: str) -> Score | None:
        """Mean and sample standard deviation over the finished seeds, in the column's metric."""
        return _over_seeds([entry.value for entry in self.of(method, data, precision)], "value")

    def of_teacher(self, method: str, data: str, figure: Figure) -> Score | None:
        """Likewise, of a comparison with the teacher: the agreement or the distance."""
        found = [getattr(entry, figure) for entry in self.of(method, data, self.main)]
        return _over_seeds([value for value in found if value is not None], figure)

    @property
    def main(self) -> str:
        """The table's first precision: the columns show it, but for rows that do not have it."""
        return self.table.precisions[0]

    def shown(self, method: str, data: str) -> Score | None:
        """What a cell shows: the score in the row's first precision."""
        return self.score(method, data, self.table.shown_precision(method))

    def shares(self, method: str, columns: list[str]) -> tuple[float | None, float] | None:
        """What a student keeps of its teacher, by the means over seeds and columns: the share of the gap between the linear model
        and the teacher that it closes (None: there is no gap), and its accuracy as a share of the teacher's.

        None: the table has no row of one of them, or a column no result.
        """
        linear, teacher = self.table.row_of("linear"), self.table.row_of("teacher")
        if linear is None or teacher is None or self.table.method[method].stop is not None:
            return None
        scores = [[self.shown(name, data) for data in columns] for name in (method, linear, teacher)]
        means = [[score.mean for score in row if score] for row in scores]
        if not all(len(row) == len(columns) for row in means):
            return None
        own, of_linear, of_teacher = (statistics.mean(row) for row in means)
        return share_of_gap(own, of_linear, of_teacher), own / of_teacher

    @property
    def shared(self) -> dict[str, list[str]]:
        """The columns of each average, by the average's title. An average of no columns is left out.

        There is one average over the table's columns, or one over each group's columns. It is over the columns that every
        row has. Rows without any result do not count. A row that the table leaves out of one of the columns does not
        count either, and has no average.
        """
        grouped: dict[str, list[str]] = {}
        for data, column in self.table.data.items():
            grouped.setdefault(column.group or "", []).append(data)
        if len(grouped) > 1:
            grouped.pop("", None)
        out = {}
        for group, columns in grouped.items():
            rows = [
                method
                for method, row in self.table.method.items()
                if (row.data is None or set(columns) <= set(row.data)) and any(self.of(method, d) for d in columns)
            ]
            fair = [data for data in columns if rows and all(self.shown(method, data) for method in rows)]
            if fair and len(self.table.data) > 1:
                out[f"{group} average ({len(fair)})" if group else f"Average ({len(fair)})"] = fair
        return out

    def average(self, method: str, precision: str, columns: list[str]) -> Score | None:
        """Mean over the columns, and the standard deviation over the seeds that all columns have. None: a column is missing."""
        scores = [self.score(method, data, precision) for data in columns]
        means = [score.mean for score in scores if score]
        if not means or len(means) < len(scores):
            return None
        of = [{e.seed: 100 * e.value for e in self.of(method, data, precision)} for data in columns]
        seeds = set.intersection(*(set(values) for values in of))
        each = [statistics.mean(values[seed] for values in of) for seed in seeds]
        return Score(statistics.mean(means), statistics.stdev(each) if len(each) > 1 else None, len(each))

    def gain(self, method: str, over: str, figure: Figure = "value") -> Score | None:
        """What the runs of a row have more than the runs of another row on the same column and seed, in points, or in nats.

        The spread is the standard error of the mean over these pairs of runs. None: there are no pairs.

        :param over: the other row.
        """
        theirs, own = (
            {
                (e.data, e.seed): found
                for e in self.of(row)
                if self._is_main(e) and (found := getattr(e, figure)) is not None
            }
            for row in (over, method)
        )
        return _mean_gain([own[run] - theirs[run] for run in own.keys() & theirs.keys()], figure)

    @property
    def at_home(self) -> Score | None:
        """How much better an architecture is on its own column than architectures that were searched on other columns.

        For each column and seed: the value of the architecture that was searched on this column, minus the mean of the
        others on the same column. In points. The spread is the standard error of the mean over columns and seeds. None:
        there is nothing to compare.
        """
        # By column and seed: the value of the column's own architecture, the values of the others.
        values: dict[tuple[str, int], tuple[list[float], list[float]]] = {}
        for method, row in self.table.method.items():
            if row.searched_on is None:
                continue
            for entry in filter(self._is_main, self.of(method)):
                values.setdefault((entry.data, entry.seed), ([], []))[entry.data != row.searched_on].append(entry.value)
        pairs = [(own, others) for own, others in values.values() if own and others]
        return _mean_gain([statistics.mean(own) - statistics.mean(others) for own, others in pairs], "value")

    def _is_main(self, entry: Entry) -> bool:
        return entry.metric == self.table.metric(entry.data, self.table.shown_precision(entry.method))

    def largest_drop(self, method: str) -> float | None:
        """The largest loss of INT8 against fp32 in one run, in points. Negative: every run gains."""
        fp32, int8 = ({(e.data, e.seed): e.value for e in self.of(method, precision=p)} for p in ("fp32", "int8"))
        return max((100 * (fp32[run] - int8[run]) for run in int8.keys() & fp32.keys()), default=None)

    def parameters(self, method: str) -> str:
        """Number of weights; a range if the runs differ."""
        counts = [entry.parameters for entry in self.of(method) if entry.parameters is not None]
        if not counts:
            return MISSING
        low, high = millions(min(counts)), millions(max(counts))
        return low if low == high else f"{low.removesuffix(' M')}–{high}"

    def latency(self, method: str, data: str) -> float | None:
        """p50 in ms, of the seed that was timed; None if none was."""
        return next((e.latency_ms for e in self.of(method, data) if e.latency_ms is not None), None)

    @property
    def timed(self) -> str | None:
        """The table shows the latencies of this column: the first one that has any."""
        return next((d for d in self.table.data if any(self.latency(m, d) for m in self.table.method)), None)

    def of(self, method: str, data: str | None = None, precision: str | None = None) -> list[Entry]:
        """The entries of a row; with `data` or `precision` only those of a column or a precision."""
        return [
            e
            for e in self.entries
            if e.method == method
            and data in (None, e.data)
            and (precision is None or e.metric == self.table.metric(e.data, precision))
        ]

    def rows(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows of the table."""
        columns = list(self.table.data)
        header = ["Method", *map(self._title, columns)]
        averages, quantised = self.shared, "int8" in self.table.precisions[1:]
        header += list(averages)
        if quantised:
            header += [f"INT8, {title[0].lower()}{title[1:]}" for title in averages] if len(columns) > 1 else ["INT8"]
            header += ["Largest INT8 drop"]
        header += ["Parameters", f"p50 ms, {self.timed}" if self.timed else "p50 ms"]
        rows = []
        for method in self.table.method:
            row = [method, *(self._cell(self.shown(method, data), data) for data in columns)]
            row += [_text(self.average(method, self.table.shown_precision(method), over)) for over in averages.values()]
            if quantised:
                over_all = averages.values() if len(columns) > 1 else [columns]
                row += [_text(self.average(method, "int8", over)) for over in over_all]
                drop = self.largest_drop(method)
                row += [MISSING if drop is None else f"{drop:.1f}"]
            row += [self.parameters(method), significant(self.latency(method, self.timed) if self.timed else None)]
            rows.append(row)
        return header, rows

    def rows_of_teacher(self, figure: Figure) -> tuple[list[str], list[list[str]]] | None:
        """Header and rows of the comparisons with the teacher; None if no run has one."""
        found = {(m, d): self.of_teacher(m, d, figure) for m in self.table.method for d in self.table.data}
        columns = [d for d in self.table.data if any(found[m, d] for m in self.table.method)]
        methods = [m for m in self.table.method if any(found[m, d] for d in columns)]
        if not methods:
            return None
        rows = [[m, *(self._cell(found[m, d], d) for d in columns)] for m in methods]
        return ["Method", *(self._title(data, metric=False) for data in columns)], rows

    def share_rows(self) -> tuple[list[str], list[list[str]]] | None:
        """Header and rows of what students keep of their teachers; None if the table has no linear model or no teacher."""
        columns = {self._title(data, metric=False): [data] for data in self.table.data} | self.shared
        found = {m: {title: self.shares(m, over) for title, over in columns.items()} for m in self.table.method}
        rows = [[m, *map(_share_text, cells.values())] for m, cells in found.items() if any(cells.values())]
        return (["Method", *columns], rows) if rows else None

    def _cell(self, score: Score | None, data: str) -> str:
        if score is None:
            return MISSING
        # The number of seeds is shown if it is not the column's: the table is unfinished.
        return score.text + (f" (n = {score.seeds})" if score.seeds != self._seeds(data) else "")

    def _title(self, data: str, *, metric: bool = True) -> str:
        """A column's title. It tells the metric if that is not the accuracy, and the number of seeds if there are several."""
        name = self.table.data[data].metric
        parts = [name.upper()] if metric and name != "accuracy" else []
        parts += [f"{n} seeds"] if (n := self._seeds(data)) > 1 else []
        return f"{data} ({', '.join(parts)})" if parts else data

    def _seeds(self, data: str) -> int:
        return len(self.table.seeds_of(data))


def _over_seeds(values: list[float], figure: Figure) -> Score | None:
    """Mean and sample standard deviation of a figure; None without values."""
    if not values:
        return None
    scale, decimals = SHOWN[figure]
    spread = scale * statistics.stdev(values) if len(values) > 1 else None
    return Score(scale * statistics.mean(values), spread, len(values), decimals)


def _mean_gain(gains: list[float], figure: Figure) -> Score | None:
    """Mean of differences of a figure ± its standard error; None without values."""
    if not gains:
        return None
    scale, decimals = SHOWN[figure]
    error = scale * statistics.stdev(gains) / math.sqrt(len(gains)) if len(gains) > 1 else None
    return Score(scale * statistics.mean(gains), error, len(gains), decimals)


def _share_text(shares: tuple[float | None, float] | None) -> str:
    if shares is None:
        return MISSING
    gap, of_teacher = shares
    return f"{MISSING if gap is None else f'{gap:.0%}'} ({of_teacher:.1%})"


def _text(score: Score | None) -> str:
    return MISSING if score is None else score.text
