"""A bento holds the files that serving needs and no others."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pathspec import PathSpec

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
def bento(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> Path:
    """A directory with the files that `bentoml build` would copy: `include` of [tool.bentoml.build] in pyproject.toml.

    BentoML matches the patterns with `pathspec`, too. The bundle in it is the tiny one.
    """
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["bentoml"]["build"]["include"]
    included = PathSpec.from_lines("gitwildmatch", patterns)
    directory = tmp_path_factory.mktemp("bento")
    sources = [file for package in ("compress", "export", "serve", "bench") for file in (ROOT / package).rglob("*.*")]
    files = {file.relative_to(ROOT): file for file in sources}
    files |= {Path("artifacts/tiny/bundle") / file.name: file for file in tiny_bundle.iterdir()}
    for name, file in files.items():
        if included.match_file(name):
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, directory / name)
    return directory


def test_a_bento_answers_a_request_without_torch_and_every_module_in_it_is_used(bento: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("POCKETBERT_", "PYTHON"))}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1", "BENTOML_DO_NOT_TRACK": "True"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=bento, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["label"] == "positive"
    assert sorted(result["files"]) == sorted(str(file.relative_to(bento)) for file in bento.rglob("*.py"))


def test_the_models_of_every_domain_are_in_a_bento() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["bentoml"]["build"]["include"]
    assert PathSpec.from_lines("gitwildmatch", patterns).match_file("artifacts/a/bundle/domains/b/model.int8.onnx")
