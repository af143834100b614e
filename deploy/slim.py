"""Makes the environment of an image smaller, as the last step of its build: `/opt/venv/bin/python slim.py BUNDLE`.

What no server loads is removed, symbols for debuggers are stripped, and a server is started once with the bundle, so that bytecode is
written for the modules that a server imports and for no others (install with `--no-compile` before). The server must classify a text
and answer at its other paths: what a server needs and this script removed makes the build fail.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path, PurePath
from urllib.request import Request, urlopen

SITE = Path(sysconfig.get_path("purelib"))
ADDRESS = "http://127.0.0.1:3000"
SECONDS = 600  # to start and to end; a builder may be busy
UNUSED = (  # patterns for the end of a path
    "onnxruntime/capi/libonnxruntime.so.*",  # for programs in C; the module for Python has a copy of its own
    "onnxruntime/transformers",
    "onnxruntime/quantization",
    "onnxruntime/tools",
    "onnxruntime/datasets",
    "onnxruntime/backend",
    "huggingface_hub",  # tokenizers asks for both, for downloads only
    "huggingface_hub-*.dist-info",
    "hf_xet",
    "hf_xet-*.dist-info",
    "numpy/f2py",
    "numpy/distutils",
    "tests",
    "tornado/test",
    "*.pyi",
    "*.pyx",
    "*.pxd",
)
PATHS = ("/readyz", "/livez", "/metrics", "/info", "/docs", "/openapi.json", "/")


def unused(path: PurePath) -> bool:
    """Whether no server loads what is at this path below site-packages."""
    return any(one.match(pattern) for one in (path, *path.parents) for pattern in UNUSED)


def remove() -> None:
    """Remove what no server loads, and the symbols for debuggers."""
    for path in list(SITE.rglob("*")):
        if unused(path.relative_to(SITE)):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for library in SITE.rglob("*.so"):
        if not library.parent.name.endswith(".libs"):  # auditwheel has moved their sections, and strip may break them
            subprocess.run(["strip", "--strip-debug", str(library)], check=True)


def start_once(bundle: Path) -> None:
    """Start a server with a bundle, ask it everything once and stop it; check the bundle as a swap does.

    :raises AssertionError: the server did not start, or did not end with status 0.
    """
    program = str(Path(sys.executable).with_name("pocketbert"))
    subprocess.run([program, "verify", str(bundle)], check=True)
    server = subprocess.Popen([program, "serve", str(bundle)])
    try:
        end = time.monotonic() + SECONDS
        while not _answers("/readyz"):
            assert server.poll() is None, "the server ended"
            assert time.monotonic() < end, "the server did not start in time"
            time.sleep(0.2)
        for path in PATHS:
            assert _answers(path), f"{path} does not answer"
        _classify()
    finally:
        server.send_signal(signal.SIGTERM)
        status = server.wait(SECONDS)
    assert status == 0, f"the server ended with status {status}"


def _answers(path: str) -> bool:
    try:
        return bool(urlopen(ADDRESS + path, timeout=10).status == 200)
    except OSError:
        return False


def _classify() -> None:
    """Ask for one text, and for many, which run in a thread."""
    pair = {"text_b": "a text"} if json.load(urlopen(f"{ADDRESS}/info", timeout=10)).get("pair") else {}
    for body in (
        {"text": "a text", **pair},
        {"text": ["a text " * 100] * 64, **{name: [text] * 64 for name, text in pair.items()}},
    ):
        urlopen(Request(f"{ADDRESS}/classify", json.dumps(body).encode()), timeout=60).read()


def main() -> None:
    """Do it all, and say what was won."""
    assert "PYTHONDONTWRITEBYTECODE" not in os.environ
    before = _megabytes()
    remove()
    start_once(Path(sys.argv[1]))
    print(f"{SITE}: {before:.0f} MB before, {_megabytes():.0f} MB now")


def _megabytes() -> float:
    return sum(path.stat().st_size for path in SITE.rglob("*") if path.is_file()) / 1e6


if __name__ == "__main__":
    main()
