"""The page of a run in a real browser: its geometry, its colours, its keys, and that it asks nobody for anything."""

import struct
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from capstan_evaluation.records import Outcome
from capstan_evaluation.reports.html import render_html
from support.browser import Page, open_page
from support.evaluated import many, result, run, verdict
from support.wait import eventually

pytestmark = pytest.mark.chromium
WIDTHS = (1280, 768, 375)
OUTSIDE = """[...document.querySelectorAll('body *')].filter(one => {
  if (one.closest('pre, .skip, .snippet, svg') || !one.checkVisibility()) return false;
  if (getComputedStyle(one.closest('thead') ?? one).position === 'absolute') return false;
  const box = one.getBoundingClientRect();
  return box.width && (box.left < -0.5 || box.right > innerWidth + 0.5);
}).map(one => one.outerHTML.slice(0, 80))"""
PARTS = "td > div, td .numbers, h1, h2, dt, dd, .badge, summary .id, label"
COVERED = f"""[...document.querySelectorAll('{PARTS}')].filter(one =>
  one.checkVisibility() && one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).display !== 'inline'
).map(one => one.outerHTML.slice(0, 80))"""
CONTRAST = """(() => {
  const channels = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(one => one / 255).map(one =>
    one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4
  ).reduce((sum, one, place) => sum + one * [0.2126, 0.7152, 0.0722][place], 0);
  const behind = one => {
    for (; one; one = one.parentElement) {
      const found = channels(getComputedStyle(one).backgroundColor);
      if (found.length < 4 || found[3] === 1) return found;
    }
    return [255, 255, 255];
  };
  const ratio = (one, other) => (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  return [...document.querySelectorAll('body *')].filter(one =>
    !one.closest('svg, script, style, .skip') && one.checkVisibility() &&
    [...one.childNodes].some(child => child.nodeType === 3 && child.data.trim()) &&
    ratio(light(channels(getComputedStyle(one).color)), light(behind(one))) < 4.5
  ).map(one => one.outerHTML.slice(0, 80));
})()"""


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Page]:
    """A page of a browser."""
    async with open_page(tmp_path) as opened:
        yield opened


def write(folder: Path, text: str) -> Path:
    """Put a page into a file."""
    path = folder / "report.html"
    path.write_text(text, encoding="utf-8")
    return path


def report(count: int = 60, *, words: int = 60) -> str:
    """Give the page of a run that is worse than its baseline."""
    now, before = (
        many(count, revision="v2", failing=0.2, words=words),
        many(count, revision="v1", failing=0.1, words=words),
    )
    long = result("unbroken", passed=False, text="x" * 3000, prompt="y" * 3000, tags=("z" * 300,))
    now = run([*now.results, long])
    return render_html(now, before, verdict(now, before, Outcome.FAIL))


def pixels(png: bytes) -> tuple[int, int, list[bytes]]:
    """Give width, height and the rows of a picture of 8 bits a channel, unfiltered."""
    width, height = struct.unpack(">II", png[16:24])
    data, place = b"", 8
    while place < len(png):
        size, kind = struct.unpack(">I4s", png[place : place + 8])
        if kind == b"IDAT":
            data += png[place + 8 : place + 8 + size]
        place += size + 12
    raw, wide = zlib.decompress(data), len(zlib.decompress(data)) // height
    return width, height, [raw[row * wide + 1 : (row + 1) * wide] for row in range(height)]


async def eventually_equal(page: Page, expression: str, wanted: Any) -> None:
    """Wait until an expression comes to this."""

    async def check() -> bool:
        found = await page.value(expression)
        assert found == wanted
        return True

    await eventually(check, what=expression)


async def heading(page: Page) -> Any:
    """Give what the page says first."""
    return await page.value("document.querySelector('h1').innerText")


@pytest.mark.parametrize("width", WIDTHS)
async def test_nothing_is_wider_than_the_window(tmp_path: Path, page: Page, width: int):
    """From a phone to a desktop the page never scrolls sideways, nothing sticks out, and nothing is cut off."""
    await page.show(write(tmp_path, report()), width=width)
    await page.value("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert await page.value("document.documentElement.scrollWidth") <= width
    assert await page.value(OUTSIDE) == []
    assert await page.value(COVERED) == []


@pytest.mark.parametrize("width", [1280, 375])
@pytest.mark.parametrize("dark", [False, True])
async def test_it_can_be_read_in_light_and_dark(tmp_path: Path, page: Page, width: int, *, dark: bool):
    """Every text has a contrast of 4.5 or more to what is behind it, and the picture of the page is not empty."""
    await page.show(write(tmp_path, report()), width=width, dark=dark)
    await page.value("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert await page.value(CONTRAST) == []
    paper = await page.value("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(253, 253, 252)") is not dark
    wide, high, rows = pixels(await page.screenshot())
    assert (wide, high) == (width, 900)
    assert len(set(rows)) > 100


async def test_it_asks_nobody_for_anything(tmp_path: Path, page: Page):
    """The page loads itself and nothing else, has no complaint, and its policy stops what would load or run more."""
    path = write(tmp_path, report())
    await page.show(path, width=1280)
    assert page.requests == [path.as_uri()]
    assert page.complaints == []
    tried = await page.value(
        """Promise.all([
          fetch('http://127.0.0.1:9/x').then(() => 'loaded', () => 'stopped'),
          new Promise(done => {
            const one = new Image();
            [one.onload, one.onerror] = [() => done('loaded'), () => done('stopped')];
            one.src = 'http://127.0.0.1:9/x.gif';
          }),
          new Promise(done => {
            document.addEventListener('securitypolicyviolation', event => done(event.effectiveDirective), {once: true});
            const one = document.createElement('script');
            one.textContent = 'window.ran = true';
            document.body.append(one);
          }),
        ])"""
    )
    assert tried[:2] == ["stopped", "stopped"]
    assert await page.value("window.ran === undefined")

    async def has_complained() -> bool:
        await page.value("0")  # the browser tells what it has logged beside its answers
        return sum("Content Security Policy" in complaint for complaint in page.complaints) >= 3

    await eventually(has_complained, what="a complaint of each")
    assert [url for url in page.requests if url not in page.blocked] == [path.as_uri()]


async def test_markup_in_answers_does_nothing(tmp_path: Path, page: Page):
    """What a model writes is read and never run, wherever it stands."""
    evil = "</script><script>window.ran = 1</script><img src=x onerror='window.ran = 1'><a href='javascript:1'>x</a>"
    bad = result(evil, passed=False, text=evil, prompt=evil, tags=(evil,))
    await page.show(write(tmp_path, render_html(run([bad]), run([result(evil, text="fine")]), None)), width=1280)
    assert await page.value("window.ran === undefined")
    assert await page.value("document.querySelectorAll('img, pre a, script').length") == 1
    assert evil in await page.value("document.querySelector('.pair').innerText")
    assert page.complaints == []


async def test_cases_are_filtered(tmp_path: Path, page: Page):
    """By words, by outcome and by tag, and by several of them at once; how many are left is told."""
    await page.show(write(tmp_path, report()), width=1280)
    visible = "[...document.querySelectorAll('.case')].filter(one => one.checkVisibility()).length"
    found = "document.getElementById('found').innerText"
    assert await page.value(visible) == 61
    assert await page.value(found) == "61 cases"
    change = """(id, value) => {
      const one = document.getElementById(id);
      one.value = value;
      one.dispatchEvent(new Event('change'));
    }"""
    await page.value(f"({change})('standing', 'REGRESSED')")
    regressed = await page.value(visible)
    assert 0 < regressed < 20
    assert await page.value(found) == f"{regressed} of 61 cases"
    await page.value(f"({change})('standing', '')")
    names = await page.value("[...document.querySelector('#tag').options].map(one => one.innerText)")
    await page.value(f"({change})('tag', '{names.index('hard') - 1}')")
    assert await page.value(visible) == 12
    await page.value("document.getElementById('search').focus()")
    await page.type("REFUND-0020")
    await eventually_equal(page, visible, 1)


async def test_it_is_used_by_keys_alone(tmp_path: Path, page: Page):
    """Tab comes to a link to the cases first, then to the filter and to each case, which Enter opens and closes."""
    await page.show(write(tmp_path, report()), width=1280)
    await page.press("Tab")
    active = "document.activeElement"
    assert await page.value(f"{active}.innerText") == "Skip to the cases"
    assert await page.value(f"{active}.getBoundingClientRect().left >= 0")
    await page.press("Enter")
    for wanted in ("search", "standing", "tag", "open", "close"):
        await page.press("Tab")
        assert await page.value(f"{active}.id") == wanted
    await page.press("Tab")
    assert await page.value(f"{active}.parentElement.className") == "case"
    assert await page.value(f"getComputedStyle({active}).outlineStyle") == "solid"
    for opened in (False, True):
        await page.press("Enter")
        assert await page.value(f"{active}.parentElement.open") is opened


async def test_what_does_not_fit_is_scrolled_by_keys(tmp_path: Path, page: Page):
    """A text that is longer than its box can be focused, and a short one is no stop on the way."""
    long = result("long", passed=False, text="word\n" * 500)
    await page.show(write(tmp_path, render_html(run([long]), None, None)), width=1280)
    stops = "[...document.querySelectorAll('.case pre')].map(one => [one.ariaLabel, one.tabIndex])"
    await eventually_equal(page, stops, [["Prompt", -1], ["Expected", -1], ["Answer", 0]])


async def test_a_screen_reader_finds_its_way(tmp_path: Path, page: Page):
    """Each table has a caption and heads, each control a name, each section a heading, and drawings are not read."""
    await page.show(write(tmp_path, report()), width=375)
    tree = (await page.call("Accessibility.getFullAXTree"))["nodes"]
    seen = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree if not node.get("ignored")]
    roles = [role for role, _ in seen]
    assert roles.count("heading") >= 6
    assert roles.count("table") >= 3
    assert {"main", "banner", "contentinfo", "status", "rowheader", "columnheader"} <= set(roles)
    named = ("searchbox", "combobox", "button", "table", "heading", "region", "search")
    assert [(role, name) for role, name in seen if role in named and not name.strip()] == []
    assert not {"image", "img", "SvgRoot"} & set(roles)
    assert await page.value("document.documentElement.lang") == "en"


async def test_it_opens_the_case_that_a_link_names(tmp_path: Path, page: Page):
    """The address of one case opens it, so that it can be shown to somebody."""
    path = write(tmp_path, report())
    await page.show(path, width=1280)
    await page.value("location.hash = '#case-30'")
    await eventually_equal(page, "document.getElementById('case-30').open", wanted=True)


async def test_without_scripts_all_of_it_is_there(tmp_path: Path, page: Page):
    """Where scripts are turned off only the filter is missing."""
    await page.call("Emulation.setScriptExecutionDisabled", value=True)
    await page.show(write(tmp_path, report()), width=1280)
    document = (await page.call("DOM.getDocument", depth=-1))["root"]["nodeId"]
    cases = await page.call("DOM.querySelectorAll", nodeId=document, selector="details.case")
    assert len(cases["nodeIds"]) == 61
    bar = await page.call("DOM.querySelectorAll", nodeId=document, selector="form[hidden]")
    assert len(bar["nodeIds"]) == 1


async def test_a_large_run_stays_usable(tmp_path: Path, page: Page):
    """Five thousand cases with long answers are a page that opens, and whose filter answers."""
    text = report(5000, words=400)
    assert len(text.encode()) < 8 * 2**20
    await page.show(write(tmp_path, text), width=375)
    assert await heading(page) == "Worse than the baseline"
    assert await page.value("document.querySelectorAll('.case').length") <= 500
    await page.value("document.getElementById('search').value = 'refund-'")
    await page.value("document.getElementById('search').dispatchEvent(new Event('input'))")
    await eventually_equal(page, "document.getElementById('found').innerText.includes(' of ')", wanted=True)
