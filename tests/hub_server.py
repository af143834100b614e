"""A small hub on loopback: the part of the Hugging Face hub's HTTP API that its real clients use to load models and data sets.

`HF_ENDPOINT=http://127.0.0.1:PORT` sends huggingface_hub, transformers and datasets here. KIND is models or datasets, PREFIX is empty
for models and `datasets/` for data sets, REVISION a branch, a tag or a commit.

    GET       /api/KIND/ID                              about the main branch: id, commit, names of the files
    GET       /api/KIND/ID/revision/REVISION            the same about a revision
    GET       /api/KIND/ID/tree/REVISION[/FOLDER]       files and folders with sizes and hashes; ?recursive=true
    POST      /api/KIND/ID/paths-info/REVISION          the same about the paths in the form or in JSON
    HEAD, GET /PREFIX ID/resolve/REVISION/FILE          a file, with ETag, X-Repo-Commit, Content-Length; ranges too

Refusals are those of the hub (huggingface_hub reads the status and X-Error-Code): 401 for a wrong token, and without a token for what
is private or missing, 404 RepoNotFound with one; GatedRepo 401 or 403 for the files of a gated repository; 404 RevisionNotFound;
404 EntryNotFound.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

_API = re.compile(
    r"/api/(?P<kind>models|datasets)/(?P<id>[^/]+/[^/]+)"
    r"(/(?P<what>revision|tree|paths-info)/(?P<revision>[^/]+)(/(?P<path>.+))?)?"
)
_FILE = re.compile(r"(?P<kind>/datasets)?/(?P<id>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")


@dataclass
class Repository:
    """A repository: the files of each commit, and what branches and tags mean."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    readers: set[str] | None = None  # tokens that may read it; None: everybody may
    gated: bool = False  # everybody sees that it is there, and only the readers get its files

    def commit(self, files: dict[str, bytes], *refs: str) -> str:
        """Add a commit with these files, and let branches or tags mean it; returns its hash."""
        content = [(name, hashlib.sha1(data).hexdigest()) for name, data in sorted(files.items())]
        commit = hashlib.sha1(json.dumps(content).encode()).hexdigest()
        self.commits[commit] = files
        self.refs |= dict.fromkeys(refs, commit)
        return commit

    def found(self, revision: str) -> str | None:
        """The commit of a branch, tag or commit."""
        return self.refs.get(revision, revision if revision in self.commits else None)


class Hub:
    """The repositories by (models or datasets, organisation/name), and the requests that came, such as `HEAD /a/b/resolve/…`."""

    def __init__(self, tokens: set[str]) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.tokens = tokens  # of those who have an account
        self.requests: list[str] = []
        self.url = ""

    def add(self, kind: str, name: str, files: dict[str, bytes], **options: Any) -> Repository:
        """Add a repository whose main branch has these files."""
        repository = self.repositories[kind, name] = Repository(**options)
        repository.commit(files, "main")
        return repository


def files_of(folder: Path) -> dict[str, bytes]:
    """The files in a folder, as a commit has them."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


@contextmanager
def running(hub: Hub) -> Iterator[Hub]:
    """Serve a hub until the block ends; `hub.url` is its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _RefusalError(Exception):
    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        self.status, self.message = status, message
        self.headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {}) | headers


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        """Nothing: the tests look at `Hub.requests`."""

    def _answer(self) -> None:
        address = urlsplit(self.path)
        path = unquote(address.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.requests.append(f"{self.command} {path}")
        try:
            if found := _FILE.fullmatch(path):
                self._send_file("datasets" if found["kind"] else "models", found)
            elif found := _API.fullmatch(path):
                self._send_json(self._about(found, parse_qs(address.query), body))
            else:
                raise _RefusalError(404, "", "no such page")
        except _RefusalError as refusal:
            self._send(refusal.status, json.dumps({"error": refusal.message}).encode(), refusal.headers)

    def _repository(self, kind: str, found: re.Match[str], *, files: bool) -> tuple[str, Repository]:
        """The commit that a request asks for, if its token may see it."""
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        if token is not None and token not in self.hub.tokens:
            raise _RefusalError(401, "", "Invalid credentials in Authorization header")
        repository = self.hub.repositories.get((kind, found["id"]))
        allowed = repository is not None and (repository.readers is None or token in repository.readers)
        if repository is None or not (allowed or repository.gated):
            if token is None:
                raise _RefusalError(401, "", "Invalid username or password.", **{"WWW-Authenticate": "Bearer"})
            raise _RefusalError(404, "RepoNotFound", "Repository not found")
        if files and not allowed:
            raise _RefusalError(401 if token is None else 403, "GatedRepo", f"Access to {found['id']} is restricted.")
        revision = found["revision"] or "main"
        if (commit := repository.found(revision)) is None:
            raise _RefusalError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit, repository

    def _about(self, found: re.Match[str], query: dict[str, list[str]], body: bytes) -> Any:
        commit, repository = self._repository(found["kind"], found, files=False)
        files = repository.commits[commit]
        if found["what"] == "tree":
            return _listed(files, found["path"], recursive=query.get("recursive", ["false"])[0].lower() == "true")
        if found["what"] == "paths-info":
            asked = json.loads(body)["paths"] if body.startswith(b"{") else parse_qs(body.decode())["paths"]
            everything = _listed(files, None, recursive=True)
            return [entry for entry in everything if entry["path"] in ([asked] if isinstance(asked, str) else asked)]
        return {
            "_id": commit[:24],
            "id": found["id"],
            "sha": commit,
            "private": repository.readers is not None,
            "gated": "manual" if repository.gated else False,
            "disabled": False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "siblings": [{"rfilename": name} for name in sorted(files)],
        }

    def _send_file(self, kind: str, found: re.Match[str]) -> None:
        commit, repository = self._repository(kind, found, files=True)
        content = repository.commits[commit].get(found["path"])
        if content is None:
            raise _RefusalError(404, "EntryNotFound", "Entry not found", **{"X-Repo-Commit": commit})
        headers = {"ETag": f'"{_hash(content)}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        headers["Content-Type"] = "application/octet-stream"
        if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or ""):
            first, last = int(wanted[1]), min(int(wanted[2] or len(content) - 1), len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            self._send(HTTPStatus.PARTIAL_CONTENT, content[first : last + 1], headers)
        else:
            self._send(HTTPStatus.OK, content, headers)

    def _send_json(self, value: Any) -> None:
        self._send(HTTPStatus.OK, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _hash(content: bytes) -> str:
    """The hash that git gives to a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _listed(files: dict[str, bytes], folder: str | None, *, recursive: bool) -> list[dict[str, Any]]:
    """The entries of a folder, or of the whole repository."""
    start = f"{folder}/" if folder else ""
    inside = {name: content for name, content in sorted(files.items()) if name.startswith(start)}
    if folder and not inside:
        raise _RefusalError(404, "EntryNotFound", f"{folder} does not exist")
    folders = {str(parent) for name in inside for parent in Path(name).parents} - {"."}
    entries = [{"type": "directory", "oid": _hash(name.encode()), "size": 0, "path": name} for name in sorted(folders)]
    entries += [
        {"type": "file", "oid": _hash(content), "size": len(content), "path": name} for name, content in inside.items()
    ]
    return [
        entry
        for entry in entries
        if entry["path"].startswith(start) and (recursive or "/" not in entry["path"][len(start) :])
    ]
