"""What a user can ask of a bulk job, as options of a command line and as a record."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Annotated, Any

import typer

from compress.runtime.errors import UserError

ColumnsOption = Annotated[
    str | None, typer.Option(help="columns of the table to keep, separated by commas; '': none; default: all")
]
PrefixOption = Annotated[str, typer.Option(help="start of the names of the new columns (label, score …)")]
MaxBadOption = Annotated[int, typer.Option(min=0, help="end the job when more rows than this are bad")]
WorkersOption = Annotated[int | None, typer.Option(min=1, help="processes that answer; default: one for each core")]
RayOption = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="answer on a Ray cluster: HOST:PORT, 'auto' on a node of it, or 'local' for one of this machine alone",
    ),
]
PartRowsOption = Annotated[int, typer.Option(min=1, help="rows of a part: what a killed job does again at most")]
ForceOption = Annotated[bool, typer.Option(help="begin anew and replace the output")]
SeparatorOption = Annotated[str | None, typer.Option(help="what separates fields in the table; default: found")]
QuotingOption = Annotated[
    bool | None, typer.Option("--quoting/--no-quoting", help="whether fields may be quoted; default: found")
]
EncodingOption = Annotated[str | None, typer.Option(help="encoding of the table, such as cp1252; default: found")]


CascadeOption = Annotated[
    bool | None,
    typer.Option(
        "--cascade/--no-cascade", help="whether the teacher answers unsure texts; default: if the bundle has it"
    ),
]
ThresholdOption = Annotated[
    float | None, typer.Option(help="scores up to this go to the teacher; default: the bundle's")
]
UnsureOption = Annotated[float | None, typer.Option(help="mark answers with a lower score")]

BULK_ONLY = ("columns", "prefix", "workers", "ray", "part_rows", "max_bad", "force", "separator", "quoting", "encoding")


@dataclass(frozen=True)
class BulkOptions:
    """What a user asks for. None stands for: found, or the bundle's."""

    source: str
    target: str
    text: str = "text"
    text_b: str = "text_b"
    columns: tuple[str, ...] | None = None  # of the input that are kept; None: all
    prefix: str = ""  # of the names of the new columns
    scores: bool = False
    domain: str | None = None
    model: dict[str, Any] = field(default_factory=dict)  # settings of the `Predictor` besides the bundle
    separator: str | None = None
    quoting: bool | None = None
    encoding: str | None = None
    workers: int | None = None  # None: one for each core, or one for a GPU
    ray: str | None = None  # address of a cluster; None: processes of this machine
    part_rows: int = 20_000
    max_bad: int = 1_000
    force: bool = False

    def __post_init__(self) -> None:
        if self.separator is not None and (len(self.separator) != 1 or self.separator in '"\r\n'):
            raise UserError(
                f"--separator {self.separator!r}: give one character, neither a quotation mark nor a line end"
            )

    def refuse_without_output(self) -> None:
        """See that no option is given that only a table with `--out` needs.

        :raises UserError: one is.
        """
        for one in fields(self):
            name, value = one.name, getattr(self, one.name)
            if name in BULK_ONLY and value != one.default:
                raise UserError(f"--{name.replace('_', '-')}: only a table with --out needs it")


def names_of(columns: str | None) -> tuple[str, ...] | None:
    """The names in `--columns`, each once: no table has two columns of one name."""
    return None if columns is None else tuple(dict.fromkeys(filter(None, map(str.strip, columns.split(",")))))


def model_settings(
    precision: str | None,
    device: str,
    threads: int,
    cascade: bool | None,
    threshold: float | None,
    unsure_below: float | None,
) -> dict[str, Any]:
    """The options of a command line as settings of a `Predictor`, under their names there."""
    return {
        "precision": precision,
        "device": device,
        "threads": threads,
        "cascade": cascade,
        "cascade_threshold": threshold,
        "unsure_below": unsure_below,
    }
