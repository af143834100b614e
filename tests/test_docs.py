"""What the documents say about the tree is true: the pictures, the paths, the names, the links, the examples' options and settings."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from compress.recipe import load_recipe
from compress.recipe.load import recipe_from
from compress.runtime.errors import UserError
from pocketbert.cli import COMMANDS, load_command
from tests.documents import DOCUMENTS, EXAMPLES, LANGUAGES, NOT_RUN, ROOT, Block, all_blocks, blocks, words

PACKAGES = ("compress", "export", "serve", "bench", "pocketbert")
GUIDES = [ROOT / "docs" / "architecture.md", ROOT / "CONTRIBUTING.md"]
LINKING = sorted({*ROOT.glob("*.md"), EXAMPLES, *(ROOT / "docs").rglob("*.md")})
DRAWN = {
    "draw_architecture": "architecture.svg",
    "draw_results": "results.svg",
    "draw_compared": "compared.md",
    "draw_costs": "costs.md",
    "write_recipe_reference": "recipe.md",
}
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(r"[\w.-]+(/[\w.-]+)+/?|[\w.-]+\.(?:py|md|toml|txt|svg|yml)")
NAME = re.compile(r"\w+(\.\w+)*")
NOT_IN_THE_TREE = ("artifacts/", "bench/results/NAME.json")  # results of a run; NAME stands for any name


@pytest.mark.parametrize("script", DRAWN)
def test_what_a_script_makes_is_what_it_makes_today(script: str, tmp_path: Path) -> None:
    made = tmp_path / "made"
    path = ROOT / "docs" / f"{script}.py"
    done = subprocess.run([sys.executable, str(path), str(made)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    committed = (ROOT / "docs" / DRAWN[script]).read_text(encoding="utf-8")
    assert made.read_text(encoding="utf-8") == committed, (
        f"run `python docs/{script}.py` and look at docs/{DRAWN[script]}"
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
    inside = [link.partition("#") for link in links if not re.match(r"[a-z]+:", link)]
    places = [(document.parent / file if file else document, anchor) for file, _, anchor in inside]
    assert [file for file, _ in places if not file.exists()] == []
    assert [(file.name, anchor) for file, anchor in places if anchor and anchor not in anchors(file)] == []


def test_the_readme_is_one_page() -> None:
    assert (ROOT / "README.md").stat().st_size <= 7000


def test_all_documents_are_read_here() -> None:
    written = set((ROOT / "docs").glob("*.md")) | {ROOT / "README.md", ROOT / "CONTRIBUTING.md"}
    assert set(DOCUMENTS) == written


@pytest.mark.parametrize(
    "document", [*DOCUMENTS, EXAMPLES], ids=lambda document: document.parent.name + "/" + document.name
)
def test_every_block_is_of_a_language_that_is_checked(document: Path) -> None:
    assert {block.language for block in blocks(document)} <= LANGUAGES


@pytest.mark.parametrize("block", all_blocks("toml"), ids=lambda block: block.place)
def test_a_recipe_in_the_documents_is_valid(block: Block) -> None:
    recipe = recipe_from(block.toml, block.place)
    assert tomllib.loads(block.text).keys() <= recipe.model_fields_set


@pytest.mark.parametrize("block", all_blocks("json"), ids=lambda block: block.place)
def test_json_in_the_documents_is_json(block: Block) -> None:
    assert json.loads(block.text)


@pytest.mark.parametrize("block", all_blocks("sh"), ids=lambda block: block.place)
def test_commands_in_the_documents_have_these_options(block: Block) -> None:
    for command in block.commands:
        check_command(words(command))


def test_each_command_that_is_not_run_is_in_a_document() -> None:
    written = [f"{command} " for block in all_blocks("sh") for command in block.commands]
    assert [start for start in NOT_RUN if not any(command.startswith(start) for command in written)] == []


def test_a_wrong_option_setting_target_or_extra_in_a_document_is_found() -> None:
    wrong = (
        "pocketbert bench my.toml --onyl x",
        "pocketbert compres my.toml",
        "python -m bench front --set compress.stepz=3",
        "make compress-and-exprot",
        "pip install .[gpus]",
    )
    for command in wrong:
        with pytest.raises((AssertionError, UserError)):
            check_command(words(command))


def check_command(typed: list[str]) -> None:
    """Check the options and settings of a command of this project, a make target or an extra."""
    if "-m" in typed and (package := typed[typed.index("-m") + 1]) in PACKAGES:
        check_options(module_command(package, typed[typed.index("-m") + 2]), typed[typed.index("-m") + 3 :])
    elif typed and typed[0] == "pocketbert":
        assert typed[1] in COMMANDS, f"pocketbert {typed[1]}: no such command"
        check_options(load_command(typed[1]), typed[2:])
    elif typed and typed[0] == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        targets = [word for word in typed[1:] if "=" not in word]
        assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets), typed
        variables = [word.partition("=")[0] for word in typed[1:] if "=" in word]
        assert all(re.search(rf"^{variable} \?=", makefile, re.MULTILINE) for variable in variables), typed
    elif typed[:2] == ["pip", "install"]:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
            "optional-dependencies"
        ]
        asked = [extra for word in typed if "[" in word for extra in word.partition("[")[2].rstrip("]").split(",")]
        assert set(asked) <= set(extras), typed


def module_command(package: str, name: str) -> Any:
    """The command `python -m PACKAGE NAME`."""
    found = get_command(import_module(f"{package}.__main__").app)
    return found.commands[name] if isinstance(found, TyperGroup) else found


def check_options(command: Any, arguments: list[str]) -> None:
    """Check that a command has these options, and a recipe these settings."""
    known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)} | {"--help"}
    assert {word for word in arguments if word.startswith("--")} <= known, f"{command.name}: {arguments}"
    for setting in settings(arguments):
        load_recipe(ROOT / "recipes" / "sentiment.toml", [setting])


def settings(arguments: list[str]) -> Iterator[str]:
    """The settings that the options of a command change."""
    for option, value in itertools.pairwise(arguments):
        if option == "--set":
            yield value
        if option == "--candidate":
            yield from value.split()


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub and mkdocs make them."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", document.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


def spans(document: Path) -> list[str]:
    """The code in backticks in a document's running text."""
    return SPAN.findall(FENCED.sub("", document.read_text(encoding="utf-8")))
