"""Photograph the page of the service: `page-light.png`, `page-dark.png` and `page-phone.png`.

Usage: python docs/photograph_page.py BUNDLE

The bundle should be one of the default recipe, since the texts are reviews. Needs Chromium (Debian: `apt install chromium`).
"""

from __future__ import annotations

import csv
import sys
import tempfile
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))

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


def main(bundle: Path) -> None:
    """Take the three photographs."""
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch,
        served(bundle) as address,
        Chromium(Path(scratch) / "profile") as chromium,
    ):
        table = Path(scratch) / "reviews.csv"
        with table.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("review", "rating"), *REVIEWS])
        open_page(chromium, address, (1120, 730), "light")
        save(chromium, DOCS / "page-light.png")
        open_page(chromium, address, (390, 1100), "light")
        save(chromium, DOCS / "page-phone.png")
        open_page(chromium, address, (1120, 840), "dark")
        classify_table(chromium, table)
        save(chromium, DOCS / "page-dark.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
