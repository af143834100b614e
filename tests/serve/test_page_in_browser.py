"""The page, used in headless Chromium. All files and requests are real; the model is the tiny bundle."""

from __future__ import annotations

import base64
import codecs
import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.conftest import make_tiny_bundle
from tests.serve.chromium import Chromium, find_chromium, served
from tests.waiting import until

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="no Chromium here; Debian's package is `chromium`")
LIMITS = {"max_texts": 12, "max_characters": 500}
EVIL = '<img src=x onerror="document.title=1">'
# What a screen reader would call each thing that takes the focus.
NAMES_OF_CONTROLS = """
[...document.querySelectorAll("button, select, input, textarea, a")].filter((one) => one.checkVisibility()).map((one) =>
  one.labels?.[0]?.innerText || one.innerText).filter((name) => !name)
"""


@pytest.fixture(scope="module")
def address(tiny_bundle: Path) -> Iterator[str]:
    with served(tiny_bundle, **LIMITS) as address:
        yield address


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("profile")) as chromium:
        yield chromium


@pytest.fixture
def browser(chromium: Chromium, address: str) -> Iterator[Chromium]:
    """The page of the tiny bundle, just opened. After the test: no error in the console, no request to anybody else."""
    chromium.events.clear()
    open_page(chromium, address)
    yield chromium
    check_console_and_network(chromium)


def open_page(chromium: Chromium, address: str) -> None:
    chromium.open(address)
    chromium.wait_for("!document.querySelector('main').hidden")


def check_console_and_network(chromium: Chromium) -> None:
    assert chromium.errors() == []
    addresses = [urlsplit(event["request"]["url"]) for event in chromium.named("Network.requestWillBeSent")]
    assert {one.path for one in addresses} >= {"/", "/page/page.js", "/info"}
    assert {one.hostname for one in addresses if one.scheme != "blob"} == {"127.0.0.1"}


def wait_for_verdict(browser: Chromium, label: str) -> None:
    browser.wait_for(f"document.getElementById('one-label').textContent === {json.dumps(label)}")


def test_an_answer_comes_while_one_types(browser: Chromium) -> None:
    browser.type("a very good film")  # the text has the focus from the start
    wait_for_verdict(browser, "positive")
    bars = browser.text("one-bars").split("\n")
    assert bars[0::2] == ["positive", "negative"]
    assert float(bars[1].removesuffix(" %")) + float(bars[3].removesuffix(" %")) == pytest.approx(100)
    assert re.fullmatch(r"[\d.]+ ms in the service\n[\d.]+ ms until here", browser.text("one-facts"))
    browser.wait_for("document.getElementById('say').textContent.startsWith('positive, ')")


def test_everything_works_by_keyboard_and_has_a_name(browser: Chromium) -> None:
    browser.type("bad")
    browser.press("Enter", control=True)
    wait_for_verdict(browser, "negative")
    browser.press("Tab")
    assert browser.evaluate("document.activeElement.innerText") == "Classify"
    browser.press("Tab")
    browser.press(" ")
    browser.wait_for("!document.getElementById('reading').hidden")
    assert browser.evaluate(NAMES_OF_CONTROLS) == []
    browser.evaluate("document.getElementById('tab-one').focus()")
    browser.press("ArrowRight")
    assert browser.evaluate("document.activeElement.id") == "tab-many"
    assert browser.evaluate("document.getElementById('one').hidden")
    assert browser.evaluate(NAMES_OF_CONTROLS) == []


def test_words_are_coloured_on_request(browser: Chromium) -> None:
    browser.type("a good 😀 film, not   bad\nat all")
    browser.evaluate("document.getElementById('explain').click()")
    browser.wait_for("document.querySelector('.words span')")
    words = browser.evaluate(
        "[...document.querySelectorAll('.words span')].map((one) => [one.textContent, one.className, one.style.getPropertyValue('--weight')])"
    )
    kinds = {word: (kind, float(weight)) for word, kind, weight in words}
    assert {kinds["good"][0], kinds["bad"][0]} == {"for", "against"}
    assert max(kinds["good"][1], kinds["bad"][1]) == 1
    assert browser.evaluate("document.querySelector('.words').textContent") == "a good 😀 film, not   bad\nat all"
    assert "good" in browser.text("reading-strongest")


def test_a_text_is_never_taken_for_markup(browser: Chromium) -> None:
    browser.type(f"good {EVIL}")
    browser.evaluate("document.getElementById('explain').click()")
    browser.wait_for("document.querySelector('.words span')")
    assert EVIL in browser.evaluate("document.querySelector('.words').textContent")
    browser.evaluate("document.getElementById('tab-many').click(), document.getElementById('lines').focus()")
    browser.type(f"good {EVIL}")
    browser.evaluate("document.getElementById('run').click()")
    browser.wait_for("document.querySelector('#results td')")
    assert EVIL in browser.text("results-body")
    assert browser.evaluate("document.images.length") == 0
    assert browser.evaluate("document.title") == "tiny · pocketbert"


def test_labels_and_names_of_a_bundle_are_never_taken_for_markup(chromium: Chromium, tmp_path: Path) -> None:
    directory = make_tiny_bundle(tmp_path / "bundle", name=EVIL, labels=(EVIL, f"<b>{EVIL}"))
    chromium.events.clear()
    with served(directory, **LIMITS) as address:
        open_page(chromium, address)
        chromium.type("bad")
        chromium.evaluate("document.getElementById('explain').click()")
        wait_for_verdict(chromium, EVIL)
        chromium.wait_for("document.querySelector('.words span')")
        assert EVIL in chromium.text("name")
        assert EVIL in chromium.text("reading-title")
        assert chromium.evaluate("document.images.length + document.querySelectorAll('b').length") == 0
        assert chromium.evaluate("document.title") == f"{EVIL} · pocketbert"
    check_console_and_network(chromium)


def test_the_browser_refuses_markup_from_a_string_and_scripts_in_the_page(browser: Chromium) -> None:
    # So a mistake in a later script does nothing.
    refused = (
        """(() => { try { document.body.innerHTML = "<p>"; return "taken" } catch (error) { return error.name } })()"""
    )
    assert browser.evaluate(refused) == "TypeError"
    inline = "document.body.append(Object.assign(document.createElement('script'), {text: 'document.title = 1'}))"
    with pytest.raises(AssertionError, match="TypeError"):
        browser.evaluate(inline)
    browser.events[:] = [event for event in browser.events if event["method"] != "Log.entryAdded"]  # it logs both


def test_a_dropped_table_comes_back_with_labels(browser: Chromium, tmp_path: Path) -> None:
    rows = [
        ["id", "review", "sentiment"],
        ["1", 'a "good", long\nfilm', "positive"],
        ["2", "bad", "positive"],
        ["3", "  ", "negative"],
        ["4", "x" * 600, "negative"],
        *([str(number), "a very good film", "positive"] for number in range(5, 30)),
    ]
    with (tmp_path / "table.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    downloads = tmp_path / "downloads"
    browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
    browser.drop(tmp_path / "table.csv")
    browser.wait_for("!document.getElementById('table-choice').hidden")
    assert browser.text("file-name") == "table.csv · 29 rows"
    chosen = "[...document.querySelectorAll('#table-choice select')].filter((one) => one.checkVisibility()).map((one) => one.selectedOptions[0].text)"
    assert browser.evaluate(chosen) == ["review", "sentiment"]
    browser.press("Enter")  # the button has the focus
    browser.wait_for(
        "document.getElementById('run').innerText === 'Classify all' && document.querySelector('#results td')"
    )
    assert browser.text("many-title") == "27 texts"
    assert "96.3 % have the known label" in browser.text("many-facts")  # 26 of 27
    assert "2 not classified" in browser.text("many-facts")
    browser.evaluate("document.getElementById('download').click()")
    until((downloads / "classified.csv").exists)
    with (downloads / "classified.csv").open(newline="", encoding="utf-8-sig") as file:
        found = list(csv.reader(file))
    assert found[0] == [*rows[0], "label", "score", "problem"]
    assert [row[:3] for row in found] == rows
    assert [row[3] for row in found[1:6]] == ["positive", "negative", "", "", "positive"]
    assert [row[5] for row in found[3:6]] == ["blank", "600 characters; send at most 500 in one text", ""]


def test_pasted_lines_are_classified_and_ordered_by_score(browser: Chromium) -> None:
    browser.evaluate("document.getElementById('tab-many').click(), document.getElementById('lines').focus()")
    browser.type("good\n\nbad is a good film\nbad")
    browser.evaluate("document.getElementById('run').click()")
    browser.wait_for("document.querySelectorAll('#results-body tr').length === 3")
    order = "(name) => { const order = document.getElementById('order'); order.value = name; order.dispatchEvent(new Event('change')); }"
    browser.evaluate(f"({order})('least sure first')")
    assert "bad is a good film" in browser.text("results-body").split("\n")[0]


TABLES = [
    ('a,b\r\n"x, ""y""\nz",2\r\n', [["a", "b"], ['x, "y"\nz', "2"]]),
    ("a;b\n1,5;2", [["a", "b"], ["1,5", "2"]]),
    ('a\tb\n\n\t\nit\'s "so"\t', [["a", "b"], ["", ""], ['it\'s "so"', ""]]),
    ("one column\nof text, with commas", [["one column"], ["of text, with commas"]]),
    ('"a"b,"",c\rd,', [["ab", "", "c"], ["d", ""]]),
    ("a|b]\\^-|c\n|", [["a", "b]\\^-", "c"], ["", ""]]),
    ('"open', [["open"]]),
    ("", []),
]


def test_tables_are_read_and_written_again(browser: Chromium) -> None:
    for text, rows in TABLES:
        found = browser.evaluate(f"import('/page/csv.js').then((csv) => csv.parse({json.dumps(text)}))")
        assert found["rows"] == rows
        written = f"csv.write({json.dumps(rows)}, {json.dumps(found['delimiter'])})"
        assert browser.evaluate(f"import('/page/csv.js').then((csv) => csv.parse({written}).rows)") == rows


TABLE = "text;näme\n„gut“;ä\n"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param(TABLE.encode(), "", id="utf-8"),
        pytest.param(TABLE.encode("utf-8-sig"), "", id="utf-8 with a mark"),
        pytest.param(codecs.BOM_UTF16_LE + TABLE.encode("utf-16-le"), " · read as UTF-16LE", id="utf-16-le"),
        pytest.param(codecs.BOM_UTF16_BE + TABLE.encode("utf-16-be"), " · read as UTF-16BE", id="utf-16-be"),
        pytest.param(TABLE.encode("cp1252"), " · read as Windows-1252", id="cp1252"),
    ],
)
def test_the_encoding_of_a_table_is_found_by_its_mark(
    browser: Chromium, tmp_path: Path, data: bytes, said: str
) -> None:
    (tmp_path / "table.csv").write_bytes(data)
    browser.drop(tmp_path / "table.csv")
    browser.wait_for("!document.getElementById('table-choice').hidden")
    assert browser.text("file-name") == f"table.csv · 1 row{said}"
    assert browser.evaluate("[...document.getElementById('column').options].map((one) => one.text)") == ["text", "näme"]
    browser.evaluate("document.getElementById('run').click()")
    browser.wait_for("document.querySelector('#results td')")
    assert "„gut“" in browser.text("results-body")


def test_a_table_that_is_not_what_its_mark_says_is_refused(browser: Chromium, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(codecs.BOM_UTF16_BE + "text\ngood\n".encode("utf-16-be")[:-1])
    browser.drop(tmp_path / "table.csv")
    browser.wait_for("!document.getElementById('many-problem').hidden")
    assert browser.text("many-problem") == "The file begins as UTF-16BE and has bytes that are not. Save it as UTF-8."


def test_a_pair_has_two_fields(chromium: Chromium, tiny_pair_bundle: Path) -> None:
    chromium.events.clear()
    with served(tiny_pair_bundle, **LIMITS) as address:
        open_page(chromium, address)
        chromium.type("bad")
        assert chromium.text("one-label") == "No answer yet"
        chromium.evaluate("document.getElementById('text-b').focus()")
        chromium.type("good")
        wait_for_verdict(chromium, "better")
        chromium.evaluate("document.getElementById('explain').click()")
        chromium.wait_for("document.querySelectorAll('.words').length === 2")
        chromium.evaluate("document.getElementById('tab-many').click(), document.getElementById('lines').focus()")
        chromium.type("bad\tgood\ngood\tbad")
        chromium.evaluate("document.getElementById('run').click()")
        chromium.wait_for("document.querySelectorAll('#results-body tr').length === 2")
        assert [line.split("\t")[0] for line in chromium.text("results-body").split("\n") if "%" in line] == [
            "better",
            "worse",
        ]
    check_console_and_network(chromium)


def test_a_text_that_was_cut_is_said_to_be_cut(chromium: Chromium, tmp_path: Path) -> None:
    chromium.events.clear()
    with served(make_tiny_bundle(tmp_path / "bundle", max_length=5)) as address:
        open_page(chromium, address)
        chromium.type("good film good bad bad")
        wait_for_verdict(chromium, "positive")
        assert "cut: only the first 5 tokens were read" in chromium.text("one-facts")
        chromium.evaluate("document.getElementById('explain').click()")
        chromium.wait_for("document.querySelectorAll('.words .unread').length === 2")
        assert "does not read the words in grey" in chromium.text("reading-note")
    check_console_and_network(chromium)


def test_a_refusal_is_shown_in_the_words_of_the_service(browser: Chromium) -> None:
    browser.type("x" * 501)
    browser.wait_for("!document.getElementById('one-problem').hidden")
    assert browser.text("one-problem") == "text: 501 characters; send at most 500 in one text"
    browser.evaluate("document.getElementById('text').select()")
    browser.type("good")
    wait_for_verdict(browser, "positive")
    assert browser.text("one-problem") == ""


def answer_in_place_of_the_service(
    browser: Chromium, path: str, status: int, content: str = '{"error": "not now"}', **headers: str
) -> None:
    """Answer the next request for a path."""
    browser.wait_for_event("Fetch.requestPaused")
    event = browser.named("Fetch.requestPaused")[-1]
    assert urlsplit(event["request"]["url"]).path == path
    browser.call(
        "Fetch.fulfillRequest",
        requestId=event["requestId"],
        responseCode=status,
        responseHeaders=[{"name": name.replace("_", "-"), "value": value} for name, value in headers.items()],
        body=base64.b64encode(content.encode()).decode(),
    )
    browser.call("Fetch.disable")


def test_a_busy_service_is_asked_again_when_it_says_so(browser: Chromium) -> None:
    browser.evaluate("document.getElementById('tab-many').click(), document.getElementById('lines').focus()")
    browser.type("good\nbad")
    browser.call("Fetch.enable", patterns=[{"urlPattern": "*/classify"}])
    browser.evaluate("document.getElementById('run').click()")
    answer_in_place_of_the_service(browser, "/classify", 429, Retry_After="1")
    browser.wait_for(
        "document.getElementById('many-problem').textContent === 'The service is busy; the next try is in 1 s.'"
    )
    browser.wait_for("document.querySelectorAll('#results-body tr').length === 2")
    assert browser.text("many-problem") == ""


def test_the_model_that_answered_is_named(browser: Chromium) -> None:
    browser.call("Fetch.enable", patterns=[{"urlPattern": "*/classify"}])
    browser.type("good")
    answer = {"label": "bad", "score": 0.6, "scores": {"bad": 0.6, "good": 0.4}, "model": "teacher", "unsure": True}
    answer_in_place_of_the_service(browser, "/classify", 200, json.dumps(answer))
    wait_for_verdict(browser, "bad")
    assert browser.text("one-facts").split("\n")[:2] == ["unsure", "answered by the teacher"]


def test_a_service_that_wants_a_token_gets_it_with_each_request(browser: Chromium) -> None:
    browser.call("Fetch.enable", patterns=[{"urlPattern": "*/info"}])
    browser.call("Page.reload")
    answer_in_place_of_the_service(browser, "/info", 401)
    browser.wait_for("document.getElementById('token-form').checkVisibility()")
    browser.events[:] = [event for event in browser.events if event["method"] != "Log.entryAdded"]  # it logs the 401
    assert browser.evaluate("document.activeElement.id") == "token"
    browser.type("s3cret")
    browser.press("Enter")
    browser.wait_for("document.activeElement === document.getElementById('text')")
    browser.type("good")
    wait_for_verdict(browser, "positive")
    sent = [event["request"] for event in browser.named("Network.requestWillBeSent")]
    tokens = {urlsplit(one["url"]).path: one["headers"].get("Authorization") for one in sent}
    assert tokens["/classify"] == tokens["/info"] == "Bearer s3cret"
    assert tokens["/"] is None
    browser.evaluate("sessionStorage.clear()")
