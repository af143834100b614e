"""The page for people: type a text, see its label; drop a table, get it back with labels. Plain HTML, CSS and JavaScript.

The files of this directory are all there is to it. The page loads nothing from elsewhere and asks only the service itself.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
# Nothing but these files runs or is shown, and the browser asks nobody else. With trusted types it refuses to make markup out of
# a string, so a text or a label can never become a part of the page.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # the browser asks each time whether the file is still the same
}


def page_routes() -> list[Route]:
    """Routes of the page's files: `/` and `/page/NAME`. The files are read now and kept in memory."""
    files = [file for file in sorted(Path(__file__).parent.iterdir()) if file.suffix in _MEDIA_TYPES]
    return [_route("/" if file.name == "index.html" else f"/page/{file.name}", file) for file in files]


def _route(path: str, file: Path) -> Route:
    content = file.read_bytes()
    headers = HEADERS | {"ETag": f'"{sha256(content).hexdigest()[:16]}"'}
    media_type = _MEDIA_TYPES[file.suffix]

    async def send(http: Request) -> Response:
        if http.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=media_type, headers=headers)

    return Route(path, send)
