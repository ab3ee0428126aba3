"""The rating page in a real browser: two raters, a reload, a changed mind, a server that goes, and the report."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import pytest
from cli.command import start
from evaluation.rating.rated import answers, write
from selenium.webdriver.common.keys import Keys
from server.playground.browsing import Browser
from server.playground.test_trace_page_browsed import FAINT_TEXTS

from rain_decoding.evaluation.rating.store import RatingStore
from rain_decoding.evaluation.rating.study import open_study
from rain_decoding.evaluation.rating.tasks import Task, answer_tasks, for_rater, pair_tasks

HOSTILE = '</script><img src=x onerror="window.broken = 1"> ' + "long" * 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("rated") / "run", answers())


@contextmanager
def served(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server of the folder as a process, and its address."""
    process = start("rate", folder, "--no-browser", *options, stdout=subprocess.DEVNULL)
    assert process.stderr is not None
    try:
        found = re.search(r"http://\S+", process.stderr.readline())
        assert found, process.stderr.read()
        yield process, found[0]
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with served(folder, "--port", "0") as (_, address):
        yield address


def begin(browser: Browser, address: str, name: str) -> None:
    """Give a name and begin, by keyboard."""
    browser.open(address)
    browser.until(lambda: browser.id("welcome").is_displayed())
    browser.press(name, Keys.ENTER)
    browser.until(lambda: browser.id("rating").is_displayed())


def count(browser: Browser) -> str:
    return browser.id("count").text


def shown(browser: Browser) -> tuple[str, ...]:
    return (browser.id("prompt").text, *browser.texts("#answers .model-text"))


def face(task: Task) -> tuple[str, ...]:
    return (task.prompt, *task.answers)


def rate_all(browser: Browser, tasks: list[Task], keys: str) -> None:
    """Answer every question of these tasks by a key each, in turn."""
    turn = 0
    for task in tasks:
        for _ in task.questions:
            assert shown(browser) == face(task)
            browser.press(keys[turn % len(keys)])
            turn += 1


def test_two_raters_a_reload_and_a_changed_mind(browser: Browser, address: str, folder: Path) -> None:
    tasks = {name: for_rater(answer_tasks(open_study(folder)), name) for name in ("ann", "bob")}
    total = len(tasks["ann"])

    begin(browser, address, "ann")
    assert count(browser) == f"0 of {total} rated"
    rate_all(browser, tasks["ann"][:5], "12s")
    browser.until(lambda: len(RatingStore(folder).values) == sum(len(t.questions) for t in tasks["ann"][:5]))
    browser.driver.refresh()
    browser.until(lambda: browser.id("rating").is_displayed())
    assert count(browser) == f"5 of {total} rated" and shown(browser) == face(tasks["ann"][5])

    last = tasks["ann"][4]
    key = ("ann", last.id, last.questions[-1].name)
    before = RatingStore(folder).values[key]
    browser.press("u")
    assert shown(browser) == face(last) and count(browser) == f"4 of {total} rated"
    browser.until(lambda: key not in RatingStore(folder).values)
    browser.press("1" if before != "yes" else "2")
    browser.until(lambda: RatingStore(folder).values.get(key) == ("yes" if before != "yes" else "no"))

    browser.press(*[Keys.ARROW_LEFT] * 5)
    assert shown(browser) == face(tasks["ann"][0])
    browser.press("2" * len(tasks["ann"][0].questions))
    first = tasks["ann"][0]
    browser.until(
        lambda: all(
            RatingStore(folder).values.get(("ann", first.id, q.name)) == "no" for q in first.questions
        )
    )
    assert shown(browser) == face(tasks["ann"][5]), "on to what is not rated"
    rate_all(browser, tasks["ann"][5:], "1")
    browser.until(lambda: browser.id("end").is_displayed())

    begin(browser, address, "bob")
    rate_all(browser, tasks["bob"], "1112")
    browser.until(lambda: browser.id("end").is_displayed())
    expected = {
        (name, task.id, q.name) for name, own in tasks.items() for task in own for q in task.questions
    }
    browser.until(lambda: RatingStore(folder).values.keys() == expected)
    assert browser.complaints() == []
    asked = [url for url in browser.requests() if not url.startswith(("data:", "about:"))]
    assert asked and all(url.startswith(address) for url in asked)
    assert not [url for url in asked if "balanced" in url or "best-of" in url or "plain" in url]

    with start("rate", folder, "--report", "--json") as report:
        printed, problems = report.communicate(timeout=60)
    rows = json.loads(printed)
    assert report.returncode == 0, problems
    assert {row["rater"] for row in rows["rates"]} == {"ann", "bob", "majority"}
    assert all(row["unrated"] == 0 for row in rows["rates"])
    (kappa,) = [row for row in rows["raters"] if row["measure"] == "kappa" and row["family"] == "all"]
    assert kappa["raters"] == "ann, bob"


def test_what_cannot_be_sent_is_said_kept_and_sent_later(browser: Browser, tmp_path: Path) -> None:
    folder = write(tmp_path / "run", answers())
    with served(folder, "--port", "0", "--rater", "cy") as (process, address):
        port = address.split(":")[2].split("/")[0]
        browser.open(address)
        browser.until(lambda: browser.id("welcome").is_displayed())
        assert browser.id("name").get_attribute("value") == "cy"
        browser.press(Keys.ENTER)
        browser.until(lambda: browser.id("rating").is_displayed())
        browser.press("1")
        browser.until(lambda: len(RatingStore(folder).values) == 1)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    browser.press("1")
    browser.until(lambda: browser.id("alert").is_displayed())
    assert "Not saved yet: The server cannot be reached." in browser.id("alert").text
    browser.press("1", "2")
    assert len(RatingStore(folder).values) == 1
    with served(folder, "--port", port):
        browser.until(lambda: len(RatingStore(folder).values) == 4)
        browser.until(lambda: not browser.id("alert").is_displayed())
    browser.complaints()  # that the server could not be reached


def test_of_two_answers_the_better_is_kept(browser: Browser, tmp_path: Path) -> None:
    folder = write(tmp_path / "run", answers())
    with served(folder, "--port", "0", "--pairwise", "--rater", "dee") as (_, address):
        browser.open(address)
        browser.until(lambda: browser.id("welcome").is_displayed())
        browser.press(Keys.ENTER)
        browser.until(lambda: browser.id("rating").is_displayed())
        preferred = []
        for key, side in (("1", 0), ("3", 1), ("2", None)) * 2:
            _, *both = shown(browser)
            preferred.append(None if side is None else tuple(both[:: 1 if side == 0 else -1]))
            browser.press(key)
        browser.until(lambda: len(RatingStore(folder).values) == 6)
    tasks = {task.id: task for task in pair_tasks(open_study(folder))}
    kept = []
    for (_, task, _), value in RatingStore(folder).values.items():
        order = {"first": tasks[task].answers, "second": tasks[task].answers[::-1], "tie": None}
        kept.append(order[value])
    assert kept == preferred


@pytest.mark.parametrize("pairwise", [False, True])
def test_texts_fit_can_be_read_and_stay_texts(browser: Browser, tmp_path: Path, pairwise: bool) -> None:
    hostile = [{**r, "prompt": HOSTILE, "answer": f"{HOSTILE} {r['answer']}"} for r in answers()]
    folder = write(tmp_path / "run", hostile)
    with served(folder, "--port", "0", *(["--pairwise"] if pairwise else [])) as (_, address):
        for width, scheme in product((390, 1280), ("light", "dark")):
            browser.resize(width, 844)
            browser.emulate(prefers_color_scheme=scheme, prefers_reduced_motion="reduce")
            browser.open(address)
            browser.until(lambda: browser.id("welcome").is_displayed())
            fits(browser, width)
            begin(browser, address, f"eve {width} {scheme}")
            fits(browser, width)
            browser.press("1")
            fits(browser, width)
            assert shown(browser)[0] == HOSTILE and browser.all("img") == []
            assert browser.driver.execute_script("return window.broken") is None
    assert browser.complaints() == []


def fits(browser: Browser, width: int) -> None:
    """Nothing is wider than the screen, and no text too faint."""
    script = "const page = document.documentElement; return [page.scrollWidth - page.clientWidth, innerWidth]"
    assert browser.driver.execute_script(script) == [0, width], "beside a scroll bar, where there is one"
    looked_at, faint = browser.driver.execute_script(FAINT_TEXTS)
    assert looked_at > 5 and faint == []


def test_everything_has_a_name_for_who_cannot_see_it(browser: Browser, address: str) -> None:
    begin(browser, address, "flo")
    nodes = browser.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    named = {
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node.get("ignored")
    }
    roles = {role for role, _ in named}
    assert {"button", "progressbar", "article", "status", "heading", "group"} <= roles
    for role in ("button", "progressbar", "article", "group"):
        assert ("", "") not in named and all(name for kind, name in named if kind == role), role
    assert browser.driver.execute_script("return document.activeElement.id") == "task"
    browser.press("1")
    assert browser.driver.execute_script("return document.activeElement.id") == "task"
