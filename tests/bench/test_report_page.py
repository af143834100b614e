"""The page of a report: whole without a network, safe with foreign names, and usable by keyboard in a real browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from bench.__main__ import app
from bench.cells import Cell
from bench.load.report import LoadReport, Stage
from bench.page.page import to_html
from bench.page.values import STEPS, quantiles
from bench.report import Report, read_report, write_report
from compress.runtime.errors import UserError
from tests.bench.synthetic import engine, four, report
from tests.serve.chromium import Chromium, find_chromium

OLD = Path(__file__).parents[2] / "docs" / "sentiment" / "report.json"
EVIL = "</script><img src=x onerror=\"document.title='evil'\"><!--<script>${7*7}"
needs_browser = pytest.mark.skipif(find_chromium() is None, reason="no Chromium here; Debian's package is `chromium`")


class Page(HTMLParser):
    """The elements of a page with their attributes, and the text in each kind of element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self._open, data))

    @property
    def values(self) -> dict[str, Any]:
        """What the script reads."""
        return next(json.loads(text) for tag, text in self.texts if tag == "script")


def hostile_report() -> Report:
    """A report with markup in every text that comes from outside."""
    made = report(*four())
    for one in made.engines:
        one.spec = one.spec.model_copy(update={"title": f"{one.spec.title} {EVIL}", "note": EVIL})
    return made.model_copy(
        update={"name": EVIL, "command": EVIL, "partial": EVIL, "skipped": {EVIL: EVIL}, "timing": [EVIL]}
    )


def load_report() -> LoadReport:
    """200 answers of 10 ms in a second, and 400 of 30 ms of which one is an error."""
    stages = []
    for rate, ms in ((200, 10.0), (400, 30.0)):
        outcome = [0] * rate
        if rate == 400:
            outcome[7] = 1
        stages.append(
            Stage(
                mode="open", rate=rate, connections=None, seconds=1, warm_up_s=0, complete=True, opened=1, waited=0,
                client_cpu_share=0.1, client_answers_per_s=None, outcomes=["answered", "timeout"],
                planned_ms=np.linspace(0, 900, rate).tolist(), late_ms=[0.0] * rate, woke_late_ms=[], latency_ms=[ms] * rate,
                outcome=outcome,
            )
        )  # fmt: skip
    return LoadReport(
        name=f"http://{EVIL}", created="", command="", method="POST", body="", texts=8, timeout_s=1, most_connections=8,
        server_here=True, environment=report().environment, stages=stages,
    )  # fmt: skip


def test_nothing_from_outside_becomes_markup_or_ends_the_data() -> None:
    page = Page(to_html(hostile_report(), [load_report()]))
    assert not [tag for tag, _ in page.elements if tag == "img"]
    assert [attributes.get("type") for tag, attributes in page.elements if tag == "script"] == [
        "application/json",
        None,
    ]
    assert page.values["engines"][0]["title"] == f"bert-torch {EVIL}"
    assert page.values["loads"][0]["title"] == f"http://{EVIL}, open loop"
    assert ("h1", f"{EVIL}: speed and accuracy") in page.texts


def test_a_page_is_one_file_whose_policy_allows_only_its_own_script_and_style() -> None:
    page = Page(text := to_html(report(*four())))
    assert not [value for _, attributes in page.elements for name, value in attributes.items() if name == "src"]
    assert [attributes["href"] for tag, attributes in page.elements if tag == "link"] == ["data:,"]
    (policy,) = (
        attributes["content"] for tag, attributes in page.elements if tag == "meta" and "http-equiv" in attributes
    )
    assert policy.startswith("default-src 'none'; ")
    for name in ("style", "script"):
        (inside,) = re.findall(rf"<{name}>(.*?)</{name}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import|url\(", inside)


def test_percentiles_need_enough_samples_and_the_largest_stays() -> None:
    def of(count: int) -> dict[str, float | None]:
        samples = [*np.arange(1.0, count), 1000.0]
        return quantiles(
            Cell(
                input="x",
                length=1,
                batch_size=1,
                texts=count,
                mean_tokens=1,
                warm_up=1,
                tokenise_ms=[0.0] * count,
                model_ms=samples,
            )
        )

    few, some, many = of(20), of(101), of(1001)
    assert [name for name in STEPS if few[name] is None] == ["p99", "p99.9"]
    assert [name for name in STEPS if some[name] is None] == ["p99.9"]
    assert (some["min"], some["p10"], some["p50"], some["p99"], some["max"]) == (1, 11, 51, 100, 1000)
    assert many["p99.9"] == pytest.approx(1000)


def test_costs_are_of_the_throughput_in_batches() -> None:
    student = engine("student-int8", 0.5, None).model_copy(update={"peak_memory_bytes": 500_000_000})
    made = report(student, engine("linear", 1, None)).model_copy(update={"threads": 2})
    cell = next(cell for cell in student.cells if cell.batch_size == 10)
    speed = cell.summary.total_texts_per_s  # about 20,000
    page = Page(to_html(made))
    cost = next(one["cost"] for one in page.values["engines"][0]["cells"] if one["batch"] == 10)
    assert cost == pytest.approx({"second": speed / 2, "memory": speed / 0.5, "hours": 1e9 / (speed / 2) / 3600})
    assert page.values["engines"][1]["cells"][0]["cost"]["memory"] is None


def test_a_load_report_has_a_plot_and_without_one_there_is_none() -> None:
    without, with_load = Page(to_html(report(*four()))), Page(to_html(report(*four()), [load_report()]))
    hidden = [
        next(
            "hidden" in attributes
            for _, attributes in page.elements
            if attributes.get("aria-labelledby") == "load-title"
        )
        for page in (without, with_load)
    ]
    assert hidden == [True, False]
    first, second = with_load.values["loads"][0]["stages"]
    assert (first["perSecond"], first["quantiles"]["p50"], first["errors"]) == (200, 10, 0)
    assert (second["perSecond"], second["quantiles"]["p99"], second["errors"]) == (399, 30, 1)


def test_the_command_makes_pages_of_old_reports_and_says_what_is_no_report(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["report", str(OLD), "--out", str(tmp_path / "pages" / "page.html")])
    assert done.exit_code == 0
    page = Page((tmp_path / "pages" / "page.html").read_text(encoding="utf-8"))
    titles = [one["title"] for one in page.values["engines"]]
    assert titles == [one.spec.title for one in read_report(OLD).engines]
    cells = [text for tag, text in page.texts if tag in ("th", "td")]
    assert all(cells.count(title) >= 2 for title in titles if title != "Majority class")
    for arguments, said in (
        ([str(tmp_path)], "`pocketbert bench` writes a report.json"),
        ([str(OLD), "--load", str(OLD)], "not a report of `bench http`"),
        ([str(OLD), "--out", "/proc/x/page.html"], "cannot be written"),
    ):
        with pytest.raises(UserError, match=re.escape(said)):
            CliRunner().invoke(app, ["report", *arguments], catch_exceptions=False)


def test_accuracies_without_a_time_have_their_tables(tmp_path: Path) -> None:
    made = report(*(one.model_copy(update={"cells": []}) for one in four()))
    write_report(made, tmp_path)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert (page.values["inputs"], page.values["engines"][2]["accuracy"]) == ([], 84)
    assert "84.00 [" in (tmp_path / "report.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("profile")) as chromium:
        yield chromium


@pytest.fixture
def browser(chromium: Chromium, tmp_path: Path) -> Iterator[Chromium]:
    """A hostile report's page. After the test: no error in the console, and no file or address but the page."""
    chromium.events.clear()
    file = tmp_path / "report.html"
    file.write_text(to_html(hostile_report(), [load_report()]), encoding="utf-8")
    chromium.open(file.as_uri())
    chromium.wait_for("document.querySelectorAll('.chart svg').length === 5")
    yield chromium
    assert chromium.errors() == []
    assert {event["request"]["url"] for event in chromium.named("Network.requestWillBeSent")} <= {
        file.as_uri(),
        "data:,",
    }


def shown(browser: Chromium, plot: str, what: str) -> int:
    """How many elements of a plot match a selector."""
    return browser.evaluate(f"document.querySelectorAll('#{plot} {what}').length")


def said(browser: Chromium, plot: str) -> str:
    """What the plot says of the point that is pointed at."""
    return browser.evaluate(f"document.querySelector('#{plot} [role=status]').textContent")


@needs_browser
def test_every_engine_is_drawn_as_text_and_a_box_hides_it_everywhere(browser: Chromium) -> None:
    assert browser.evaluate("document.title") == f"{EVIL}: speed and accuracy"
    assert [
        shown(browser, plot, ".mark") for plot in ("accuracy", "percentiles", "lengths", "cost", "load .chart")
    ] == [
        3,
        36,
        4,
        4,
        2,
    ]
    assert shown(browser, "accuracy", "line.dashed") == 1  # BERT, measured for its time only
    browser.evaluate("document.querySelectorAll('#choices [type=checkbox]')[2].click()")  # the student
    assert [shown(browser, plot, ".mark") for plot in ("accuracy", "percentiles", "lengths", "cost")] == [2, 27, 3, 3]
    browser.evaluate(
        "[...document.querySelectorAll('#choices button')].find((one) => one.innerText === 'Student and teacher').click()"
    )
    assert [shown(browser, plot, ".mark") for plot in ("accuracy", "cost")] == [2, 2]


@needs_browser
def test_the_arrow_keys_go_through_the_points_and_say_their_figures(browser: Chromium) -> None:
    browser.evaluate("document.querySelector('#accuracy .chart').focus()")
    said_by = []
    for _ in range(4):
        browser.press("ArrowRight")
        said_by.append(said(browser, "accuracy"))
    assert "bert-torch" in said_by[0]
    assert "time only" in said_by[0]
    browser.evaluate("document.querySelector('#percentiles .chart').focus()")
    browser.press("ArrowRight")
    browser.press("ArrowRight")
    assert re.search(r"bert-torch .*: p10 \d+(\.\d+)? ms, of 100 samples$", said(browser, "percentiles"))
    names = browser.evaluate(
        "[...document.querySelectorAll('input, select, button, .chart, .scroll')].map((one) => "
        "one.labels?.[0]?.textContent || one.textContent && one.getAttribute('aria-label') || one.textContent).filter((name) => !name)"
    )
    assert names == []


@needs_browser
def test_the_mouse_points_and_a_linear_axis_moves_the_points(browser: Chromium) -> None:
    place = "document.querySelector('#accuracy .mark').getBoundingClientRect()"
    x, y = browser.evaluate(f"[{place}.x + 5, {place}.y + 5]")
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    assert "teacher-torch" in said(browser, "accuracy")
    assert "88.00 [" in said(browser, "accuracy")
    browser.evaluate("document.querySelector('#accuracy [type=checkbox]').click()")
    assert browser.evaluate(f"{place}.x + 5") < x - 50  # 20 of 100 ms is no longer in the middle
    browser.evaluate("const list = document.querySelector('#cost select'); list.value = 'hours'; list.onchange()")
    assert "core-hours for 1e9 texts" in browser.evaluate("document.querySelector('#cost .title').textContent")


@needs_browser
def test_a_phone_scrolls_down_only(browser: Chromium) -> None:
    address = browser.evaluate("location.href")
    browser.open(address, (360, 740), prefers_color_scheme="dark")
    browser.wait_for("document.querySelectorAll('.chart svg').length === 5")
    assert browser.evaluate("document.documentElement.scrollWidth") == 360
    assert browser.evaluate("document.querySelector('#choices details').open") is False
