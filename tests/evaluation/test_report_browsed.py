"""The report in a real browser: where its links lead, and which tables are shaded at an edge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from evaluation.test_report import page
from evaluation.test_summary import plan
from server.playground.browsing import Browser
from server.playground.conftest import browser, chromium

__all__ = ["browser", "chromium", "page", "plan"]

COLOURS = """
    const image = new Image();
    image.src = `data:image/png;base64,${given[0]}`;
    await image.decode();
    const canvas = document.createElement("canvas"), context = canvas.getContext("2d");
    [canvas.width, canvas.height] = [image.width, image.height];
    context.drawImage(image, 0, 0);
    return [0, image.width - 1].map(x => String(context.getImageData(x, image.height / 2, 1, 1).data));
"""
"""The colours in the middle of a picture's left and right edge."""
PAGE = "255,255,255,255"


@pytest.fixture
def opened(browser: Browser, page: Any, tmp_path: Path) -> Browser:
    file = tmp_path / "report.html"
    file.write_text(page(), encoding="utf-8")
    browser.emulate(prefers_color_scheme="light")
    browser.open(file.as_uri())
    return browser


def heading(decoder: str, seed: int) -> str:
    return f"{decoder}, seed {seed}"


def place(opened: Browser) -> str:
    return opened.id("place").text


def test_a_link_shows_the_decoder_beside_the_reference(opened: Browser) -> None:
    opened.all('a[href="#samples?decoder=rain%3Afast&family=f"]')[0].click()
    opened.until(lambda: len(opened.all(".answer")) == 4)
    names = ("plain-sampled", "rain:fast")
    assert opened.texts(".answer h3") == [heading(name, seed) for name in names for seed in (0, 1)]
    assert (opened.id("family").get_attribute("value"), place(opened)) == ("f", "1 of 8")
    assert opened.driver.switch_to.active_element == opened.id("samples-title")
    opened.id("differing").click()
    assert place(opened) == "1 of 2", "prompts 4 and 5; on prompts 1 to 3 only others differ"


def test_the_same_link_leads_there_again(opened: Browser) -> None:
    (link, *_) = opened.all('a[href="#samples?decoder=plain&family=f"]')
    link.click()
    opened.until(lambda: len(opened.all(".answer")) == 4)
    opened.driver.execute_script(
        "decoder.value = ''; decoder.dispatchEvent(new Event('change')); scrollTo(0, 0)"
    )
    assert len(opened.all(".answer")) == 6
    link.click()
    opened.until(lambda: len(opened.all(".answer")) == 4 and opened.driver.execute_script("return scrollY"))


def shaded(opened: Browser) -> list[bool]:
    """Whether the verdict's table has a shade at its left and at its right edge."""
    opened.driver.execute_script("document.querySelector('table').style.visibility = 'hidden'")
    picture = opened.all(".scroll")[0].screenshot_as_base64
    return [colour != PAGE for colour in opened.await_script(COLOURS, picture)]


def test_a_table_is_shaded_where_it_is_cut(opened: Browser) -> None:
    assert shaded(opened) == [False, False]
    opened.resize(400, 900)
    found = []
    for position in (0, 30, 10_000):
        opened.driver.execute_script("document.querySelector('.scroll').scrollLeft = arguments[0]", position)
        found.append(shaded(opened))
    assert found == [[False, True], [True, True], [True, False]]
