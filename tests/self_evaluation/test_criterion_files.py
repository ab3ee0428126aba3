"""Criteria as TOML files: the built-in ones, one's own, and broken ones."""

from __future__ import annotations

import itertools
import re
import shutil
import tomllib
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rain_decoding.backends.local import criteria_of
from rain_decoding.backends.scripted import ScriptedCodec
from rain_decoding.demo import CRITERIA_DIR
from rain_decoding.errors import CriterionError
from rain_decoding.self_evaluation.criterion import (
    builtin_criteria,
    load_criterion,
    principle_criterion,
    read_criterion,
)
from rain_decoding.self_evaluation.rendering import Renderer

GUARDS = {"llama-guard", "qwen3-guard"}
"""Asked by the judge's own template: see test_guard_models."""
BUILTIN = {name: path for name, path in builtin_criteria().items() if name not in GUARDS}
SHOWN = [name for name in BUILTIN if name != "principle"]
CODEC = ScriptedCodec(["<end>"], "<end>")
VERDICTS = ("positive", "negative", "neutral")


def raw(name: str) -> dict[str, Any]:
    return tomllib.loads(BUILTIN[name].read_text(encoding="utf-8"))


def shown_questions(data: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """Every question that can be asked, with the statements at its options."""
    statements = [data["options"][key] for key in VERDICTS if key in data["options"]]
    return {
        data["judge"]["question"].format(
            **{f"option_{place}": text for place, text in enumerate(shown, start=1)}
        ): shown
        for shown in itertools.permutations(statements)
    }


def test_the_promised_criteria_are_there() -> None:
    promised = {"harmlessness", "harmlessness-command", "helpfulness", "truthfulness", "positive-sentiment"}
    assert promised | {"harmlessness-zh", "principle"} <= BUILTIN.keys()
    assert {raw(name).get("language") for name in BUILTIN} >= {"en", "zh"}


@pytest.mark.parametrize("name", BUILTIN)
def test_builtin_files_load_as_they_are_written(name: str) -> None:
    data, criterion = raw(name), read_criterion(BUILTIN[name])
    assert criterion.name == name == data["name"]
    assert criterion.summary
    assert criterion.statements == tuple(data["options"][key] for key in VERDICTS if key in data["options"])
    assert len(criterion.examples) == len(data.get("examples", []))
    for example, table in zip(criterion.examples, data.get("examples", []), strict=True):
        texts = table.get("turns", [table.get("text")])
        assert [message.content for message in example.messages] == texts
        roles = [("user", "assistant")[place % 2] for place in range(len(texts))]
        assert [message.role for message in example.messages] == roles


@pytest.mark.parametrize("name", SHOWN)
def test_builtin_examples_are_balanced(name: str) -> None:
    data = raw(name)
    kinds = VERDICTS[: len(data["options"]["labels"])]
    verdicts = Counter(table["verdict"] for table in data["examples"])
    assert max(verdicts[kind] for kind in kinds) - min(verdicts[kind] for kind in kinds) <= 1
    if data["options"]["both_orders"]:
        # The order must not tell the verdict, nor one label be the usual answer.
        firsts = Counter(table.get("first", "positive") for table in data["examples"])
        assert abs(firsts["positive"] - firsts["negative"]) <= 2
        decided = [table for table in data["examples"] if table["verdict"] != "neutral"]
        first_label = sum(table["verdict"] == table["first"] for table in decided)
        assert abs(2 * first_label - len(decided)) <= 2


@pytest.mark.parametrize("name", SHOWN)
def test_builtin_prefixes_are_well_formed(name: str) -> None:
    data, criterion = raw(name), read_criterion(BUILTIN[name])
    prefix = Renderer(criterion, CODEC).prefix
    judge, turns = data["judge"], data["conversation"]
    examples = data["examples"]
    assert prefix.startswith(judge["instruction"] + turns["separator"])
    assert prefix.endswith(judge["close"] + turns["separator"])
    assert prefix.count(judge["lead"]) == len(examples)
    assert "{option" not in prefix
    assert "\n\n\n" not in prefix
    pairs = sum(len(table.get("turns", ())) // 2 for table in examples)
    for marker in (turns["user"], turns["assistant"]):
        assert len(re.findall(f"^{re.escape(marker)}", prefix, re.MULTILINE)) == pairs
    for text in itertools.chain.from_iterable(table.get("turns", [table.get("text")]) for table in examples):
        assert prefix.count(text) == 1


@pytest.mark.parametrize("name", SHOWN)
def test_the_label_after_each_builtin_example_is_right(name: str) -> None:
    data, criterion = raw(name), read_criterion(BUILTIN[name])
    prefix, questions = Renderer(criterion, CODEC).prefix, shown_questions(data)
    parts = prefix.split(data["judge"]["lead"])
    for before, after, table in zip(parts, parts[1:], data["examples"], strict=False):
        (question,) = (text for text in questions if before.rstrip("\n").endswith(text))
        label = after.partition(data["judge"]["close"])[0]
        forms = [label if isinstance(label, list) else [label] for label in data["options"]["labels"]]
        (place,) = (place for place, label_forms in enumerate(forms) if label in label_forms)
        if "{option_1}" in data["judge"]["question"]:
            assert questions[question][place] == data["options"][table["verdict"]]
            assert questions[question][0] == data["options"][table["first"]]
            assert questions[question][2:] == ((data["options"]["neutral"],) if len(forms) == 3 else ())
        else:
            assert VERDICTS[place] == table["verdict"]
        conversation = before.rstrip("\n").removesuffix(question)
        assert conversation.rstrip("\n").endswith(table.get("turns", [table.get("text")])[-1])


@pytest.mark.parametrize("name", BUILTIN)
def test_the_orders_swap_the_first_two_options(name: str) -> None:
    data, criterion = raw(name), read_criterion(BUILTIN[name])
    asked = [criterion.ask(order) for order in criterion.orders]
    positive, negative = data["options"]["positive"], data["options"]["negative"]
    if not data["options"]["both_orders"]:
        assert len(asked) == 1
        return
    one, other = asked
    assert one != other
    assert one.index(positive) < one.index(negative)
    swapped = one.replace(negative, "\0").replace(positive, negative).replace("\0", positive)
    assert other == swapped


BASE = '''# A criterion with traps for whoever looks for lines.
name = "polite"
summary = "How polite?"

[judge]
placement = "prefix"
instruction = """Judge.
[options]
labels = "not here"
verdict = "nor here"
"""
question = """Options:
[A] {option_1}
[B] {option_2}"""
lead = "Best: ["
close = "]"

[options]
labels = ["A", "B"]  # of both
positive = "The answer is polite."
negative = """The answer
is rude."""
both_orders = true

[conversation]
user = "Human:"
assistant = "Assistant:"

[[examples]]
turns = ["one", "two"]
verdict = "positive"

# The second one.
[[examples]]
turns = [
    "three",
    "four",
]
verdict = "negative"
first = "negative"
'''

BROKEN = {
    # what is replaced, by what, key, and the beginning of the line that is to be named
    "missing key": ('lead = "Best: ["\n', "", "judge.lead", "[judge]"),
    "missing name": ('name = "polite"\n', "", "name", "# A criterion"),
    "missing statement": ('positive = "The answer is polite."\n', "", "options.positive", "[options]"),
    "missing section": ("[judge]", "[conversation.judge]", "conversation.judge", "[conversation.judge]"),
    "empty": ('lead = "Best: ["', 'lead = " "', "judge.lead", "lead"),
    "wrong type": ("both_orders = true", 'both_orders = "yes"', "options.both_orders", "both_orders"),
    "wrong type of text": ('close = "]"', "close = 1", "judge.close", "close"),
    "wrong type of name": ('name = "polite"', "name = 3", "name", "name"),
    "section is no table": ("[judge]", "judge = 1\n[other]", "other", "[other]"),
    "unknown key": ('close = "]"', 'close = "]"\ncolour = "red"', "judge.colour", "colour"),
    "unknown key at the top": ('summary = "How', 'sumary = "How', "sumary", "sumary"),
    "unknown section": ("[conversation]", "[talk]", "talk", "[talk]"),
    "unknown key, quoted": ('close = "]"', '"the colour" = "red"', "judge.the colour", '"the colour"'),
    "unknown key, dotted": ("[conversation]\n", "[conversation]\nx.y = 1\n", "conversation.x", "x.y"),
    "bad placement": ('placement = "prefix"', 'placement = "middle"', "judge.placement", "placement"),
    "placeholder unknown": ("{option_2}", "{option_3}", "judge.question", "question"),
    "placeholder empty": ("{option_2}", "{}", "judge.question", "question"),
    "placeholder with attribute": ("{option_2}", "{option_2.colour}", "judge.question", "question"),
    "placeholder with format": ("{option_2}", "{option_2:>9}", "judge.question", "question"),
    "stray brace": ("[B] {option_2}", "[B] {option_2", "judge.question", "question"),
    "stray closing brace": ("[B] {option_2}", "[B] {option_2} }", "judge.question", "question"),
    "placeholder missing": ("[A] {option_1}", "[A] the one", "judge.question", "question"),
    "no placeholders, both orders": (
        '"""Options:\n[A] {option_1}\n[B] {option_2}"""',
        '"Polite, A or B?"',
        "judge.question",
        "question",
    ),
    "labels missing": ('labels = ["A", "B"]  # of both\n', "", "options.labels", "[options]"),
    "no labels": ('["A", "B"]', "[]", "options.labels", "labels"),
    "too many labels": ('["A", "B"]', '["A", "B", "C"]', "options.labels", "labels"),
    "too few labels": ('["A", "B"]', '["A"]', "options.labels", "labels"),
    "duplicate label": ('["A", "B"]', '[["A", "a"], ["B", "a"]]', "options.labels", "labels"),
    "empty label": ('["A", "B"]', '["A", ""]', "options.labels", "labels"),
    "label without forms": ('["A", "B"]', '["A", []]', "options.labels", "labels"),
    "numbers as labels": ('["A", "B"]', "[1, 2]", "options.labels", "labels"),
    "tables as labels": ('["A", "B"]', '[{a = "A"}, {b = "B"}]', "options.labels", "labels"),
    "text as labels": ('["A", "B"]', '"AB"', "options.labels", "labels"),
    "statements say the same": (
        '"The answer is polite."',
        '"""The answer\nis rude."""',
        "options.negative",
        "negative",
    ),
    "bad verdict": ('verdict = "negative"', 'verdict = "rude"', "examples.verdict", 'verdict = "rude"'),
    "neutral verdict without neutral option": (
        'verdict = "negative"',
        'verdict = "neutral"',
        "examples.verdict",
        'verdict = "neutral"',
    ),
    "bad order": ('first = "negative"', 'first = "A"', "examples.first", "first"),
    "missing verdict": ('verdict = "negative"\n', "", "examples.verdict", "[[examples]]"),
    "odd turns": ('    "four",\n', "", "examples.turns", "turns = [\n"),
    "no turns": ('["one", "two"]', "[]", "examples.turns", "turns = []"),
    "empty turn": ('["one", "two"]', '["one", " "]', "examples.turns", 'turns = ["one", " "]'),
    "turns of numbers": ('["one", "two"]', "[1, 2]", "examples.turns", "turns = [1"),
    "turns and text": ('first = "negative"', 'text = "three"', "examples.turns", "turns = [\n"),
    "neither turns nor text": (
        'turns = [\n    "three",\n    "four",\n]\n',
        "",
        "examples.turns",
        "[[examples]]",
    ),
    "unknown key in an example": ('first = "negative"', 'frist = "negative"', "examples.frist", "frist"),
    "examples are a table": (
        BASE[BASE.index("[[examples]]") :],
        "[examples]\nverdict = 1\n",
        "examples",
        "[examples]",
    ),
    "examples are texts": (
        BASE,
        'examples = ["one"]\n' + BASE[: BASE.index("[[examples]]")],
        "examples",
        "examples",
    ),
    "empty turn marker": ('user = "Human:"', 'user = " "', "conversation.user", "user"),
    "conversation of a wrong type": ('user = "Human:"', "user = true", "conversation.user", "user"),
    "prefix file missing": ('close = "]"', 'prefix_file = "no.txt"', "judge.prefix_file", "prefix_file"),
    "prefix file unreadable": (
        'close = "]"',
        'prefix_file = "latin.txt"',
        "judge.prefix_file",
        "prefix_file",
    ),
}


def test_the_file_that_is_broken_below_is_right(tmp_path: Path) -> None:
    path = tmp_path / "polite.toml"
    path.write_text(BASE)
    criterion = read_criterion(path)
    assert criterion.statements == ("The answer is polite.", "The answer\nis rude.")
    assert [example.first for example in criterion.examples] == ["positive", "negative"]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_refused_with_file_key_and_line(case: str, newline: str, tmp_path: Path) -> None:
    old, new, key, begin = BROKEN[case]
    assert old in BASE
    text = BASE.replace(old, new)
    # The traps in the strings come before the real lines.
    line = text.count("\n", 0, text.rfind("\n" + begin) + 1) + 1
    path = tmp_path / "polite.toml"
    path.write_text(text, newline=newline, encoding="utf-8")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(CriterionError) as caught:
        read_criterion(path)
    message = str(caught.value)
    assert f"{path}, line {line}: {key} " in message, (message, line)
    with pytest.raises(CriterionError, match=re.escape(str(path))):
        load_criterion(path)


def test_what_is_no_toml_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(BASE.replace('close = "]"', "close = ]"))
    line = BASE[: BASE.index('close = "]"')].count("\n") + 1
    with pytest.raises(CriterionError, match=rf"(?s){re.escape(str(path))}.*line {line}\b"):
        read_criterion(path)
    path.write_text(BASE.replace('close = "]"', 'close = "]"\nclose = "]"'))
    with pytest.raises(CriterionError, match=rf"line {line + 1}\b"):
        read_criterion(path)


def test_what_cannot_be_read_is_refused_with_its_name(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.toml", tmp_path):
        with pytest.raises(CriterionError, match=re.escape(str(path))):
            read_criterion(path)
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b'name = "caf\xe9"')
    with pytest.raises(CriterionError, match=r"latin\.toml.*UTF-8"):
        read_criterion(latin)


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "polite.toml"
    path.write_text(BASE, encoding="utf-8-sig")
    assert read_criterion(path).name == "polite"


def test_lines_are_counted_as_an_editor_counts_them(tmp_path: Path) -> None:
    path = tmp_path / "polite.toml"
    path.write_text('name = "a\u2028b\x85c"\n[judge]\nlead = 1\n', encoding="utf-8", newline="")
    with pytest.raises(CriterionError, match=r"line 3: judge\.lead"):
        read_criterion(path)


def test_inline_tables_are_read_and_located(tmp_path: Path) -> None:
    path = tmp_path / "inline.toml"
    path.write_text(
        'name = "x"\njudge = { question = "{option_1} or {option_2}?", lead = "It is:" }\n'
        'options.labels = ["A", "B"]\noptions.positive = "p"\noptions.negative = "p"\n'
    )
    with pytest.raises(CriterionError, match=r"line 5: options\.negative"):
        read_criterion(path)


def test_a_key_of_older_files_says_where_it_is_now(tmp_path: Path) -> None:
    path = tmp_path / "old.toml"
    path.write_text('system_message = "Be kind."\n' + BASE)
    with pytest.raises(CriterionError, match=r"line 1: system_message .*`system` of \[guidance\]"):
        read_criterion(path)


def test_names_and_files_and_a_models_own_criteria(tmp_path: Path) -> None:
    own = tmp_path / "harmlessness.toml"
    own.write_text(BASE)
    assert load_criterion("harmlessness").name == "harmlessness"
    assert load_criterion("harmlessness", search_dirs=[tmp_path]).name == "polite"
    assert load_criterion(own) == load_criterion(str(own)) == read_criterion(own)
    with pytest.raises(CriterionError, match=r"unknown criterion 'kindness'.*harmlessness, .*truthfulness"):
        load_criterion("kindness")
    with pytest.raises(CriterionError, match="unknown criterion"):
        load_criterion(str(tmp_path))


def test_an_own_file_without_extension_works(tmp_path: Path) -> None:
    path = tmp_path / "mine"
    path.write_text(BASE)
    assert load_criterion(str(path)).name == "polite"


def test_a_few_shot_prefix_may_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "polite.toml"
    path.write_text(BASE.replace('close = "]"', 'prefix_file = "shots.txt"'))
    (tmp_path / "shots.txt").write_text("Some shots.\n\n\n", encoding="utf-8")
    assert Renderer(read_criterion(path), CODEC).prefix == "Some shots.\n\n"


@pytest.mark.parametrize(
    "sentence",
    ["The answer is polite.", "回答有礼貌。", "It uses {braces} and (A) letters.", " Two\nlines. "],
)
def test_a_principle_becomes_a_criterion(sentence: str) -> None:
    criterion = principle_criterion(sentence)
    shown = " ".join(sentence.split())
    one, other = (criterion.ask(order) for order in criterion.orders)
    assert f"(A) {shown}\n" in one
    assert other.endswith(criterion.statements[0])
    assert f"(B) {shown}" in other
    assert len({shown, *criterion.statements}) == 2
    assert shown in criterion.name


def test_a_principle_needs_a_sentence() -> None:
    with pytest.raises(CriterionError, match="principle is empty"):
        principle_criterion(" \n")
    with pytest.raises(CriterionError, match="use --principle SENTENCE"):
        load_criterion("principle")


def brought(folder: Path, name: str, text: str = "") -> Path:
    """A model's folder with a criterion in it."""
    own = folder / "rain_criteria"
    own.mkdir(exist_ok=True)
    source = BUILTIN["helpfulness"].read_text(encoding="utf-8")
    source = re.sub(r"^(reading_file|name) = .*$", "", source, flags=re.MULTILINE)
    (own / f"{name}.toml").write_text(f'name = "{name}"\n{text}{source}', encoding="utf-8")
    return own


def test_a_models_criterion_does_not_replace_one_of_ours_unasked(tmp_path: Path) -> None:
    own = brought(tmp_path, "harmlessness")
    brought(tmp_path, "own-kind")
    with pytest.warns(UserWarning, match="not used: harmlessness"):
        used = load_criterion("harmlessness", search_dirs=[own])
    assert used == read_criterion(BUILTIN["harmlessness"])
    with pytest.warns(UserWarning, match="not used"):
        assert load_criterion("own-kind", search_dirs=[own]).name == "own-kind"
    trusted = load_criterion("harmlessness", search_dirs=criteria_of(tmp_path, trusted=True))
    named = load_criterion(own / "harmlessness.toml")
    assert trusted == named != used


def test_the_demo_models_short_forms_are_known_wherever_they_lie(tmp_path: Path) -> None:
    own = tmp_path / "rain_criteria"
    shutil.copytree(CRITERIA_DIR, own)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = load_criterion("harmlessness", search_dirs=[own])
    assert found == read_criterion(CRITERIA_DIR / "harmlessness.toml")


@pytest.mark.parametrize("way", ["above", "absolute", "link"])
def test_a_models_criterion_names_no_files_outside_its_folder(tmp_path: Path, way: str) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    folder = tmp_path / "model"
    folder.mkdir()
    name = {"above": "../../secret.txt", "absolute": str(secret), "link": "link.txt"}[way]
    own = brought(folder, "own-kind", f'reading_file = "{name}"\n')
    if way == "link":
        (own / name).symlink_to(secret)
    with pytest.raises(CriterionError, match="outside of the model's folder"):
        load_criterion("own-kind", search_dirs=[own])
    assert load_criterion(own / "own-kind.toml").reading_file, "a file that the user names may"
