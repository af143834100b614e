"""The code blocks of the documents: what is in them, and which commands a test cannot run."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
# In the order in which a reader meets them: their commands are run one after another in one directory.
DOCUMENTS = [
    ROOT / "README.md",
    *(
        ROOT / "docs" / f"{name}.md"
        for name in (
            "data",
            "hub",
            "texts",
            "recipe",
            "methods",
            "budgets",
            "export",
            "serve",
            "image",
            "bulk",
            "replicas",
            "costs",
            "measure",
            "load",
            "gpu",
            "compared",
            "tables",
            "python",
            "architecture",
            "findings",
            "licences",
        )
    ),
    ROOT / "CONTRIBUTING.md",
]
EXAMPLES = ROOT / "examples" / "README.md"  # tests/e2e/test_examples.py types its commands in a directory of their own
# The beginnings of commands that are not run, and why. Their options are checked all the same (tests/test_docs.py).
NOT_RUN = {
    "make ": "makes an environment of its own, and takes minutes",
    "python3 -m venv ": "makes an environment",
    ". .venv/bin/activate": "enters an environment",
    "pip install ": "changes the environment of the tests",
    "OMP_NUM_THREADS=1 .venv/bin/python -m pytest ": "runs these tests",
    "pocketbert compress tickets.toml --processes ": "starts four processes; tests/e2e/test_path.py starts two",
    "torchrun ": "needs two machines",
    "pocketbert bench ": "times BERT-base for minutes",
    "pocketbert report ": "needs a report of bench; tests/bench/test_report_page.py runs it",
    "pocketbert diff ": "needs an older report; tests/bench/test_figures.py runs it",
    "pocketbert load ": "loads a server for a minute; tests/bench/test_load.py runs it",
    "pocketbert cascade ": "needs a bundle with a cascade",
    "pocketbert serve artifacts/tickets --device cuda ": "needs a GPU",
    "OTEL_EXPORTER_OTLP_ENDPOINT=": "needs a collector; tests/serve/test_tracing.py starts one",
    "pocketbert predict artifacts/tickets --file s3:": "needs a bucket; tests/serve/test_bulk_s3.py and test_bulk_ray.py do it",
    "pocketbert rebuild ": "needs a bundle with an engine; tests/export/test_tensorrt_session.py runs it",
    "pocketbert front ": "trains a dozen students",
    "pocketbert table ": "trains many students, mostly on data that is not in the tree",
    "python -m bench table ": "trains many students, mostly on data that is not in the tree",
    "docker ": "needs a container runtime",
    "kubectl ": "needs a cluster",
    "promtool ": "needs promtool; tests/deploy/test_monitoring.py runs it where it is",
    "python docs/update_headline.py ": "changes the documents; tests/test_headline.py runs it",
    "python docs/draw_costs.py ": "needs the sources; tests/test_docs.py runs it",
    ".venv-compared/bin/pip install ": "fetches other tools",
    "python docs/measure_compared.py ": "trains other tools",
    "python docs/draw_compared.py ": "needs the sources; tests/test_docs.py runs it",
    "bentoml containerize ": "needs a container runtime",
    "POCKETBERT_BUNDLE=artifacts/tickets/bundle POCKETBERT_PRECISION=int8": "needs the sources; tests/serve/test_bento_files.py does it",
    "curl -X POST localhost:3000/admin/reload ": "needs a server with a token; tests/serve/test_running_server.py does it",
    'curl localhost:3000/classify -d \'{"text": "A dull read.", "domain"': "needs a bundle of several domains",
}
LANGUAGES = {"sh", "toml", "python", "json"}  # a test runs or reads blocks of each
_BLOCK = re.compile(r"^```(\S*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A code block, and where it is."""

    place: str  # such as README.md:37
    language: str
    text: str

    @property
    def commands(self) -> Iterator[str]:
        """The commands of a shell block, without comments."""
        for line in self.text.replace("\\\n", " ").splitlines():
            for command in re.sub(r"(^|\s)#.*", "", line).split(" && "):
                if command.strip():
                    yield command.strip()

    @property
    def toml(self) -> dict[str, Any]:
        """A TOML block as a recipe's table; one without a name is a part of a recipe."""
        return {"name": "example", **tomllib.loads(self.text)}


def blocks(document: Path) -> list[Block]:
    """The code blocks of a document."""
    text = document.read_text(encoding="utf-8")
    place = document.relative_to(ROOT).as_posix()
    return [Block(f"{place}:{text[: m.start()].count(chr(10)) + 1}", m[1], m[2]) for m in _BLOCK.finditer(text)]


def all_blocks(language: str) -> list[Block]:
    """The blocks of all documents and of the examples in a language."""
    return [block for document in (*DOCUMENTS, EXAMPLES) for block in blocks(document) if block.language == language]


def why_not_run(command: str) -> str | None:
    """Why a command of a document is not run, or None if it is."""
    return next((reason for start, reason in NOT_RUN.items() if f"{command} ".startswith(start)), None)


def words(command: str) -> list[str]:
    """A command's words, without the variables in front of it."""
    return [word for word in shlex.split(command) if not re.match(r"[A-Z_]+=", word)]
