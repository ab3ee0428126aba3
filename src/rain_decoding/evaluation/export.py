"""A run as preference data in the formats of TRL (its documentation, "Dataset formats and types").

The formats are the standard ones (texts) where the model continued texts or plain dialogues, and the conversational
ones (messages) where it was asked through its chat template; stepwise supervision has texts only.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rain_decoding.decoding.trace import TracedNode, read_trace, replay
from rain_decoding.errors import InputError
from rain_decoding.evaluation.runner import KEYS, RECORDS, read_run
from rain_decoding.measurement.records import Record, RecordFile
from rain_decoding.prompting import ASSISTANT_MARKER, SEPARATOR, USER_MARKER

Example = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """A run's records, by the two decoders that the data is made of; `dropped` counts what gives no example."""

    folder: Path
    chosen: str
    rejected: str
    records: Sequence[Record]
    dropped: Counter[str] = field(default_factory=Counter)

    def of(self, decoder: str) -> Iterator[Record]:
        """Answers that were finished and judged by the search's own judge."""
        for record in self.records:
            if record["decoder"] != decoder:
                continue
            if record["finish_reason"] not in ("stop", "length") or not record["answer"].strip():
                self.dropped["unfinished or empty"] += 1
            elif record["score"] is None:
                self.dropped["not scored by the search's judge"] += 1
            else:
                yield record


def open_run(folder: Path, chosen: str | None = None, rejected: str | None = None) -> Source:
    """Read the folder of a `rain eval` for export.

    Args:
        folder: The run's folder.
        chosen: Name of the decoder whose answers are chosen; None: the run's first search.
        rejected: Name of the decoder whose answers are rejected; None: the first plain decoder.

    Returns:
        The run's records with both names.

    Raises:
        InputError: the folder contains no run, or a decoder did not take part in it.
    """
    kinds = {name: decoder["kind"] for name, decoder in read_run(folder)["spec"]["decoders"].items()}
    good, bad = _decoder(kinds, chosen, "rain", "--chosen"), _decoder(kinds, rejected, "plain", "--rejected")
    return Source(folder, good, bad, RecordFile(folder / RECORDS, KEYS).read())


def _decoder(kinds: dict[str, str], name: str | None, kind: str, option: str) -> str:
    """The decoder called `name`; without a name, the first of this kind."""
    found = name or next((decoder for decoder, own in kinds.items() if own == kind), None)
    if found not in kinds:
        raise InputError(
            f"the run has no decoder {name}" if name else f"the run has no {kind} decoder",
            hint=f"set {option} to one of {', '.join(kinds)}",
        )
    return found


def dpo(source: Source) -> Iterator[Example]:
    """Preference: the search's answer chosen, the plain one rejected, where the search's judge prefers the former."""
    if source.chosen == source.rejected:
        raise InputError(
            f"the chosen and the rejected decoder are both {source.chosen}",
            hint="choose two different ones with --chosen and --rejected",
        )
    rejected = {(r["id"], r["seed"]): r for r in source.of(source.rejected)}
    for chosen in source.of(source.chosen):
        other = rejected.get((chosen["id"], chosen["seed"]))
        if other is None:
            source.dropped[f"without an answer by {source.rejected}"] += 1
        elif other["answer"] == chosen["answer"]:
            source.dropped["with the same answer by both"] += 1
        elif chosen["score"] <= other["score"]:
            source.dropped["not preferred by the search's judge"] += 1
        else:
            yield {
                "prompt": prompt(chosen),
                "chosen": completion(chosen),
                "rejected": completion(other),
            }


def sft(source: Source) -> Iterator[Example]:
    """Prompt and completion: the search's answers that its judge calls good."""
    for record in source.of(source.chosen):
        if record["score"] > 0:
            yield {"prompt": prompt(record), "completion": completion(record)}
        else:
            source.dropped["judged bad"] += 1


def kto(source: Source) -> Iterator[Example]:
    """Unpaired preference: answers of both decoders, labelled by whether the search's judge calls them good."""
    for decoder in dict.fromkeys((source.chosen, source.rejected)):
        for record in source.of(decoder):
            yield {
                "prompt": prompt(record),
                "completion": completion(record),
                "label": record["score"] > 0,
            }


def stepwise(source: Source) -> Iterator[Example]:
    """Stepwise supervision: the token sets of the answer, and of every path that the search turned back from.

    A token set is labelled by the mean score of what was judged below it.
    """
    for record in source.of(source.chosen):
        if record["trace"] is None:
            raise InputError(
                f"{source.folder} has no traces of {source.chosen}", hint="repeat rain eval with --traces"
            )
        for path in _paths(replay(read_trace(source.folder / record["trace"]))):
            yield {
                "prompt": _text_prompt(record),
                "completions": [node.text for node in path],
                "labels": [node.value > 0 for node in path],
            }


def examples(source: Source, form: str) -> Iterator[Example]:
    """All examples of one of `FORMATS`, each once: several seeds may give the same answer."""
    seen = set()
    for example in FORMATS[form](source):
        text = json.dumps(example, sort_keys=True)
        if text in seen:
            source.dropped["duplicates"] += 1
        else:
            seen.add(text)
            yield example


FORMATS: dict[str, Callable[[Source], Iterator[Example]]] = {
    "dpo": dpo,
    "sft": sft,
    "kto": kto,
    "stepwise": stepwise,
}


def prompt(record: Record) -> Any:
    """The prompt as the model was asked, as far as the answer depends on the format and not on the model."""
    if record["format"] == "chat":
        return [{"role": "user", "content": record["prompt"]}]
    return _text_prompt(record)


def completion(record: Record) -> Any:
    """The answer, so that prompt and completion together are what the model read and wrote."""
    if record["format"] == "chat":
        return [{"role": "assistant", "content": record["answer"]}]
    return record["answer"] if record["format"] == "text" else f" {record['answer']}"


def _text_prompt(record: Record) -> str:
    if record["format"] == "dialogue":
        return f"{USER_MARKER} {record['prompt']}{SEPARATOR}{ASSISTANT_MARKER}"
    return record["prompt"]


def _paths(root: TracedNode) -> Iterator[list[TracedNode]]:
    """The committed path, and the paths to nodes that were judged bad; without nodes that nothing was judged below."""
    waiting: list[list[TracedNode]] = [[child] for child in root.children if child.evaluations]
    while waiting:
        path = waiting.pop()
        below = [child for child in path[-1].children if child.evaluations and child.text]
        going_on = any(child.committed for child in below)
        if path[-1].rewinds or (path[-1].committed and not going_on):
            yield path
        waiting += [[*path, child] for child in reversed(below)]
