"""The private part of BentoML that `bentoml serve` needs is still there and still says where it will listen.

If a test fails here after an update of BentoML, only `serve/bentoml_internals.py` has to change.
"""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from serve.bentoml_internals import serve_address

ROOT = Path(__file__).parents[2]
PACKAGES = ("compress", "export", "serve", "bench", "pocketbert", "tests")


def test_one_module_alone_imports_private_parts_of_bentoml() -> None:
    private = ("bentoml" + "._internal", "_bentoml" + "_sdk", "_bentoml" + "_impl")
    sources = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    users = [
        file
        for file in sources
        if any(f"{kind} {name}" in file.read_text() for kind in ("from", "import") for name in private)
    ]
    assert [file.relative_to(ROOT).as_posix() for file in users] == ["serve/bentoml_internals.py"]


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ((None, None), ("0.0.0.0", 3000)),  # the documented defaults of BentoML
        (("127.0.0.1", None), ("127.0.0.1", 3000)),
        ((None, 8080), ("0.0.0.0", 8080)),
        (("::1", 8080), ("::1", 8080)),
    ],
)
def test_the_address_is_that_of_the_command_line_or_bentoml_s_default(
    given: tuple[str | None, int | None], address: tuple[str, int]
) -> None:
    with click.Context(click.Command("serve")) as context:
        context.params.update(host=given[0], port=given[1])
        assert serve_address() == address


def test_there_is_no_address_outside_bentoml_serve() -> None:
    assert serve_address() is None
    with click.Context(click.Command("build")):
        assert serve_address() is None
