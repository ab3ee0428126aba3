"""Modules of a page as one script: it does what the modules do."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from rain_decoding.web.bundle import bundle

MODULES = {
    "main": 'import { twice } from "./maths.js";\nimport { word } from "./words.js";\nconst hidden = 1;\n'
    "console.log(word(), twice(4), hidden);\n",
    "maths": "const hidden = 2;\nexport function twice(x) { return hidden * x; }\n",
    "words": 'import { twice } from "./maths.js";\nconst hidden = "w";\nexport const word = () => hidden + twice(1);\n',
}


def test_each_module_comes_once_behind_what_it_needs() -> None:
    script = bundle(MODULES, "main")
    places = [script.index(f"const module_{name} =") for name in ("maths", "words", "main")]
    assert places == sorted(places) and script.count("const module_maths =") == 1


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_it_does_what_the_modules_do() -> None:
    done = subprocess.run(["node", "-e", bundle(MODULES, "main")], capture_output=True, text=True, check=True)
    assert done.stdout == "w2 8 1\n"


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ('import maths from "./maths.js";', "import maths"),
        ('import "./maths.js";', 'import "./maths.js"'),
        ("export default 3;", "export default"),
        ("export { hidden };", "export { hidden }"),
        ('import { a } from "./nowhere.js";', "main -> nowhere"),
        ('import { a } from "./main.js";', "main -> main"),
    ],
)
def test_other_forms_are_refused(source: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        bundle({**MODULES, "main": source}, "main")
