"""Errors as the API tells them: ``{"error_code", "error_msg", "request_id"}``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from dataplane.control.answers import REFUSED
from dataplane.control.policy_control import GenerationError, WaitingError
from dataplane.store import StoreAwayError, StoreChangedError, StorePartError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dataplane.control.service import Service

BAD_VALUE, BAD_ETHERTYPE = "VPC.9901", "VPC.9902"
IN_USE, NOT_FOUND, QUOTA, ADDRESS_GROUP_IN_USE = "VPC.9902", "VPC.9904", "VPC.9905", "VPC.9907"
LAST_GROUP = "VPC.0607"
DRY_RUN = "SYS.0202"
NOT_SIGNED, NOT_ALLOWED, WAITING = "APIGW.0301", "SYS.0403", "SYS.0409"
TOO_SLOW, TOO_LARGE, TOO_MANY, HEAD_TOO_LARGE = "SYS.0408", "SYS.0413", "SYS.0429", "SYS.0431"
FAILED, AWAY, FULL = "SYS.0500", "SYS.0503", "SYS.0503"


class ErrorBody(BaseModel):
    """Why something is not done."""

    error_code: str = Field(examples=[NOT_FOUND])
    error_msg: str
    request_id: str


class ApiError(Exception):
    """A request that is refused: an HTTP status, the API's code, and a sentence."""

    def __init__(self, status: int, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.code = status, code


def bad_value(sentence: str) -> ApiError:
    """A value that is not allowed."""
    return ApiError(400, BAD_VALUE, sentence)


def not_found(thing: str, item_id: str) -> ApiError:
    """Something that is not there, or not this project's."""
    return ApiError(404, NOT_FOUND, f"There is no {thing} {item_id}.")


def in_use(sentence: str) -> ApiError:
    """Something that is still used, or there already."""
    return ApiError(409, IN_USE, sentence)


def quota(sentence: str) -> ApiError:
    """More than is allowed."""
    return ApiError(409, QUOTA, sentence)


def as_api_error(service: Service, error: Exception) -> ApiError:
    """Any exception of the service as the API tells it."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, WaitingError | GenerationError | StoreChangedError | StorePartError):
        return ApiError(409, WAITING, str(error))
    if isinstance(error, StoreAwayError):
        return ApiError(503, AWAY, str(error))
    refusal = service.refusal(error)
    sentence = "; ".join([refusal.error, *(mistake["text"] for mistake in refusal.mistakes[:10])])
    return bad_value(sentence) if refusal.kind == REFUSED else ApiError(500, FAILED, sentence)


def of_validation(found: Sequence[Any]) -> ApiError:
    """What is wrong with the parameters or the body of a request; the first of it."""
    first = found[0]
    if first["type"] == "json_invalid":
        return bad_value(f"The body is no JSON: {first['ctx']['error']}.")
    # The first part of a place says where the value stood: body, query, path.
    place = ".".join(str(part) for part in first["loc"][1:])
    # The validator says of a sentence of ours that it is one about a value.
    said = str(first["msg"]).removeprefix("Value error, ")
    sentence = f"{place}: {said}" if place else said
    return ApiError(400, BAD_ETHERTYPE if first["loc"][-1:] == ("ethertype",) else BAD_VALUE, sentence)


def response(error: ApiError, request_id: str) -> JSONResponse:
    """The answer that tells an error."""
    body = {"error_code": error.code, "error_msg": str(error), "request_id": request_id}
    headers = {"WWW-Authenticate": "SDK-HMAC-SHA256"} if error.status == 401 else None
    return JSONResponse(body, error.status, headers)


#: What each request may be answered with besides success, for the document of the API.
RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorBody, "description": "A value that is not allowed"},
    401: {"model": ErrorBody, "description": "Not signed, or not by a key that is known"},
    403: {"model": ErrorBody, "description": "Not this key's project, or a key that only reads"},
    404: {"model": ErrorBody, "description": "Not found"},
    409: {"model": ErrorBody, "description": "In use, there already, or more than the quota"},
    413: {"model": ErrorBody, "description": "Too long"},
    429: {"model": ErrorBody, "description": "Too many requests"},
    431: {"model": ErrorBody, "description": "Too long a head"},
    500: {"model": ErrorBody, "description": "Could not be carried out"},
    503: {"model": ErrorBody, "description": "The store does not answer"},
}
