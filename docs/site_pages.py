"""A hook of mkdocs: files of the repository outside docs/ become pages of the site, and links to them keep working.

In the repository a page in docs/ links to `../bench/results/l2a.md` and README.md to `docs/data.md`. On the site, docs/ is the
root, and README.md is its first page.
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PATTERNS = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "LICENSE",
    "bench/results/*.md",
    "bench/results/*.svg",
    "recipes/**/*.toml",
    "examples/*.*",
    "deploy/kubernetes/*.yaml",
)
START = "README.md"
LINK = re.compile(r"(\]\()([^)\s:#]+)")  # the target of a link or a picture, without its anchor


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside docs/, under their place in the repository."""
    for pattern in PATTERNS:
        for file in sorted(ROOT.glob(pattern)):
            place = file.relative_to(ROOT).as_posix()
            files.append(File.generated(config, _on_site(place), abs_src_path=str(file)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between places in the repository into links between places on the site."""
    source = page.file.src_uri
    outside = page.file.abs_src_path is not None and not Path(page.file.abs_src_path).is_relative_to(ROOT / "docs")
    folder = (ROOT / ("." if source == "index.md" else source if outside else f"docs/{source}")).parent
    if source == "index.md":
        folder = ROOT

    def moved(match: re.Match[str]) -> str:
        target = (folder / match[2]).resolve()
        if not target.is_relative_to(ROOT):
            return match[0]
        up = "../" * source.count("/")
        return f"{match[1]}{up}{_on_site(target.relative_to(ROOT).as_posix())}"

    return LINK.sub(moved, markdown)


def _on_site(place: str) -> str:
    """Where a file of the repository is on the site."""
    return "index.md" if place == START else place.removeprefix("docs/")
