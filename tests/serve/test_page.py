"""The files of the page, as the service sends them. `test_page_in_browser.py` uses the page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from compress.runtime.errors import UserError
from serve.app import create_app
from serve.predictor import Predictor
from serve.settings import Settings
from tests.serve.conftest import Client

FOLDER = Path(__file__).parents[2] / "serve" / "page"
PATHS = ["/", *(f"/page/{file.name}" for file in FOLDER.iterdir() if file.suffix in (".css", ".js", ".svg"))]


@pytest.mark.parametrize("path", PATHS)
def test_every_file_is_sent_with_a_strict_policy(client: Client, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 200
    policy = dict(part.strip().split(" ", 1) for part in response.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "img-src", "connect-src")} == {"'self'"}
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert "unsafe" not in response.headers["content-security-policy"]
    assert response.headers["x-content-type-options"] == "nosniff"


def test_a_browser_that_has_a_file_does_not_get_it_again(client: Client) -> None:
    first = client.get("/page/page.js")
    again = client.request("GET", "/page/page.js", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.request("GET", "/page/page.js", headers={"if-none-match": '"other"'}).content == first.content


def test_only_the_files_of_the_page_are_sent(client: Client) -> None:
    for name in ("__init__.py", "index.html", "..%2fapp.py", "../app.py", ""):
        assert client.get(f"/page/{name}").status_code == 404
    assert client.request("POST", "/").status_code == 405


def test_the_page_needs_nothing_from_elsewhere_and_has_no_inline_script_or_style(client: Client) -> None:
    page = client.get("/").text
    assert re.findall(r"<script(?![^>]* src=)", page) == re.findall(r"<style|\sstyle=|\son\w+=", page) == []
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert {f"/{address.removeprefix('./')}" for address in addresses} <= {*PATHS, "/docs"}
    # Relative, so that the page works behind a proxy that serves it under a path.
    assert all(address.startswith("./") for address in addresses)
    for path in PATHS:
        assert re.findall(r"\w+://[^\s\"']+", client.get(path).text) in ([], ["http://www.w3.org/2000/svg"])


def test_no_script_makes_markup_from_a_string() -> None:
    for script in FOLDER.glob("*.js"):
        found = re.findall(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b", script.read_text()
        )
        assert not found, script.name


def test_without_the_page_the_openapi_page_is_at_the_root(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POCKETBERT_PAGE", "off")
    settings = Settings(bundle=tiny_bundle)
    client = Client(create_app(Predictor(settings), page=settings.page))
    assert client.get("/").text == client.get("/docs").text
    assert client.get("/page/page.js").status_code == 404


def test_the_page_is_on_or_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.from_environment().page
    monkeypatch.setenv("POCKETBERT_PAGE", "perhaps")
    with pytest.raises(UserError, match=r"^POCKETBERT_PAGE=perhaps: set it to on or off$"):
        Settings.from_environment()
