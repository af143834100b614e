"""Results as HTML, for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]], title: str = "") -> str:
    """A table as HTML.

    :param title: a line above it.
    """

    def line(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag} style='text-align:left'>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line("td", row) for row in rows)
    caption = f"<p>{escape(title)}</p>" if title else ""
    return f"{caption}<table><thead>{line('th', header)}</thead><tbody>{body}</tbody></table>"
