"""What is asked: a URL, and the requests that are sent to it, ready as bytes."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from compress.runtime.errors import UserError

PATH = "/classify"  # of a URL without a path
BODY = '{"text": "{text}"}'
# Of about the lengths that reviews, tickets and messages have.
TEXTS = (
    "A charming film.",
    "It never finds its feet, and two hours feel like four.",
    "The battery died after three weeks and nobody answers my mails.",
    "Great value for the price, I would buy it again without thinking twice about it.",
    "The acting is fine, but the story has been told a hundred times before, and better, by people who cared about how it ends.",
    "Arrived on time.",
    "I had low expectations and was wrong: the second half is clever, warm and very funny, and the songs are hard to forget.",
    "Please cancel my order, since the address is wrong and the shop does not let me change it.",
)


@dataclass(frozen=True)
class Target:
    """A server, and the requests in the order in which they are sent, again and again."""

    url: str
    host: str
    port: int
    address: tuple[str, int]  # of the host, looked up once: no look-up is part of a time
    tls: ssl.SSLContext | None
    requests: list[bytes]  # whole HTTP/1.1 requests

    @classmethod
    def make(cls, url: str, body: str, texts: Sequence[str], headers: Sequence[str]) -> Target:
        """Make the requests, one for each text.

        :param body: with `{text}` where the text goes, and `{text_b}` where the second text of a pair goes, which stands behind a
            tab; "": a GET without a body.
        :param headers: such as "Authorization: Bearer …".
        :raises UserError: the URL, the template or a header cannot be used, or the host is not known.
        """
        if not (url.isascii() and url.isprintable()) or " " in url:
            raise UserError(f"{url!r}: write spaces and letters beyond ASCII as %-codes, such as %20")
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError as error:
            raise UserError(f"{url}: {error}; write it as http://HOST:PORT/PATH") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(f"{url}: not a URL of a server; write it as http://HOST:PORT/PATH")
        if parts.username is not None:
            raise UserError(f"{parts.hostname}: no name or password in the URL; send --header 'Authorization: Basic …'")
        path = (parts.path or PATH) + (f"?{parts.query}" if parts.query else "")
        fields = {"Host": parts.netloc, "User-Agent": "pocketbert-load", "Accept": "*/*"}
        if body:
            fields["Content-Type"] = "application/json"
        fields = _with_headers(fields, headers)
        head = f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items())
        requests = [_request(head, content) for content in _bodies(body, texts)]
        return cls(
            url=f"{parts.scheme}://{fields['Host']}{path}",
            host=parts.hostname,
            port=port,
            address=_look_up(parts.hostname, port),
            tls=ssl.create_default_context() if parts.scheme == "https" else None,
            requests=requests,
        )

    @property
    def here(self) -> bool:
        """Whether the server is on this machine, as far as its address tells."""
        return self.address[0] in ("::1",) or self.address[0].startswith("127.")

    def probe(self, timeout: float) -> None:
        """Send the first request once, to see that it is one that the server takes.

        :raises UserError: it is not; with the status and the first line of the answer.
        """
        first = self.requests[0]
        head, _, content = first.partition(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        method, path, _ = line.split(" ", 2)
        connection: http.client.HTTPConnection
        if self.tls:
            connection = http.client.HTTPSConnection(self.host, self.port, timeout=timeout, context=self.tls)
        else:
            connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        try:
            connection.request(method, path, content or None, dict(field.split(": ", 1) for field in fields))
            answer = connection.getresponse()
            said = answer.read(2000).decode("utf-8", "replace").strip()
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise UserError(f"{self.url}: no answer ({why}); start the server and look at host and port") from None
        finally:
            connection.close()
        if not 200 <= answer.status < 300:
            raise UserError(
                f"{self.url}: answers {answer.status}: {' '.join(said.split())[:300]}; look at the URL, --body and --texts"
            )


def read_texts(path: Path) -> list[str]:
    """A text a line.

    :raises UserError: the file cannot be read, is not UTF-8, or has no text.
    """
    try:
        texts = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except OSError as error:
        raise UserError(f"--texts: {path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UserError(f"--texts: {path}: is not UTF-8; save it as UTF-8") from None
    if not texts:
        raise UserError(f"--texts: {path}: holds no text; write one a line")
    return texts


def _bodies(template: str, texts: Sequence[str]) -> list[bytes]:
    if "{text}" not in template:
        return [template.encode()]
    # In JSON, what is special in a string is escaped; other bodies take the text as it is.
    as_json = template.lstrip()[:1] in ("{", "[", '"')
    bodies = []
    for number, text in enumerate(texts, 1):
        first, tab, second = text.partition("\t") if "{text_b}" in template else (text, "\t", "")
        if not tab:
            raise UserError(
                f"--texts: text {number} is no pair, and --body has {{text_b}}: write both with a tab between"
            )
        first, second = (json.dumps(part, ensure_ascii=False)[1:-1] if as_json else part for part in (first, second))
        # In one pass: a text may hold "{text_b}" itself.
        parts = (part.replace("{text_b}", second) for part in template.split("{text}"))
        body = first.join(parts)
        if number == 1 and as_json:
            _check_json(body)
        bodies.append(body.encode())
    return bodies


def _check_json(body: str) -> None:
    try:
        json.loads(body)
    except ValueError as error:
        raise UserError(f"--body: with a text in it it is not JSON ({error}): {body[:200]}") from None


def _with_headers(fields: dict[str, str], headers: Sequence[str]) -> dict[str, str]:
    for header in headers:
        name, colon, value = header.partition(":")
        if not (colon and name.strip()) or not header.isascii() or not header.isprintable():
            raise UserError(f"--header: {header!r}: write it as 'NAME: VALUE'")
        same = {key for key in fields if key.lower() == name.strip().lower()}
        fields = {key: kept for key, kept in fields.items() if key not in same} | {name.strip(): value.strip()}
    return fields


def _request(head: str, body: bytes) -> bytes:
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return f"{head}{length}\r\n".encode() + body


def _look_up(host: str, port: int) -> tuple[str, int]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UserError(f"{host}: not a host that this machine knows ({getattr(error, 'strerror', error)})") from None
    # "localhost" is ::1 first, where many servers do not listen: the first address that takes a connection.
    for family, kind, protocol, _, address in found:
        with socket.socket(family, kind, protocol) as attempt:
            attempt.settimeout(5)
            if attempt.connect_ex(address) == 0:
                return str(address[0]), port
    raise UserError(f"{host}:{port}: nothing takes connections there; start the server and look at host and port")
