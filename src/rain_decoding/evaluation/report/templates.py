"""The templates of the pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rain_decoding.errors import MissingDependencyError
from rain_decoding.evaluation.report.formats import FORMS, number, percent, points, times
from rain_decoding.extras import install


def template(name: str) -> Any:
    """A template of this folder. Raises `MissingDependencyError` without Jinja2."""
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise MissingDependencyError("the report needs the package jinja2", hint=install("eval")) from error
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "points": points, "number": number, "times": times}
    environment.filters["cell"] = lambda value, form: FORMS[form](value)
    return environment.get_template(name)
