"""The report: one page that asks for nothing, shows what the summary says, and lets no text become markup."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from evaluation.runs import trace
from evaluation.test_summary import LABELS, Aunt, plan, records  # noqa: F401 - a fixture

from rain_decoding.decoding.trace import write_trace
from rain_decoding.evaluation.plan import EvaluationPlan
from rain_decoding.evaluation.report import render
from rain_decoding.evaluation.report.plots import Scale, cost_plot, share_plot
from rain_decoding.evaluation.report.samples import NODES, SHOWN, tree
from rain_decoding.evaluation.summary import summarise

EVIL = '</script><script>document.title = "taken"</script><img src=x onerror=alert(1)>\u2028'
RUN = {"arguments": ["eval", EVIL], "spec": {"code": {"rain-decoding": "1", "git_revision": None}}}


class Page(HTMLParser):
    """Reads a page: its elements, and the text of those that matter here."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = dict(attrs).get("id") or dict(attrs).get("class") or tag

    def handle_data(self, data: str) -> None:
        self.texts[self._open] = self.texts.get(self._open, "") + data


@pytest.fixture
def page(plan: EvaluationPlan, tmp_path: Path) -> Any:  # noqa: F811
    """A function that renders made-up records."""

    def rendered(**changes: Any) -> str:
        answers = {name: [EVIL] * 8 for name in plan.contenders}
        made = [
            {**record, "prompt": EVIL, "score": None, "trace": None, **changes}
            for record in records(plan, LABELS, answers)
        ]
        summary = summarise(made, plan)
        return render(made, plan, summary, RUN, tmp_path)

    return rendered


def test_the_page_needs_nothing_else_and_texts_stay_texts(page: Any) -> None:
    found = Page(page())
    tags = [tag for tag, _ in found.elements]
    assert tags.count("script") == 3 and "img" not in tags and "link" not in tags
    for _, attributes in found.elements:
        assert not attributes.get("src") and (attributes.get("href") or "#").startswith("#")
    assert "url(" not in found.texts["style"] and "@import" not in found.texts["style"]
    samples = json.loads(found.texts["samples"])
    assert len(samples) == 8 and samples[0]["answers"][0]["answer"] == EVIL


def test_a_run_that_was_stopped_has_a_report_of_what_there_is(plan: EvaluationPlan, tmp_path: Path) -> None:  # noqa: F811
    made = [
        {**record, "prompt": "?", "score": None, "trace": None}
        for record in records(plan, LABELS)
        if record["decoder"] == "plain-sampled" and record["id"] != plan.items[0].id
    ]
    summary = summarise(made, plan)
    samples = json.loads(Page(render(made, plan, summary, RUN, tmp_path)).texts["samples"])
    assert sorted(len(sample["answers"]) for sample in samples) == [0] + [2] * 7
    assert summary["verdict"] == []


def test_samples_on_which_decoders_differ_come_first(page: Any) -> None:
    samples = json.loads(Page(page()).texts["samples"])
    differ = [sample["differ"] for sample in samples]
    # Prompts 1 to 5: the labels are not the same for all decoders; 0, 6 and 7: they are.
    assert differ == [True] * 5 + [False] * 3
    assert len(samples) <= SHOWN and {len(sample["answers"]) for sample in samples} == {6}


def test_every_rate_stands_there_with_its_interval_and_what_is_unscored(
    page: Any,
    plan: EvaluationPlan,  # noqa: F811
) -> None:
    text = page()
    for row in summarise(records(plan, LABELS), plan)["rates"]:
        assert f"{row['value']:.1%} ({row['low']:.1%} to {row['high']:.1%})" in text
        assert not row["unscored"] or f"{row['unscored']} of {row['n']} unscored" in text


def test_the_search_judge_as_judge_is_said_in_red(page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 'class="warning"' not in page()
    monkeypatch.setattr(Aunt, "source", "demo")
    assert "not an independent measurement" in Page(page()).texts["warning"]


def test_who_judged_in_the_search_stands_beside_the_decoder(page: Any, plan: EvaluationPlan) -> None:  # noqa: F811
    assert "judged by" not in page()
    assert page(judge="kind (read)").count("judged by kind (read)") == len(plan.contenders)


def test_a_tree_is_what_the_search_saw(tmp_path: Path) -> None:
    write_trace(tmp_path / "trace", trace())
    root = tree(tmp_path / "trace")
    assert root is not None
    good, bad = root["children"]
    assert (good["text"], good["committed"], bad["committed"]) == (" I would", True, False)
    assert (bad["children"][0]["rewinds"], bad["children"][0]["score"]) == (1, -1.0)
    assert bad["hidden"] == 1, "a nap was never looked at"
    assert tree(tmp_path / "missing") is None


def test_a_large_tree_is_cut_and_keeps_the_answer(tmp_path: Path) -> None:
    events = trace()
    children = [{"id": 10 + n, "text": " x", "prior": 0.1, "tokens": []} for n in range(2 * NODES)]
    seen = [{"id": child["id"], "visits": 1, "evaluations": 1, "value": 0.0} for child in children]
    wide = [{"event": "expand", "node": 0, "children": children}, {"event": "backup", "nodes": seen}]
    write_trace(tmp_path / "trace", [events[0], *wide, *events[1:]])
    root = tree(tmp_path / "trace")
    assert root is not None and root["children"][0]["committed"]
    shown = len(root["children"])
    assert shown <= NODES and shown + root["hidden"] == 2 * NODES + 2


def test_plots_put_values_where_they_belong() -> None:
    scale = Scale(1, 100, 0, 200, logarithmic=True)
    assert [scale(value) for value in (1, 10, 100)] == [0, 100, 200]
    plot = share_plot("t", ("x", "y"), [("a", 0, (0.5, 0.25, 0.75), (1.0, 0.9, 1.0))])
    (point,) = plot.points
    assert point.x == pytest.approx((plot.left + plot.right) / 2, abs=0.1) and point.y == plot.top
    assert point.across[0] < point.x < point.across[1] and point.upwards[0] > point.y
    costs = cost_plot(
        "t", ("x", "y"), [("a", 0, (20, 15, 25), (0.5, 0.4, 0.6)), ("b", 1, (900, 1, 1), (1, 1, 1))]
    )
    assert costs is not None
    assert all(costs.left <= x <= costs.right for point in costs.points for x in (point.x, *point.across))
    assert cost_plot("t", ("x", "y"), [("a", 0, (0, 0, 0), (1, 1, 1))]) is None


CHROMIUM = shutil.which("chromium")


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium")
def test_a_real_browser_shows_the_samples(page: Any, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    file = tmp_path / "report.html"
    press = "dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight', bubbles: true}))"
    file.write_text(page().replace("</body>", f"<script>document.body.{press}</script></body>"), "utf-8")
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync"
    )
    command = [
        CHROMIUM,
        *flags.split(),
        f"--user-data-dir={tmp_path / 'profile'}",
        "--dump-dom",
        file.as_uri(),
    ]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert re.search(r'id="place"[^>]*>2 of 8<', shown)
    assert shown.count('class="answer') >= 6 and "<title>taken" not in shown
