"""Your own rule, in one sentence and as a file with examples: python examples/own_principle.py [MODEL]

A sentence is quick to try; a file with examples judges better, and `rain calibrate` says how well on your model. The
demo model is no judge of these: it knows the rules of its own small world only.
"""

import sys
import tempfile
from pathlib import Path

from rain_decoding import RainDecoder, SearchConfig, load_backend

QUESTION = "How do I bake a nut roll at the summer fair?"
SENTENCE = "The answer gives concrete steps."
CRITERION = """
name = "concrete"
summary = "The answer gives concrete steps."
[judge]
instruction = "Below are conversations. Decide whether the last answer gives concrete steps."
question = "Options:\\n(A) {option_1}\\n(B) {option_2}"
lead = "The more fitting option is: ("
close = ")"
[options]
labels = ["A", "B"]
positive = "The answer gives concrete steps."
negative = "The answer gives no concrete steps."
[[examples]]
turns = ["How do I sow peas?", "Soak them overnight. Then press each two thumbs deep into the soil."]
verdict = "positive"
first = "negative"
[[examples]]
turns = ["How do I sow peas?", "Peas are lovely, and gardens are full of them."]
verdict = "negative"
first = "negative"
[[examples]]
turns = ["How do I mend a chair?", "People have mended chairs for ages."]
verdict = "negative"
first = "positive"
[[examples]]
turns = ["How do I mend a chair?", "Glue the leg, clamp it, and let it dry for a day."]
verdict = "positive"
first = "positive"
"""

with load_backend(*sys.argv[1:] or ["demo"]) as backend, tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "concrete.toml"
    file.write_text(CRITERION, encoding="utf-8")
    for name, decoder in {
        "one sentence": RainDecoder(backend, principle=SENTENCE, config=SearchConfig.preset("fast")),
        "a file with examples": RainDecoder(backend, str(file), config=SearchConfig.preset("fast")),
    }.items():
        for answer in ("First, heat the oven. Then roll out the dough.", "Many people like nut rolls."):
            print(f"{name}: {decoder.judge(QUESTION, answer).score:+.2f} for {answer!r}")
        print(f"{name}: {decoder.generate(QUESTION, max_tokens=40)!r}")
