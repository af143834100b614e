"""Headless Chromium, driven over a pipe by the Chrome DevTools Protocol (https://chromedevtools.github.io/devtools-protocol)."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvicorn

from serve.app import create_app
from serve.predictor import Predictor
from serve.settings import Settings
from tests.waiting import PATIENCE, until

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    # Whatever else the browser wants from the network on its own account.
    "--disable-background-networking",
    "--disable-component-update",
)
# Chromium reads the protocol from descriptor 3 and writes it to 4.
LAUNCH = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
os.dup2(ends[0], 3), os.dup2(ends[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
KEYS = {"Enter": 13, "Tab": 9, "ArrowRight": 39, "ArrowLeft": 37, " ": 32}


def find_chromium() -> str | None:
    """The browser of this machine, if it has one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def served(bundle: Path, **settings: Any) -> Iterator[str]:
    """The address of a server of the bundle in this process.

    :param settings: fields of `Settings`.
    """
    app = create_app(Predictor(Settings(bundle=bundle, **settings)))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(PATIENCE)


class Chromium:
    """One page in a browser of its own. `events` are the protocol's events, in order.

    :param profile: an empty directory for the browser's files.
    """

    def __init__(self, profile: Path) -> None:
        browser = find_chromium()
        assert browser is not None
        read, theirs = os.pipe()
        ours, write = os.pipe()
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        command = [
            sys.executable,
            "-c",
            LAUNCH,
            str(ours),
            str(theirs),
            browser,
            *FLAGS,
            *sandbox,
            f"--user-data-dir={profile}",
        ]
        self.process = subprocess.Popen(
            command, pass_fds=(ours, theirs), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(ours)
        os.close(theirs)
        self._read, self._write, self._rest, self._last, self._session = read, write, b"", 0, {}
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._session = {"sessionId": session}
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)
        os.close(self._read)
        os.close(self._write)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and wait for its result."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters, **self._session}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._last:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self.events.append(answer)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            assert select.select([self._read], [], [], PATIENCE)[0], "the browser does not answer"
            received = os.read(self._read, 1 << 16)
            assert received, "the browser has ended"
            self._rest += received
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def named(self, method: str) -> list[dict[str, Any]]:
        """The parameters of the events of a kind so far."""
        return [event["params"] for event in self.events if event["method"] == method]

    def errors(self) -> list[str]:
        """What the console shows as an error: exceptions, content that the policy refuses, missing files.

        The browser logs each answer of 400 and above, too. Those to a POST are left out: the page expects them.
        """
        posts = {
            event["requestId"]
            for event in self.named("Network.requestWillBeSent")
            if event["request"]["method"] == "POST"
        }
        thrown = [str(event["exceptionDetails"]) for event in self.named("Runtime.exceptionThrown")]
        entries = [event["entry"] for event in self.named("Log.entryAdded")]
        logged = [str(one) for one in entries if one["level"] == "error" and one.get("networkRequestId") not in posts]
        printed = [str(event["args"]) for event in self.named("Runtime.consoleAPICalled") if event["type"] == "error"]
        return thrown + logged + printed

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is awaited."""
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Wait until a JavaScript expression is true."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self.evaluate(f"Boolean({expression})"):
                return
            time.sleep(0.03)
        raise AssertionError(f"still not true: {expression}; the page says {self.evaluate('document.body.innerText')}")

    def wait_for_event(self, method: str) -> None:
        """Wait until there is an event of a kind."""
        deadline = time.monotonic() + PATIENCE
        while not self.named(method) and time.monotonic() < deadline:
            self.evaluate("0")  # the browser's answer comes behind the events before it
        assert self.named(method), f"no event {method}"

    def text(self, element: str) -> str:
        """What an element shows, by its id."""
        return self.evaluate(f"document.getElementById({json.dumps(element)}).innerText")

    def open(self, address: str, size: tuple[int, int] = (1280, 800), **features: str) -> None:
        """Open an address, with a size in CSS pixels and media features such as `prefers_color_scheme="dark"`."""
        width, height = size
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        media = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.call("Emulation.setEmulatedMedia", features=media)
        self.call("Page.navigate", url=address)
        self.wait_for(f"location.href.startsWith({json.dumps(address)}) && document.readyState === 'complete'")

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self.call("Input.insertText", text=text)

    def press(self, key: str, *, control: bool = False) -> None:
        """Press and release a key of `KEYS`."""
        options: dict[str, Any] = {"key": key, "windowsVirtualKeyCode": KEYS[key], "modifiers": 2 if control else 0}
        text = {"Enter": "\r", " ": " "}.get(key)
        self.call(
            "Input.dispatchKeyEvent", type="keyDown", **options, **({"text": text} if text and not control else {})
        )
        self.call("Input.dispatchKeyEvent", type="keyUp", **options)

    def drop(self, file: Path) -> None:
        """Drop a file on the middle of the page, as the mouse does."""
        data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=300, y=300, data=data)

    def screenshot(self, file: Path) -> None:
        """Write what is visible as a PNG."""
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
