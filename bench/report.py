"""The report of a comparison: all that was measured."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from bench.cells import Cell, EngineResult
from bench.environment import Environment
from bench.roster import LINEAR, REFERENCE, TEACHER
from bench.text import MISSING, write_samples
from compress.runtime.errors import UserError
from compress.runtime.files import write_text

TIMING = [
    "Tokenisation: from the text to what the model takes, for a network padded arrays of token ids. Model: from there to logits in the "
    "host's memory. The two are timed back to back and added sample by sample; where no column says alone, a time is of both. "
    "The column `Timed` says what they are.",
    "Loading, warm-up and accuracy are outside every timing, and so is the HTTP server.",
    "Every engine: the same texts, the same lengths, the same tokenizer library, a fresh process, the same number of threads and the "
    "same CPUs, garbage collection off while samples are taken. Warm-up: a fifth of the cell's time and until the times are stable.",
    "Engines take turns, a round of each cell at a time, there and back; a round has the same texts for all. Brackets: 95 % "
    "bootstrap intervals, of accuracies over the texts, the same for all models, of speed-ups over the rounds, the same for both engines.",
    "N tokens: texts made of the task's own words that come to exactly N tokens of the teacher, special tokens included. "
    "Own texts: the task's own, each alone at batch 1 and sorted by length (the sorting is not timed) in batches.",
    "A sample is one batch. Percentiles are linear between samples; one that the samples are too few for is "
    f"shown as {MISSING}: pQ needs 100 / (100 − Q) of them, so p99 a hundred. Samples come in whole "
    "passes over the inputs.",
    "Share of the gap: (accuracy − linear) / (teacher − linear), where linear is the model on TF-IDF of n-grams and teacher is in "
    "PyTorch fp32. 1: as accurate as the teacher; 0: as accurate as the linear model.",
    "Peak memory: resident, of the whole process with Python and its libraries, up to the end of the timed cells.",
]


PAGE = "report.html"


class Report(BaseModel):
    """`report.json`."""

    format: int = 1
    name: str
    created: str  # ISO 8601, UTC
    command: str
    device: str
    threads: int
    cpus: list[int] | None  # every engine could use only these; None: all CPUs
    batch_size: int
    seconds: float  # each cell was measured for so long
    own_texts: int  # number of the task's own texts that were timed
    split: str  # the accuracies and the own texts are of this split
    environment: Environment
    timing: list[str] = TIMING
    texts: str | None = None  # fingerprint of the split; None in older reports, like all that follows
    student: str | None = None  # the engine of the bundle's default model
    interleaved: bool = False  # the engines took turns, so their rounds are pairs
    partial: str | None = None  # what is missing, if the measurement was interrupted
    skipped: dict[str, str] = {}  # rivals that could not be made, with the reason
    engines: list[EngineResult]

    def cell(self, engine: EngineResult | None, name: str, batch_size: int) -> Cell | None:
        """The engine's cell with this input and this batch size; None if it was not measured."""
        cells = engine.cells if engine else []
        return next((cell for cell in cells if cell.input == name and cell.batch_size == batch_size), None)

    def engine(self, name: str | None) -> EngineResult | None:
        """The engine of this name; None if it was not measured."""
        return next((engine for engine in self.engines if engine.spec.name == name), None)

    @property
    def inputs(self) -> list[str]:
        """The inputs of the timings, in the order of the tables."""
        return list(dict.fromkeys(cell.input for engine in self.engines for cell in engine.cells))

    @property
    def headline(self) -> str:
        """The input in the summary and the plot: 128 tokens if this length was measured, else the largest length.

        A dash if nothing was timed.
        """
        lengths = {cell.length: cell.input for engine in self.engines for cell in engine.cells if cell.length}
        return lengths.get(128) or (lengths[max(lengths)] if lengths else next(iter(self.inputs), MISSING))

    @property
    def reference(self) -> EngineResult | None:
        """The engine that speed-ups are relative to; None if it was not measured."""
        return self.engine(REFERENCE)

    @property
    def teacher(self) -> EngineResult | None:
        """The teacher as it was trained; None if it was not measured."""
        return self.engine(TEACHER)

    @property
    def linear(self) -> EngineResult | None:
        """The linear model on n-grams; None if it was not measured."""
        return self.engine(LINEAR)


def read_report(path: Path) -> Report:
    """A `report.json`, or the one in a directory.

    :raises UserError: there is none, or the file is something else.
    """
    file = path / "report.json" if path.is_dir() else path
    try:
        return Report.model_validate_json(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); `pocketbert bench` writes a report.json") from None
    except ValueError:
        raise UserError(f"{file}: not a report of `pocketbert bench`; give its report.json or the directory") from None


def write_report(report: Report, directory: Path) -> None:
    """Write `report.json`, which holds every raw sample, `report.md` and `report.html`. No file is ever half written."""
    from bench.markdown import to_markdown
    from bench.page.page import write_page

    directory.mkdir(parents=True, exist_ok=True)
    write_samples(directory / "report.json", report.model_dump(mode="json"))
    write_text(directory / "report.md", to_markdown(report))
    write_page(report, directory / PAGE)
