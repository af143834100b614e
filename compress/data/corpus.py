"""The texts of a task: train, dev and test with numbered labels, unlabelled texts, and texts of a source domain."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from compress.data.carve import carve
from compress.data.contamination import Contamination, HeldOutIndex
from compress.data.labels import check_labels, like
from compress.data.summary import TableSummary, summarise
from compress.data.tables import Row, normalise, read_splits, read_table
from compress.recipe.sections import DataOptions, SourceOptions
from compress.runtime.errors import UserError

UNLABELLED = -1  # the label of a text without one, until the teacher labels it


@dataclass(frozen=True)
class Split:
    """Texts (or pairs of texts) with labels as indices into `Corpus.labels`. All lists have the same length."""

    texts: list[str]
    texts_b: list[str] | None
    labels: list[int]
    domains: list[str] | None

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: Sequence[int]) -> Split:
        """The examples of these rows, in this order."""
        return Split(
            [self.texts[i] for i in rows],
            [self.texts_b[i] for i in rows] if self.texts_b is not None else None,
            [self.labels[i] for i in rows],
            [self.domains[i] for i in rows] if self.domains is not None else None,
        )

    def with_texts_of(self, other: Split) -> Split:
        """The examples of both, one behind the other, without domains."""
        second = None if self.texts_b is None else [*self.texts_b, *(other.texts_b or [])]
        return Split([*self.texts, *other.texts], second, [*self.labels, *other.labels], None)

    @property
    def normalised(self) -> list[tuple[str, ...]]:
        """The one or two texts of each example, normalised."""
        parts = (self.texts,) if self.texts_b is None else (self.texts, self.texts_b)
        return [tuple(map(normalise, example)) for example in zip(*parts, strict=True)]


@dataclass(frozen=True)
class Corpus:
    """The splits of a task: always `train` and `dev`, and `test` if there is one."""

    labels: list[str]
    splits: dict[str, Split]
    unlabelled: Split | None = None  # the texts of `data.unlabelled`, and left-out training texts; every label is −1
    source: Split | None = None  # labelled texts of the source domain
    contamination: tuple[Contamination, ...] = ()  # dev and test texts that were found among the texts to learn from
    summary: TableSummary | None = None  # of the tables as they were read
    unknown_names: tuple[str, ...] = ()  # that `relabel` renames and no row has

    @property
    def pair(self) -> bool:
        """Whether each example is a pair of texts."""
        return self.splits["train"].texts_b is not None

    def reading_source(self) -> Corpus:
        """The same corpus, with the texts of the source domain added to the unlabelled texts."""
        if self.source is None:
            return self
        more, known = self.source, self.unlabelled or Split([], [] if self.pair else None, [], None)
        texts_b = None if known.texts_b is None or more.texts_b is None else known.texts_b + more.texts_b
        labels = known.labels + [UNLABELLED] * len(more)
        return replace(self, unlabelled=Split(known.texts + more.texts, texts_b, labels, None))

    def without_labels(self) -> Corpus:
        """The same texts without their labels."""
        splits = {name: replace(split, labels=[UNLABELLED] * len(split)) for name, split in self.splits.items()}
        source = self.source and replace(self.source, labels=[UNLABELLED] * len(self.source))
        return replace(self, labels=[], splits=splits, source=source)

    @property
    def report_split(self) -> str:
        """The split for reported figures: `test`, or `dev` if there is no test."""
        return "test" if "test" in self.splits else "dev"


def load_corpus(options: DataOptions, source: SourceOptions | None = None) -> Corpus:
    """Read and check a task's data, remove contamination, split it and number the labels.

    :param source: further labelled texts of another domain. Dev and test are always of the target domain.
    :raises UserError: what `read_splits` and `check_labels` raise, a single class, a label in dev, test or the source that train
        does not have, or no text is left of train or the source.
    """
    splits, unknown = _read_all_splits(options)
    summary = summarise({name: splits[name] for name in ("train", "dev", "test") if name in splits}, options.labels)
    decontaminator = _Decontaminator([row for name in ("dev", "test") for row in splits.get(name, [])])
    before = len(splits["train"])
    splits["train"] = decontaminator.remove(splits["train"], "training", options)
    if before and not splits["train"]:
        raise UserError(
            f"{options.section}.decontaminate: all {before:,} training texts overlap with dev or test texts; none is left to learn from: "
            "give other tables, or set it to exact or off"
        )
    if options.limit:
        # A random sample, since tables are often sorted by label. It keeps the order of the table.
        splits |= {
            name: _sample(rows, options.limit, options.sample) for name, rows in splits.items() if name != "train"
        }
        splits["train"] = _sample_of_all_classes(splits["train"], options.limit, options, "limit")
    unlabelled: list[Row] = []
    kept = min(round(len(splits["train"]) * options.train_fraction), options.train_limit or len(splits["train"]))
    if kept < len(splits["train"]):
        everything = splits["train"]
        key = "train_limit" if options.train_limit == kept else "train_fraction"
        splits["train"] = _sample_of_all_classes(everything, kept, options, key)
        labelled = set(map(id, splits["train"]))
        unlabelled += [row for row in everything if id(row) not in labelled]
    if options.unlabelled:
        further = {row.group: row for row in read_table(options.unlabelled, options, "unlabelled", labelled=False)}
        if known := len(further.keys() & {row.group for row in splits["train"]}):
            summary.warnings.append(f"{known:,} of {len(further):,} unlabelled texts are training texts too")
        unlabelled += decontaminator.remove(list(further.values()), "unlabelled", options)
    labels = _label_names(splits, options, set(summary.classes))
    index = {label: i for i, label in enumerate(labels)}
    ordered = {name: splits[name] for name in ("train", "dev", "test") if name in splits}
    corpus: dict[str, Split] = {name: _to_split(rows, index) for name, rows in ordered.items()}
    further_split = _to_split(unlabelled, None) if unlabelled else None
    source_split = _to_split(_source_rows(source, decontaminator, splits["train"][0], index), index) if source else None
    return Corpus(labels, corpus, further_split, source_split, tuple(decontaminator.report), summary, unknown)


def _read_all_splits(options: DataOptions | SourceOptions) -> tuple[dict[str, list[Row]], tuple[str, ...]]:
    """The rows of train, dev and, if there is one, test, with checked labels. A split without a table is a part of train.

    :returns: the rows by split, and the names of `relabel` that no row has.
    """
    read = read_splits(options)
    unknown = sorted(options.relabel.keys() - {row.label for rows in read.values() for row in rows})
    splits = {
        name: [replace(row, label=options.relabel.get(row.label, row.label)) for row in rows]
        for name, rows in read.items()
    }
    if getattr(options, "labels", None) is None:
        check_labels([row.label for row in splits["train"]], options, str(options.train or options.hub))
    if "dev" not in splits:
        splits = {**carve(splits.pop("train"), test="test" not in splits), **splits}
    return splits, tuple(unknown)


@dataclass
class _Decontaminator:
    """Finds dev and test texts among other texts. `report` collects what was found."""

    held_out: list[Row]
    report: list[Contamination] = field(default_factory=list)

    @cached_property
    def _index(self) -> HeldOutIndex:
        return HeldOutIndex(text for row in self.held_out for text in row.texts)

    def remove(self, rows: list[Row], of: str, options: DataOptions | SourceOptions) -> list[Row]:
        """The rows without those that `options.decontaminate` removes.

        An unlabelled example that is as a whole a dev or test example is always removed.
        """
        rule = options.decontaminate
        found = [self._index.find(row.texts) for row in rows]
        unwanted = {"off": (), "exact": ("equal",), "overlap": ("equal", "shared")}[rule]
        barred = {row.group for row in self.held_out} if of == "unlabelled" else set()
        kept = [
            row for row, finding in zip(rows, found, strict=True) if finding not in unwanted and row.group not in barred
        ]
        self.report.append(
            Contamination(
                of,
                len(rows),
                found.count("equal"),
                found.count("shared"),
                len(rows) - len(kept),
                f'{options.section}.decontaminate = "{rule}"',
            )
        )
        return kept


def _source_rows(
    options: SourceOptions, decontaminator: _Decontaminator, target_row: Row, index: dict[str, int]
) -> list[Row]:
    """All texts of the source domain with the target's labels, without texts of the target's dev and test.

    :param target_row: a row of the target, to check that both have pairs or both have single texts.
    :raises UserError: only one of the two has pairs, a label that the target does not have, or no text is left.
    """
    splits, unused = _read_all_splits(options)
    if unused and not options.only_domains:  # other domains may have it
        raise UserError(f"data.source.relabel: no row of the source has the label {unused[0]!r}")
    rows = [row for name in ("train", "dev", "test") for row in splits.get(name, [])]
    if (rows[0].text_b is None) != (target_row.text_b is None):
        raise UserError("data.source.text_b: source and target must both be pairs of texts or both be single texts")
    if unknown := sorted({row.label for row in rows} - set(index)):
        raise UserError(
            f"data.source.relabel: the source has the label {unknown[0]!r}, the target {', '.join(index)}; say which of these it is"
        )
    rows = decontaminator.remove(rows, "source", options)
    if not rows:
        raise UserError(
            "data.source: every text of it overlaps with the target's dev or test texts; none is left to use"
        )
    return _sample(rows, options.limit, options.sample) if options.limit else rows


def _sample(rows: list[Row], limit: int, number: int) -> list[Row]:
    chosen = random.Random(number).sample(range(len(rows)), min(len(rows), limit))
    return [rows[i] for i in sorted(chosen)]


def _sample_of_all_classes(rows: list[Row], limit: int, options: DataOptions, key: str) -> list[Row]:
    """A `_sample` with each label that the rows have. Rows of the most frequent labels make room for those that it lacks.

    :param key: the setting that gives the limit, for the message.
    :raises UserError: there are more labels than texts in the sample.
    """
    sample = _sample(rows, limit, options.sample)
    counts = Counter(row.label for row in sample)
    names = {row.label for row in rows}
    if len(names) > limit and len(sample) < len(rows):
        raise UserError(
            f"{options.section}.{key}: {limit} texts are fewer than the {len(names)} classes; each needs one"
        )
    chosen = {id(row) for row in sample}
    for label in sorted(names - counts.keys()):
        (new,) = _sample([row for row in rows if row.label == label], 1, options.sample)
        frequent = max(sorted(counts), key=lambda name: counts[name])
        old = next(row for row in reversed(sample) if row.label == frequent and id(row) in chosen)
        chosen = chosen - {id(old)} | {id(new)}
        counts[frequent] -= 1
    return [row for row in rows if id(row) in chosen]


def _label_names(splits: dict[str, list[Row]], options: DataOptions, in_table: set[str]) -> list[str]:
    """The names of the classes, in the order of their numbers.

    :param in_table: the labels that train had before texts were removed from it.
    """
    for name, rows in splits.items():
        if not rows:
            classes = len({row.label for row in splits["train"]})
            if len(splits["train"]) < 2 * classes:
                raise UserError(
                    f"{options.section}: column {options.label!r} has {classes} different labels in {len(splits['train'])} texts, so that no "
                    f"text is left for {name}; is it the column of the classes ({options.section}.label)? Else give a {name} table"
                )
            groups = len({row.group for row in splits["train"]})
            few = f" (its {len(splits['train']):,} rows have {groups:,} different texts, and equal texts stay in one split)"
            raise UserError(
                f"{options.section}: the {name} split is empty{few if groups < len(splits['train']) else ''}; give more rows or a {name} "
                "table of its own"
            )
    seen = {name: Counter(row.label for row in rows) for name, rows in splits.items()}
    if len(seen["train"]) < 2:
        raise UserError(
            f"{options.section}: train has one class only ({next(iter(seen['train']))!r}); a classifier needs two"
        )
    labels = options.labels or _sorted_labels(seen["train"])
    if len(set(labels)) != len(labels):
        raise UserError(f"{options.section}.labels: a name is given twice in {labels}")
    if unknown := sorted(set(options.relabel.values()) - set(labels)):
        raise UserError(
            f"{options.section}.relabel: {unknown[0]!r} is none of the labels {labels[:20]}; write: another name = the label's name"
        )
    known = ", ".join(map(repr, labels[:20])) + (", …" if len(labels) > 20 else "")
    for name, counts in seen.items():
        for label in counts:
            if label not in seen["train"]:
                reason = "no longer has" if label in in_table else f"never had{like(label, seen['train'])}"
                why = f" after {options.section}.decontaminate" if label in in_table else ""
                first = next(row.place for row in splits[name] if row.label == label)
                raise UserError(
                    f"{options.section}: {name} has the label {label!r} ({counts[label]} rows, {first}), which train {reason}{why}; "
                    f"known: {known}. Give train texts with it, or take these rows out of {name}"
                )
            if label not in labels:
                raise UserError(
                    f"{options.section}.labels: {name} has {label!r}, which is not among the labels {known}{like(label, labels)}"
                )
    return list(labels)


def _sorted_labels(labels: Iterable[str]) -> list[str]:
    """Sorted by value if all labels are integers, else by name."""
    names = list(labels)
    return sorted(names, key=int) if all(re.fullmatch(r"-?\d+", name) for name in names) else sorted(names)


def _to_split(rows: list[Row], index: dict[str, int] | None) -> Split:
    """Rows as a split. `index` gives the numbers of the labels. Without it, labels and domains are left out."""
    return Split(
        [row.text for row in rows],
        [str(row.text_b) for row in rows] if rows[0].text_b is not None else None,
        [UNLABELLED if index is None else index[row.label] for row in rows],
        [str(row.domain) for row in rows] if index is not None and rows[0].domain is not None else None,
    )
