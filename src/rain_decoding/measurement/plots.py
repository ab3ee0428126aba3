"""Pictures: made by matplotlib without a display, and checked before the work that they show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rain_decoding.errors import InputError, MissingDependencyError
from rain_decoding.extras import install


def check_plot(path: Path) -> None:
    """Raises before any measurement what drawing to `path` would raise after it."""
    new_figure()
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise InputError(
            f"--plot {path}: unknown image format", hint="use a name that ends in .png, .svg or .pdf"
        )
    if not path.parent.is_dir():
        raise InputError(f"--plot {path}: there is no folder {path.parent}")


def new_figure(**options: Any) -> Any:
    """An empty figure; `options` are those of `matplotlib.figure.Figure`."""
    try:
        from matplotlib.backends import backend_agg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("--plot needs matplotlib", hint=install("bench")) from error
    figure = Figure(**options)
    backend_agg.FigureCanvasAgg(figure)
    return figure
