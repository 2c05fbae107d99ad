"""What `dataplane run --api` and `dataplane api` have in common: where the API is served, and by which keys."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dataplane.cli.output import say
from dataplane.installation import how_to_install

if TYPE_CHECKING:
    from dataplane.control.rest.extensions import Explain, Question
    from dataplane.control.rest.server import ApiOptions

_EXIT_USAGE = 2


def api_options(
    places: Sequence[str],
    keys: Path | None,
    certificate: Path | None,
    private_key: Path | None,
    group: str | None = None,
    *,
    option: str = "--api",
) -> ApiOptions:
    """Where the API is served. Ends the program where what it needs is not installed."""
    try:
        # All of it, before anything is served.
        import dataplane.control.rest.app  # noqa: F401
        from dataplane.control.rest.server import ApiOptions
    except ModuleNotFoundError as error:
        say(f"{error.name} is not installed: {how_to_install('api')} brings what {option} needs", err=True)
        raise typer.Exit(_EXIT_USAGE) from None
    return ApiOptions(tuple(places), keys, certificate, private_key, group, option)


def api_explanation() -> tuple[Question, Explain]:
    """What packets are explained by."""
    from dataplane.insight.running_firewall import answer_of, question_of

    return question_of, answer_of
