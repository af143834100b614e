"""The command `pocketbert`: its list of commands, its help, and that it starts without what it does not need."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pocketbert.cli import COMMANDS, load_command
from tests.pocketbert.conftest import Command

ROOT = Path(__file__).parents[2]
# Runs the command of the arguments, then says what it has imported.
PROGRAM = """
import json, sys
from pocketbert.cli import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
print(json.dumps(sorted(sys.modules)))
"""
HEAVY = {"torch", "transformers", "onnxruntime", "sklearn", "pandas", "datasets", "matplotlib", "bentoml", "scipy"}


def python(program: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a fresh process."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "120"} | variables
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, env=environment)


def started(*arguments: str) -> tuple[str, set[str]]:
    """What a command prints in a fresh process, and the modules that it has imported."""
    done = python(PROGRAM, *arguments)
    assert done.returncode == 0, done.stderr
    *output, last = done.stdout.splitlines()
    return "\n".join(output), set(json.loads(last))


def test_help_lists_all_commands_at_once() -> None:
    output, modules = started("--help")
    for name, listed in COMMANDS.items():
        assert re.search(rf" {name} +{re.escape(listed.help)}", output), name
        assert listed.module not in modules
    assert not modules & {*HEAVY, "numpy", "pydantic"}
    assert len(modules) < 500  # what takes the time, on any machine: 334, and 0.18 s on an idle core


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_is_there_without_torch(name: str, command: Command) -> None:
    done = command(name, "--help")
    assert done.status == 0
    assert f"pocketbert {name}" in done.out
    assert len(re.findall(r"\w+", str(load_command(name).help))) > 3


def test_no_help_needs_a_heavy_package() -> None:
    program = (
        "import sys\nfrom pocketbert.cli import COMMANDS, load_command\n[load_command(name) for name in COMMANDS]\n"
    )
    done = python(program + f"print(set(sys.modules) & { {*HEAVY, 'numpy', 'pydantic', 'tokenizers'} })")
    assert done.stdout.strip() == "set()", done.stderr


def test_a_misspelt_command_is_told_what_was_meant(command: Command) -> None:
    done = command("comprss", "my.toml")
    assert done.status == 2
    assert "compress" in done.err
    assert "Traceback" not in done.err


def test_the_commands_are_those_of_the_modules() -> None:
    import bench.__main__
    import compress.__main__
    import export.__main__

    for name, function in {
        "compress": compress.__main__.run,
        "recipe": compress.__main__.show_recipe,
        "export": export.__main__.run,
        "bench": bench.__main__.compare_command,
        "table": bench.__main__.table_command,
    }.items():
        assert load_command(name).callback.__wrapped__ is function


def test_a_missing_recipe_says_how_to_get_one(command: Command, tmp_path: Path) -> None:
    assert "pocketbert init" in command("compress", tmp_path / "absent.toml").error


def test_a_missing_package_is_one_line(tmp_path: Path) -> None:
    recipe = tmp_path / "my.toml"
    recipe.write_text("")
    program = """
import sys
sys.modules["torch"] = None  # an import of it raises ModuleNotFoundError
from pocketbert.cli import main
main()
"""
    done = python(program, "compress", str(recipe), "--artifacts", str(tmp_path / "artifacts"))
    assert done.returncode == 2
    assert done.stderr == "error: the Python package torch is not installed; `pocketbert doctor` says what needs it\n"


def test_completion_of_a_shell_knows_commands_and_options() -> None:
    def completed(words: str) -> list[str]:
        program = "import sys\nsys.argv = ['pocketbert']\nfrom pocketbert.cli import main\nmain()"
        count = str(len(words.split(" ")) - 1)
        return python(program, _POCKETBERT_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=count).stdout.split()

    assert completed("pocketbert comp") == ["compress"]
    assert "--precision" in completed("pocketbert predict --prec")


def test_the_version(command: Command) -> None:
    from pocketbert import __version__

    assert command("--version").out == f"pocketbert {__version__}\n"
