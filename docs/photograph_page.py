"""Photograph the page of a report, `report-page.png`, the site of the documents, `site.png`, and the page of the service: `page-light.png`,
`page-dark.png`, `page-phone.png`.

Usage: python docs/photograph_page.py [BUNDLE]

The report is that of docs/sentiment; the site is the one that `make docs` has built. The page of the service needs a bundle, which
should be one of the default recipe, since the texts are reviews. Needs Chromium (Debian: `apt install chromium`).
"""

from __future__ import annotations

import csv
import sys
import tempfile
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))

from bench.page.page import write_page  # noqa: E402
from bench.report import read_report  # noqa: E402
from tests.serve.chromium import Chromium, served  # noqa: E402

TEXT = (
    "The plot is thin and some of the jokes are tired, but the two leads are so warm and funny together that I left the "
    "cinema smiling."
)
REVIEWS = [
    ("A quiet, generous film that stays with you for days.", "positive"),
    ("Two hours of shouting and not one joke that lands.", "negative"),
    ("The phone is light, fast and the battery lasts two days.", "positive"),
    ("Stopped charging after a week, and nobody answers my mails.", "negative"),
    ("It is not as bad as people say, but I would not watch it again.", "negative"),
    ("Great cast, lovely music, and an ending that earns its tears.", "positive"),
    ("The first half is slow; the second half makes up for all of it.", "positive"),
    ("Looks expensive, feels cheap.", "negative"),
    ("My children have asked for it every night since.", "positive"),
    ("The sound is thin, and the case broke when I opened it.", "negative"),
    ("I expected nothing and was charmed from the first scene.", "positive"),
    ("A sequel nobody needed, made by people who seem tired of it.", "negative"),
]


def open_page(chromium: Chromium, address: str, size: tuple[int, int], scheme: str) -> None:
    """Open the page with one text in it, and with its words coloured."""
    chromium.open(address, size, prefers_color_scheme=scheme, prefers_reduced_motion="reduce")
    chromium.wait_for("!document.querySelector('main').hidden")
    chromium.type(TEXT)
    chromium.evaluate("document.getElementById('explain').click()")
    chromium.wait_for("document.querySelector('.words span')")
    chromium.evaluate("document.activeElement.blur()")


def classify_table(chromium: Chromium, table: Path) -> None:
    """Drop a table on the page and have it classified."""
    chromium.drop(table)
    chromium.wait_for("!document.getElementById('table-choice').hidden")
    chromium.evaluate("document.getElementById('run').click()")
    chromium.wait_for(
        "document.getElementById('run').innerText === 'Classify all' && document.querySelector('#results td')"
    )
    chromium.evaluate("document.activeElement.blur()")


def save(chromium: Chromium, file: Path) -> None:
    """Save what is visible with 256 colours, which takes a third of the bytes."""
    chromium.screenshot(file)
    with Image.open(file) as image:
        small = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    small.save(file, optimize=True)


def photograph_report(chromium: Chromium, scratch: Path) -> None:
    """The top of a report's page, with the student pointed at."""
    page = scratch / "report.html"
    write_page(read_report(DOCS / "sentiment"), page)
    chromium.open(page.as_uri(), (1120, 900), prefers_color_scheme="light")
    chromium.wait_for("document.querySelector('#accuracy .mark')")
    chromium.evaluate(
        "document.querySelector('section details').open = false"
    )  # the table takes the room of the next plot
    student = "document.querySelector('#accuracy circle.mark[r=\"6.5\"]').getBoundingClientRect()"
    x, y = chromium.evaluate(f"[{student}.x + 6, {student}.y + 6]")
    chromium.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    save(chromium, DOCS / "report-page.png")


def photograph_site(chromium: Chromium) -> None:
    """The page about texts, if the site is built."""
    page = DOCS.parent / "build" / "site" / "texts.html"
    if page.exists():
        chromium.open(page.as_uri(), (1400, 840), prefers_color_scheme="light")
        chromium.wait_for("document.querySelector('.md-nav__link')")
        save(chromium, DOCS / "site.png")


def photograph_service(chromium: Chromium, scratch: Path, bundle: Path) -> None:
    """The page of the service, three times."""
    table = scratch / "reviews.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("review", "rating"), *REVIEWS])
    with served(bundle) as address:
        open_page(chromium, address, (1120, 730), "light")
        save(chromium, DOCS / "page-light.png")
        open_page(chromium, address, (390, 1100), "light")
        save(chromium, DOCS / "page-phone.png")
        open_page(chromium, address, (1120, 840), "dark")
        classify_table(chromium, table)
        save(chromium, DOCS / "page-dark.png")


def main(bundle: Path | None) -> None:
    """Take the photographs."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        scratch = Path(name)
        with Chromium(scratch / "profile") as chromium:
            photograph_report(chromium, scratch)
            photograph_site(chromium)
            if bundle is not None:
                photograph_service(chromium, scratch, bundle)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
