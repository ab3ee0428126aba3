"""A file of prompts answered, many at once: python examples/batch_to_jsonl.py PROMPTS.jsonl ANSWERS.jsonl [MODEL]

Each line of PROMPTS has an "id" and a "prompt". Answers are written as they are finished; started again, it goes on
with those that are missing, and a line that a crash has cut off is answered again.
"""

import json
import sys
from pathlib import Path

from rain_decoding import RainDecoder


def whole_lines(file: Path) -> list[str]:
    """The lines of a file that were written to their end; the rest is cut off."""
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    file.write_text(whole, encoding="utf-8")
    return whole.splitlines()


prompts_file, answers_file, *model = sys.argv[1:]
prompts = [json.loads(line) for line in Path(prompts_file).read_text(encoding="utf-8").splitlines()]
answered = {json.loads(line)["id"] for line in whole_lines(Path(answers_file))}
left = [prompt for prompt in prompts if prompt["id"] not in answered]
print(f"{len(answered)} of {len(prompts)} are answered")

with (
    RainDecoder.from_model(*model or ["demo"]) as decoder,
    Path(answers_file).open("a", encoding="utf-8") as file,
):
    for index, completion in decoder.iterate_batch((prompt["prompt"] for prompt in left), max_tokens=80):
        record = {
            "id": left[index]["id"],
            "answer": completion.text,
            "score": completion.score,
            "flagged": completion.flagged,
            "rewinds": completion.usage.rewinds,
        }
        file.write(json.dumps(record) + "\n")
        file.flush()
        print(f"{record['id']}: {completion!r}")
