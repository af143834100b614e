"""What the documents say about the tree is true: the picture, the paths, the names and the links."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("compress", "export", "serve", "bench", "pocketbert")
GUIDES = [ROOT / "docs" / "architecture.md", ROOT / "CONTRIBUTING.md"]
LINKING = sorted({ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")})
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(r"[\w.-]+(/[\w.-]+)+/?|[\w.-]+\.(?:py|md|toml|txt|svg)")
NAME = re.compile(r"\w+(\.\w+)*")
NOT_IN_THE_TREE = ("artifacts/", "bench/results/NAME.json")  # results of a run; NAME stands for any name


def test_the_picture_shows_the_imports_of_today(tmp_path: Path) -> None:
    drawn = tmp_path / "architecture.svg"
    script = ROOT / "docs" / "draw_architecture.py"
    done = subprocess.run([sys.executable, str(script), str(drawn)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    committed = (ROOT / "docs" / "architecture.svg").read_text(encoding="utf-8")
    assert drawn.read_text(encoding="utf-8") == committed, (
        "run `python docs/draw_architecture.py` and look at the picture"
    )


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.name)
def test_every_path_in_a_guide_exists(guide: Path) -> None:
    paths = [span for span in spans(guide) if PATH.fullmatch(span) and not span.startswith(NOT_IN_THE_TREE)]
    assert len(paths) > 5
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.name)
def test_every_name_in_a_guide_is_in_the_code(guide: Path) -> None:
    packages = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    code = "\n".join(file.read_text(encoding="utf-8") for file in [*packages, ROOT / "pyproject.toml"])
    words = set(re.findall(r"\w+", code))
    names = [span for span in spans(guide) if NAME.fullmatch(span) and not PATH.fullmatch(span)]
    assert len(names) > 3
    assert [name for name in names if not words.issuperset(name.split("."))] == []


@pytest.mark.parametrize("document", LINKING, ids=lambda document: str(document.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    links = LINK.findall(FENCED.sub("", document.read_text(encoding="utf-8")))
    files = [link.partition("#")[0] for link in links if not re.match(r"[a-z]+:|#", link)]
    assert [file for file in files if not (document.parent / file).exists()] == []


def spans(document: Path) -> list[str]:
    """The code in backticks in a document's running text."""
    return SPAN.findall(FENCED.sub("", document.read_text(encoding="utf-8")))
