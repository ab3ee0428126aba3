"""The report: one page that asks for nothing, shows what the summary says, and lets no text become markup."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from evaluation.runs import trace
from evaluation.test_summary import LABELS, SUITE, Aunt, plan, records  # noqa: F401 - a fixture

from rain_decoding import SearchConfig
from rain_decoding.config import DEFAULT_PRESET
from rain_decoding.decoding.trace import write_trace
from rain_decoding.evaluation.answering import Setting
from rain_decoding.evaluation.contenders import DECODERS, SEARCHES, DecoderKind, contender
from rain_decoding.evaluation.plan import EvaluationPlan
from rain_decoding.evaluation.report import render
from rain_decoding.evaluation.report.explained import explanations
from rain_decoding.evaluation.report.formats import percent
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
        self.links: list[tuple[str, str]] = []
        """Addresses with the texts that lead there."""
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = dict(attrs).get("id") or dict(attrs).get("class") or tag
        if tag == "a":
            self.links.append((dict(attrs)["href"] or "", ""))

    def handle_data(self, data: str) -> None:
        if self._open == "a" and self.links:
            address, text = self.links[-1]
            self.links[-1] = address, text + data
        self.texts[self._open] = self.texts.get(self._open, "") + data

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            self._open = ""

    @property
    def samples(self) -> list[dict[str, Any]]:
        return json.loads(self.texts["samples"])

    def attributes(self, tag: str, name: str) -> list[str | None]:
        """The values of an attribute, where elements of this tag have it."""
        return [
            attributes[name] for found, attributes in self.elements if found == tag and name in attributes
        ]

    def samples_links(self) -> dict[tuple[str, str], list[str]]:
        """By decoder and family the texts of links to their samples."""
        found: dict[tuple[str, str], list[str]] = {}
        for address, text in self.links:
            section, _, query = address.partition("?")
            if section == "#samples":
                asked = parse_qs(query, strict_parsing=True)
                found.setdefault((*asked["decoder"], *asked["family"]), []).append(text.strip())  # type: ignore[arg-type]
        return found


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
    assert len(found.samples) == 8 and found.samples[0]["answers"][0]["answer"] == EVIL


def test_a_run_that_was_stopped_has_a_report_of_what_there_is(plan: EvaluationPlan, tmp_path: Path) -> None:  # noqa: F811
    made = [
        {**record, "prompt": "?", "score": None, "trace": None}
        for record in records(plan, LABELS)
        if record["decoder"] == "plain-sampled" and record["id"] != plan.items[0].id
    ]
    summary = summarise(made, plan)
    found = Page(render(made, plan, summary, RUN, tmp_path))
    assert sorted(len(sample["answers"]) for sample in found.samples) == [0] + [2] * 7
    assert summary["verdict"] == []
    assert set(found.samples_links()) == {("plain-sampled", "f")}, "nobody else has answered"


def test_samples_on_which_decoders_differ_come_first(page: Any) -> None:
    samples = Page(page()).samples
    differ = [len({str(answer["good"]) for answer in sample["answers"]}) > 1 for sample in samples]
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


def test_a_share_leads_to_samples_of_its_decoder_and_family(page: Any, plan: EvaluationPlan) -> None:  # noqa: F811
    found = Page(page())
    summary = summarise(records(plan, LABELS), plan)
    shares = [(row, row) for row in summary["rates"]]
    shares += [(row, row["win_rate"]) for row in summary["differences"] if row["win_rate"]]
    links = found.samples_links()
    for row, share in shares:
        assert percent(share) in links[row["decoder"], row["family"]]
    assert sum(map(len, links.values())) == len(shares), "a share of nothing leads nowhere"
    for decoder, family in links:
        assert decoder in found.attributes("option", "value")
        assert any(
            sample["family"] == family and decoder in {answer["decoder"] for answer in sample["answers"]}
            for sample in found.samples
        )


def test_every_other_link_has_a_target(page: Any) -> None:
    found = Page(page())
    targets = {attributes["id"] for _, attributes in found.elements if attributes.get("id")}
    assert {address[1:] for address, _ in found.links if not address.startswith("#samples?")} <= targets


def test_no_link_leads_to_samples_that_are_not_in_the_page(
    plan: EvaluationPlan,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    families = tuple(replace(SUITE.families[0], name=name) for name in ("f & g", "h"))
    items = [replace(item, family=families[place % 2].name) for place, item in enumerate(plan.items)]
    two = replace(plan, suite=replace(SUITE, families=families), items=tuple(items))
    made = [{**record, "prompt": "?", "score": None, "trace": None} for record in records(two, LABELS)]
    monkeypatch.setattr("rain_decoding.evaluation.report.samples.SHOWN", 1)
    found = Page(render(made, two, summarise(made, two), RUN, tmp_path))
    (shown,) = found.samples
    assert set(found.samples_links()) == {(name, shown["family"]) for name in plan.contenders}


def test_the_title_says_what_the_page_is(page: Any) -> None:
    texts = Page(page()).texts
    assert texts["title"].startswith("RAIN on the demo model: suite s")
    assert texts["h1"].startswith("RAIN on the demo model: suite s")


def test_every_decoder_is_explained_below_the_table_and_at_its_rows(page: Any, plan: EvaluationPlan) -> None:  # noqa: F811
    text = page()
    found = Page(text)
    for name, explanation in explanations(plan).items():
        assert re.search(f">{re.escape(name)}</dt><dd>{re.escape(escape(explanation))}.</dd>", text)
    assert set(found.attributes("th", "title")) == set(explanations(plan).values())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("plain", "Ordinary decoding; nothing is judged. Greedy: always the most probable token"),
        ("best-of-16", "The best judged of 16 sampled answers"),
        ("rain", "Preset balanced"),
        ("rain:fast", f"RAIN: {SEARCHES['verify-first']}. Preset fast"),
        (
            "rain:paper-hh@candidates=5@judge=ask@flips=0.2@votes=soft",
            f"RAIN: {SEARCHES['paper']}. Preset paper-hh, with candidates=5, votes=soft. Its judge: ask. "
            "20% of the verdicts in the search are flipped",
        ),
        ("rain-oracle", "RAIN with the demo world's oracle as judge: "),
    ],
)
def test_an_explanation_says_what_a_name_says(name: str, said: str, plan: EvaluationPlan) -> None:  # noqa: F811
    named = {name: contender(name, SearchConfig.preset(DEFAULT_PRESET))}
    assert said in explanations(replace(plan, contenders=named))[name]


def test_an_explanation_says_what_the_run_sets(plan: EvaluationPlan) -> None:  # noqa: F811
    found = explanations(replace(plan, setting=Setting(judge="read", temperature=0.7)))
    assert "drawn at temperature 0.7" in found["plain"] and "Greedy" not in found["plain"]
    assert "0.7" not in found["plain-sampled"]
    assert [name for name, text in found.items() if "Its judge: read" in text] == ["rain:fast"]


def test_every_kind_of_decoder_has_a_summary_of_its_own() -> None:
    kinds = [*DECODERS.own.values(), DecoderKind("added", DECODERS["plain"].make)]
    assert len({kind.summary for kind in kinds}) == len(kinds)


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
