"""A bento holds the files that serving needs and no others."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name
from pathspec import PathSpec

from export.bundle import MANIFEST
from serve.settings import bundle_of_bento
from tests.conftest import make_tiny_bundle
from tests.pocketbert.test_wheel import required
from tests.tiny_cascade import add_cascade

ROOT = Path(__file__).parents[2]
# Answers one request in a process that cannot import what only training needs, then lists the modules of the project.
PROGRAM = """
import json, sys
from pathlib import Path
for name in ("torch", "transformers", "datasets", "accelerate", "onnx", "optimum", "sklearn", "pandas"):
    sys.modules[name] = None  # an import of it raises ImportError
from serve.service import SETTINGS, Predictor, app
predictor = Predictor(SETTINGS)
answer = predictor.classify(predictor.parse(b'{"text": "a good film"}'))
assert {"/", "/page/page.js", "/page/page.css"} <= {route.path for route in app.routes}
here = Path.cwd()
files = [Path(module.__file__) for module in sys.modules.values() if getattr(module, "__file__", None)]
print(json.dumps({"label": answer.label, "files": [str(f.relative_to(here)) for f in files if f.is_relative_to(here)]}))
"""


@pytest.fixture(scope="module")
def bento(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `bentoml build` makes of a copy of the sources and of a bundle with a teacher, without the cascade."""
    folder = tmp_path_factory.mktemp("bento")
    for package in ("compress", "export", "serve"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "deploy", folder / "deploy")
    shutil.copyfile(ROOT / "pyproject.toml", folder / "pyproject.toml")
    add_cascade(make_tiny_bundle(folder / "artifacts" / "tiny" / "bundle"))
    variables = {"BENTOML_HOME": str(folder / "home"), "POCKETBERT_CASCADE": "off"}
    command = [sys.executable, "-m", "bentoml", "build"]
    done = subprocess.run(command, cwd=folder, env=clean() | variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    [description] = folder.glob("home/bentos/*/*/bento.yaml")
    return description.parent


def clean() -> dict[str, str]:
    """The environment, without settings and paths of this project."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("POCKETBERT_", "PYTHON"))}
    return outside | {"PYTHONDONTWRITEBYTECODE": "1", "BENTOML_DO_NOT_TRACK": "True"}


def test_a_bento_answers_a_request_without_torch_and_every_module_in_it_is_used(bento: Path) -> None:
    source = bento / "src"
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=source, env=clean(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["label"] == "positive"
    assert sorted(result["files"]) == sorted(str(file.relative_to(source)) for file in source.rglob("*.py"))


def test_a_bento_has_the_files_of_the_chosen_models_only(bento: Path) -> None:
    bundle = bento / "src" / "build" / "bundle"
    assert {file.name for file in bundle.iterdir()} == {MANIFEST, "tokenizer.json", "golden.json", "model.fp32.onnx"}
    assert {file.suffix for file in bento.rglob("*") if file.is_file()} >= {".onnx", ".js", ".css"}
    assert bundle_of_bento(bento / "src") == bundle
    assert bundle_of_bento(bento / "src" / "build") is None  # the same bundle, but not in a bento


def test_a_bento_installs_the_tested_versions_of_all_that_serving_needs_and_no_more(bento: Path) -> None:
    def pins(file: Path) -> dict[str, str]:
        lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
        return {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines}

    installed = pins(bento / "env" / "python" / "requirements.txt")
    tested = pins(ROOT / "constraints.txt")
    assert installed == {name: tested[name] for name in installed}
    needed = required(metadata.distribution("pocketbert"), {"cpu"})
    assert needed <= installed.keys()
    if sys.version_info[:2] == (3, 11):  # other versions need other packages
        assert needed == installed.keys()


def test_the_models_of_every_domain_are_in_a_bento() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["bentoml"]["build"]["include"]
    assert PathSpec.from_lines("gitwildmatch", patterns).match_file("build/bundle/domains/b/model.int8.onnx")
