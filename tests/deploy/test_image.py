"""What the build of an image removes is nothing that a server loads."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path, PurePath

from deploy.slim import unused
from tests.deploy.manifests import DEPLOY

ROOT = DEPLOY.parent
# Imports what the processes of a server import, answers a text, and tells which files that took.
PROGRAM = """
import json, sys
import pocketbert.cli, pocketbert.commands, serve.__main__, serve.swap, export.commands
from serve.messages import Request
from serve.predictor import Predictor
from serve.settings import Settings
import serve.service
predictor = Predictor(Settings(bundle=sys.argv[1]))
predictor.classify(Request(text=["a good film"] * 8))
files = {module.__file__ for module in sys.modules.values() if getattr(module, "__file__", None)}
mapped = {line.split()[-1] for line in open("/proc/self/maps") if ".so" in line}
print(json.dumps(sorted(files | mapped)))
"""


def test_a_server_loads_nothing_that_an_image_lacks(tiny_bundle: Path) -> None:
    environment = os.environ | {
        "BENTOML_HOME": str(tiny_bundle.parent / "bentoml"),
        "POCKETBERT_BUNDLE": str(tiny_bundle),
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tiny_bundle)], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    loaded = {name for file in json.loads(done.stdout.splitlines()[-1]) for name in file.split("site-packages/")[1:]}
    assert any(name.startswith("onnxruntime/capi/onnxruntime_pybind11_state") for name in loaded)
    assert any(name.startswith("circus/") for name in loaded)
    assert [name for name in loaded if unused(PurePath(name))] == []


def test_what_takes_most_of_the_place_is_removed() -> None:
    assert unused(PurePath("onnxruntime/capi/libonnxruntime.so.1.32.0"))  # half of ONNX Runtime
    assert unused(PurePath("numpy/_core/tests/test_api.py"))
    assert not unused(PurePath("numpy/_core/multiarray.py"))


def test_an_image_is_built_from_files_that_are_there() -> None:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    copied = [
        word for line in re.findall(r"^COPY (?!--from|\$)(.*)$", text, re.MULTILINE) for word in line.split()[:-1]
    ]
    assert len(copied) > 8
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert [name for name in copied if not {f"!{name}", f"!{name}/**"} & set(ignored)] == []
