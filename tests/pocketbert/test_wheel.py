"""The wheel, alone, outside of the repository: what it holds, its command and its names for Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("bench", "compress", "export", "pocketbert", "serve")
# Uses the public names with a bundle, then says which files of the project were loaded.
PROGRAM = """
import sys
import pocketbert
from pocketbert import Classifier, UserError, draft_recipe, inspect
bundle, table = sys.argv[1:]
classifier = Classifier.load(bundle)
assert classifier.predict(["a good film", "a bad film"]).labels == ["positive", "negative"]
assert inspect(bundle).models[0].verdict == "passed"
assert draft_recipe(table).write().name == "tickets"
try:
    Classifier.load("nowhere")
except UserError as error:
    assert "no such directory" in str(error)
assert "torch" not in sys.modules
for name in ("bench", "compress", "export", "pocketbert", "serve"):
    if name in sys.modules:
        print(sys.modules[name].__file__)
"""


def run(*command: str, cwd: Path, **variables: str) -> str:
    """What a command prints. It sees nothing of the repository."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "POCKETBERT_"))}
    done = subprocess.run(command, cwd=cwd, env=inherited | variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources, since a build leaves files beside them."""
    folder = tmp_path_factory.mktemp("wheel")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / "source" / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / file, folder / "source" / file)
    options = (
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--disable-pip-version-check",
        "--no-cache-dir",
    )
    run(sys.executable, "-m", "pip", "wheel", *options, "-w", str(folder), str(folder / "source"), cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """A directory with the wheel only. Its dependencies are those of this environment."""
    target = wheel.parent / "installed"
    options = ("--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", "--target", str(target))
    run(sys.executable, "-m", "pip", "install", *options, str(wheel), cwd=wheel.parent)
    return target


def test_every_module_is_in_the_wheel_and_typed(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = {str(file.relative_to(ROOT)) for package in PACKAGES for file in (ROOT / package).rglob("*.py")}
    assert sources <= names
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert not [name for name in names if name.startswith(("tests/", "docs/", "recipes/"))]


def test_its_python_names_work_outside_of_the_repository(installed: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    table = tmp_path / "tickets.csv"
    table.write_text("body,queue\n" + "".join(f"a good or bad film number {i},{'ab'[i % 2]}\n" for i in range(200)))
    output = run(sys.executable, "-c", PROGRAM, str(tiny_bundle), str(table), cwd=tmp_path, PYTHONPATH=str(installed))
    assert len(output.splitlines()) >= 4
    assert all(Path(file).is_relative_to(installed) for file in output.splitlines())


def test_its_command_works_outside_of_the_repository(installed: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    script = str(installed / "bin" / "pocketbert")
    assert "predict" in run(script, "--help", cwd=tmp_path, PYTHONPATH=str(installed))
    output = run(script, "predict", str(tiny_bundle), "a good film", cwd=tmp_path, PYTHONPATH=str(installed))
    assert '"label": "positive"' in output
