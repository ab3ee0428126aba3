"""`rain rate`: people rate the answers of a run, blind; `--report` says what they found."""

from __future__ import annotations

import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlencode

import typer

from rain_decoding.cli import options as o
from rain_decoding.cli.output import err, print_json
from rain_decoding.cli.serve import AllowedHosts, listening
from rain_decoding.errors import InputError, MissingDependencyError
from rain_decoding.extras import install

if TYPE_CHECKING:
    from rain_decoding.evaluation.rating.store import RatingStore
    from rain_decoding.evaluation.rating.study import Study
    from rain_decoding.evaluation.rating.tasks import Task


GRACE_SECONDS = 5
"""Time for requests to end after Ctrl-C."""


def rate(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a `rain eval`.")],
    report: Annotated[
        bool, typer.Option("--report", help="Report the ratings instead of opening the page.")
    ] = False,
    rater: Annotated[str | None, typer.Option(help="Name of the rater; default: the page asks.")] = None,
    pairwise: Annotated[
        bool, typer.Option("--pairwise", help="Ask which of two answers is better: the decoder's or plain's.")
    ] = False,
    decoders: Annotated[str | None, typer.Option(help="Comma-separated; default: all of the run.")] = None,
    families: Annotated[str | None, typer.Option(help="Comma-separated; default: all of the run.")] = None,
    questions: Annotated[
        str | None,
        typer.Option(help="Comma-separated, such as harmless,helpful; default: all of each family."),
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="Number of prompts per family; 0: all.")] = 0,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: a free one.")] = 8001,
    allowed_hosts: AllowedHosts = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")
    ] = True,
    json: o.Json = False,
) -> None:
    """Let people rate the answers of a run without knowing which decoder gave them, and save their ratings.

    Raters may stop and resume at any time, and several may rate at once.
    """
    from rain_decoding.evaluation.rating.store import RatingStore
    from rain_decoding.evaluation.rating.study import open_study

    if json and not report:
        raise InputError("--json needs --report", hint="use rain rate DIR --report --json")
    study = open_study(
        folder, decoders=_names(decoders), families=_names(families), questions=_names(questions), limit=limit
    )
    store = RatingStore(folder)
    if report:
        _report(study, store, json)
        return
    from rain_decoding.evaluation.rating.tasks import answer_tasks, pair_tasks

    tasks = pair_tasks(study) if pairwise else answer_tasks(study)
    if not tasks:
        raise InputError(f"no answer differs from the one of {study.reference}", hint="omit --pairwise")
    _serve(tasks, store, rater, host, port, allowed_hosts or (), browser)


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()] if text else []


def _serve(
    tasks: Sequence[Task],
    store: RatingStore,
    rater: str | None,
    host: str,
    port: int,
    allowed_hosts: Sequence[str],
    browser: bool,
) -> None:
    """Serve the page until Ctrl-C."""
    try:
        from rain_decoding.evaluation.rating.app import create_app
        from rain_decoding.server.logs import log_as_json
        from rain_decoding.web.guard import Hosts, is_loopback
        from rain_decoding.web.protocol import Server, uvicorn_config
    except ImportError as error:
        raise MissingDependencyError(f"rain rate needs {error.name}", hint=install("serve")) from error
    from rain_decoding.evaluation.rating.store import checked_rater

    query = f"?{urlencode({'rater': checked_rater(rater)})}" if rater is not None else ""
    with listening(host, port) as opened:
        named = f"[{host}]" if ":" in host else host
        address = f"http://{named}:{opened.getsockname()[1]}/{query}"
        if not is_loopback(host):
            err.print(
                f"[yellow]warning:[/] listening on {host}: anyone who can reach it may read the answers and rate them"
            )
        err.print(f"rating page with {len(tasks)} tasks: {address}", markup=False)
        if browser:
            # A browser in the terminal does not return before it is left.
            threading.Thread(target=webbrowser.open, args=[address], daemon=True).start()
        log_as_json()
        app = create_app(tasks, store, Hosts(host, tuple(allowed_hosts)))
        Server(uvicorn_config(app, timeout_graceful_shutdown=GRACE_SECONDS)).run([opened])


def _report(study: Study, store: RatingStore, json: bool) -> None:
    from rain_decoding.cli.rating_report import print_report
    from rain_decoding.evaluation.rating.agreement import rating_rows

    rows = rating_rows(study, store.values)
    if not any(rows.values()):
        raise InputError(
            "none of the selected answers has been rated", hint="rate them first, with rain rate DIR"
        )
    if json:
        print_json(rows)
        return
    print_report(rows)
