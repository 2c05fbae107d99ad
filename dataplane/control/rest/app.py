"""The API as an ASGI application over a service."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from dataplane.control.rest import address_groups, errors, extensions, ports, quotas, rules, security_groups
from dataplane.control.rest.errors import ApiError
from dataplane.control.rest.gate import STATIC, App, Gate, failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi.routing import APIRoute

    from dataplane.control.keys import Keys
    from dataplane.control.rest.extensions import Explain, Question
    from dataplane.control.service import Service

log = logging.getLogger("dataplane")

_ABOUT = (
    "Security groups, rules, address groups and ports as the VPC v3 API has them, for its SDKs; what that does not have"
    " is told as an extension. Requests are signed with an access key (SDK-HMAC-SHA256), but on the Unix socket."
)


def api(service: Service, keys: Keys | None, *, explanation: tuple[Question, Explain] | None = None) -> App:
    """The application, behind its gate. `explanation` is what packets are explained by."""
    app = application(service, explanation=explanation)
    return Gate(cast("App", app), keys)


def application(service: Service, *, explanation: tuple[Question, Explain] | None = None) -> FastAPI:
    """The application without its gate, which knows who asks from the gate alone."""
    from dataplane import __version__

    # Its page loads nothing from the Internet: hosts may have none, and nobody else's script belongs there.
    app = FastAPIOffline(
        title="dataplane",
        version=__version__,
        description=_ABOUT,
        redoc_url=None,
        static_url=STATIC,
        # Nobody is sent to where his own header Host points to.
        redirect_slashes=False,
        responses=errors.RESPONSES,
    )
    every = APIRouter(prefix="/v3/{project_id}", generate_unique_id_function=_name)
    for router in (
        security_groups.routes(service),
        rules.routes(service),
        address_groups.routes(service),
        ports.routes(service),
        quotas.routes(),
        extensions.routes(service, explanation),
    ):
        every.include_router(router)
    app.include_router(every)
    handlers: dict[Any, Callable[..., Response]] = {
        ApiError: lambda request, error: errors.response(error, request.state.request_id),
        RequestValidationError: lambda request, error: _told(request, errors.of_validation(error.errors())),
        HTTPException: lambda request, error: _told(request, _of_http(error)),
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
    app.add_exception_handler(Exception, _failed)
    # FastAPI builds the schemas of its routes when they are first asked for, behind the process's own filters of
    # warnings: not while requests are answered, in whichever thread.
    _say_what_is_answered(app.openapi())
    return app


def _say_what_is_answered(document: dict[str, Any]) -> None:
    """Takes FastAPI's own answer to values that are not allowed out of the API's document: the cloud's is given."""
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)


def _name(route: APIRoute) -> str:
    return route.name


def _told(request: Request, error: ApiError) -> Response:
    return errors.response(error, request.state.request_id)


def _of_http(error: HTTPException) -> ApiError:
    code = errors.BAD_VALUE if error.status_code == 400 else f"SYS.0{error.status_code}"
    return ApiError(error.status_code, code, f"{error.detail}.")


async def _failed(request: Request, error: Exception) -> Response:
    log.error("a request of the API failed", exc_info=error, extra={"request_id": request.state.request_id})
    return failure(request.state.request_id)
