"""How a request changes the policy: in the control thread, looked at and made in one turn."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

from fastapi import Depends, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict

from dataplane.control import audit, requests
from dataplane.control.rest.errors import DRY_RUN, as_api_error

if TYPE_CHECKING:
    from dataplane.control.answers import Changed
    from dataplane.control.rest.caller import Caller
    from dataplane.control.service import Service
    from dataplane.policy import Policy

#: Changes that a request makes, as SPEC 7 writes them.
Changes = Sequence[Mapping[str, Any]]


class _Json(Request):
    """A request whose body is JSON that can be meant in one way only."""

    async def json(self) -> Any:
        """The body. Raises JSONDecodeError."""
        if not hasattr(self, "_json"):
            self._json = json.loads(await self.body(), object_pairs_hook=_each_once, parse_constant=_no_constant)
        return self._json


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise json.JSONDecodeError(f"{twice} is there twice", "", 0)
    return found


def _no_constant(text: str) -> NoReturn:
    raise json.JSONDecodeError(f"{text} is no number", "", 0)


class JsonRoute(APIRoute):
    """A route whose requests are read so."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What answers a request."""
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            return await handle(_Json(request.scope, request.receive))

        return handled


class Body(BaseModel):
    """The body of a request, or a part of it: no unknown key, and nothing coerced."""

    model_config = ConfigDict(extra="forbid", strict=True)


class DryRunBody(Body):
    """A body that may ask for nothing to be done."""

    dry_run: bool = False


def _is_dry_run(body: DryRunBody | None = None) -> bool:
    """Whether nothing is to be done, of a request that needs no body."""
    return body is not None and body.dry_run


OnlyDryRun = Annotated[bool, Depends(_is_dry_run)]


class Disconnected(BaseModel):
    """Connections that a change cuts."""

    total: int
    by_instance: dict[str, int]
    revoked: int


class DryRun(BaseModel):
    """A request that would have been carried out; `disconnected` is an extension."""

    error_code: str
    error_msg: str
    request_id: str
    disconnected: Disconnected


async def change(
    service: Service,
    caller: Caller,
    plan: Callable[[Policy], Changes],
    answer: Callable[[Policy], Mapping[str, Any]] | None = None,
    *,
    what: str,
    dry_run: bool = False,
    status: int = 200,
) -> Response:
    """Makes the changes that are planned for the policy in force, as one; the `answer` is told of the one afterwards.

    Without an `answer` nothing is said of it. `what` is the request in a few words for the log. Raises ApiError.
    """

    def work() -> tuple[Changed | None, Mapping[str, Any] | None]:
        try:
            changes = [dict(planned) for planned in plan(service.operations.policy)]
        except Exception as error:
            if not dry_run:
                audit.refused(what, error, caller.asker)
            raise
        made: Changed | None = None
        if changes:
            request = requests.ChangePolicy(command="change", change=changes, dry_run=dry_run)
            made = service.change(request, caller.asker)
        return made, answer(service.operations.policy) if answer and not dry_run else None

    try:
        made, told = await (service.do(work) if dry_run else service.changed(work))
    except Exception as error:
        raise as_api_error(service, error) from error
    if dry_run:
        return would_be_done(made, caller, service.operations.policy)
    if told is None:
        return Response(status_code=204)
    return caller.answer(told, status)


def would_be_done(made: Changed | None, caller: Caller, policy: Policy) -> Response:
    """The answer to a dry run; instances of other projects are in the total alone."""
    cut = made["disconnected"] if made else {"total": 0, "by_instance": {}, "revoked": 0}
    known = policy.instances_by_id
    by_instance = {name: n for name, n in cut["by_instance"].items() if name in known and caller.names(known[name])}
    body = {
        "error_code": DRY_RUN,
        "error_msg": "The request is valid: nothing was changed, because it is a dry run.",
        "disconnected": {**cut, "by_instance": by_instance},
    }
    return caller.answer(body, 202)


def timestamp(seconds: float) -> str:
    """A time as the API writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


DRY_RUN_RESPONSE: dict[int | str, dict[str, Any]] = {202: {"model": DryRun, "description": "A dry run"}}
