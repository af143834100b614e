"""The wheel and the source distribution; the wheel alone, outside of the repository: its command and its names for Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import httpx
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.serve.test_state_of_a_server import clean_environment, wait_until_ready
from tests.waiting import PATIENCE, free_port

ROOT = Path(__file__).parents[2]
PACKAGES = ("bench", "compress", "export", "pocketbert", "serve")
TRAINING_ONLY = ("torch", "transformers", "datasets", "accelerate", "onnx", "sklearn", "pandas", "nltk")
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
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source distribution and the wheel that is built from it, of a copy of the sources: a build leaves files beside them."""
    folder = tmp_path_factory.mktemp("distributions")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / "source" / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / file, folder / "source" / file)
    # No isolation: that would fetch setuptools from the index.
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(folder / "source"), cwd=folder)
    (source,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return source, wheel


@pytest.fixture(scope="module")
def wheel(distributions: tuple[Path, Path]) -> Path:
    return distributions[1]


@pytest.fixture(scope="module")
def environment(wheel: Path) -> Path:
    """A virtual environment with the wheel and what `pip install pocketbert[cpu]` would bring, and nothing else.

    The dependencies are linked from the environment of the tests, so that no network is needed.
    """
    folder = wheel.parent / "environment"
    venv.create(folder, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    pip = ("-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet", "--no-deps", "--no-index")
    run(sys.executable, *pip, "--disable-pip-version-check", str(wheel), cwd=wheel.parent)
    (own,) = metadata.distributions(name="pocketbert", path=[str(packages)])
    for name in required(own, {"cpu"}):
        link_distribution(metadata.distribution(name), packages)
    return folder


def required(distribution: metadata.Distribution, extras: set[str]) -> set[str]:
    """Names of the distributions that this one with these extras needs, directly or not."""
    found: set[str] = set()
    seen: set[tuple[str, str]] = set()
    waiting = [(distribution, extras)]
    while waiting:
        current, wanted = waiting.pop()
        for requirement in map(Requirement, current.requires or ()):
            marker, name = requirement.marker, canonicalize_name(requirement.name)
            needed = marker is None or any(marker.evaluate({"extra": extra}) for extra in wanted | {""})
            unseen = {(name, extra) for extra in requirement.extras | {""}} - seen
            if needed and unseen:
                seen |= unseen
                found.add(name)
                waiting.append((metadata.distribution(name), requirement.extras))
    return found


def link_distribution(distribution: metadata.Distribution, packages: Path) -> None:
    """Link a distribution's packages, modules and metadata into another environment."""
    for part in {file.parts[0] for file in distribution.files or () if file.parts[0] not in ("..", "__pycache__")}:
        source = Path(str(distribution.locate_file(part)))
        if not (packages / part).exists():
            (packages / part).symlink_to(source)


def test_every_module_is_in_the_wheel_and_typed(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = {str(file.relative_to(ROOT)) for package in PACKAGES for file in (ROOT / package).rglob("*.py")}
    page = {f"serve/page/{file.name}" for file in (ROOT / "serve" / "page").iterdir() if file.is_file()}
    assert {"serve/page/index.html", "serve/page/page.js", "serve/page/page.css"} < page
    assert sources | page <= names
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert not [name for name in names if name.startswith(("tests/", "docs/", "recipes/"))]


def test_the_source_distribution_has_what_the_wheel_is_built_from(distributions: tuple[Path, Path]) -> None:
    source, wheel = distributions
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE"} <= names
    assert {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name} <= names


def test_the_package_index_would_take_both(distributions: tuple[Path, Path]) -> None:
    output = run(
        sys.executable, "-m", "twine", "check", "--strict", *map(str, distributions), cwd=distributions[0].parent
    )
    assert output.count("PASSED") == 2


def test_the_environment_has_nothing_that_only_training_needs(environment: Path, tmp_path: Path) -> None:
    """Otherwise the tests below would say little."""
    look = f"from importlib.util import find_spec; print([n for n in {TRAINING_ONLY} if find_spec(n)])"
    assert run(str(environment / "bin" / "python"), "-c", look, cwd=tmp_path).strip() == "[]"


def test_its_python_names_work_outside_of_the_repository(environment: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    table = tmp_path / "tickets.csv"
    table.write_text("body,queue\n" + "".join(f"a good or bad film number {i},{'ab'[i % 2]}\n" for i in range(200)))
    output = run(str(environment / "bin" / "python"), "-c", PROGRAM, str(tiny_bundle), str(table), cwd=tmp_path)
    assert len(output.splitlines()) >= 4
    assert all(Path(file).is_relative_to(environment) for file in output.splitlines())


def test_its_command_works_outside_of_the_repository(environment: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    script = str(environment / "bin" / "pocketbert")
    assert "predict" in run(script, "--help", cwd=tmp_path)
    assert '"label": "positive"' in run(script, "predict", str(tiny_bundle), "a good film", cwd=tmp_path)


def test_it_serves_outside_of_the_repository(environment: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    port = free_port()
    command = [
        str(environment / "bin" / "pocketbert"),
        "serve",
        str(tiny_bundle),
        "--port",
        str(port),
        "--host",
        "127.0.0.1",
    ]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=clean_environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
            wait_until_ready(client)
            assert client.post("/classify", json={"text": "a good film"}).json()["label"] == "positive"
            assert client.get("/").headers["content-security-policy"].startswith("default-src 'none'")
            assert client.get("/page/page.js").headers["content-type"].startswith("text/javascript")
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=PATIENCE)
    assert b"Traceback" not in output
