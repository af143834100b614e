"""The application of `serve.app` in this process, without BentoML."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from starlette.applications import Starlette

from serve.app import create_app
from serve.predictor import Predictor
from serve.settings import Settings


class Client:
    """Sends requests to an application. An exception in it becomes a response, as it does over a socket."""

    def __init__(self, app: Starlette) -> None:
        self.app = app

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.request(method, path, **options)

        return anyio.run(send)

    def get(self, path: str) -> httpx.Response:
        return self.request("GET", path)

    def classify(self, **fields: Any) -> httpx.Response:
        return self.request("POST", "/classify", json=fields)


def serve(bundle: Path) -> Client:
    """Serve a bundle with limits that a test can reach."""
    settings = Settings(bundle=bundle, max_texts=8, max_characters=5_000, max_bytes=20_000)
    return Client(create_app(Predictor(settings)))


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside() -> Iterator[None]:
    """Remove the `POCKETBERT_*` variables of the person who runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for variable in [name for name in os.environ if name.startswith("POCKETBERT_")]:
            patch.delenv(variable)
        yield


@pytest.fixture(scope="session")
def client(tiny_bundle: Path) -> Client:
    """A service of single texts. Its limits: 8 texts, 5,000 characters in a text, 20,000 bytes."""
    return serve(tiny_bundle)


@pytest.fixture(scope="session")
def pair_client(tiny_pair_bundle: Path) -> Client:
    """A service of pairs of texts, with the same limits."""
    return serve(tiny_pair_bundle)
