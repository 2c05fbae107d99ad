"""What every request passes before it is looked at: its size, who makes it, how many he makes.

An address that makes many requests which are not signed waits for the answer to each, so that it makes no more than it
has connections, and few a second.

Each answer has the request's number in the header ``X-Request-Id``, by which the log tells it too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from uuid import uuid4

from fastapi.responses import JSONResponse

from dataplane.control import audit
from dataplane.control.audit import Asker
from dataplane.control.keys import ANY_PROJECT, Keys
from dataplane.control.listener import same_origin
from dataplane.control.rate import WAIT_SECONDS, Rates
from dataplane.control.rest import errors
from dataplane.control.rest.caller import Identity
from dataplane.control.rest.errors import NOT_SIGNED, ApiError
from dataplane.control.signature import SignatureError, SignedRequest, Verifier

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY_BYTES = 1 << 20
#: So much of a body that is too long is read and thrown away, so that its sender reads the answer.
DRAINED_BYTES = 16 << 20
#: A body must be there after so long.
BODY_SECONDS = 10.0
#: The first line of a request and its headers, together.
HEAD_BYTES = 65_536
#: Requests a second of one address that are not signed, and how many at once; beyond that each answer is held back.
STRANGERS_RATE, STRANGERS_BURST = 20.0, 200.0
#: Where `connection` puts the process at the other end of a Unix socket.
PEER = "peer"
#: Whether a request is of nobody who is known, so far: its connection gives way to others.
STRANGER = "stranger"
#: Where the scripts and styles of the page `/docs` are.
STATIC = "/docs/static"
#: What anybody may read: it says nothing of the policy. Also what is in `STATIC`.
PUBLIC = ("/openapi.json", "/docs")


class Gate:
    """In front of the application; without `keys` only requests over a Unix socket are let in.

    `clock` is that of the wall, in seconds since 1970; `pace` one that nobody sets.
    """

    def __init__(
        self,
        app: App,
        keys: Keys | None,
        rates: Rates | None = None,
        clock: Callable[[], float] = time.time,
        pace: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app, self._keys = app, keys
        self._verifier = Verifier(keys.secret_of) if keys else None
        self._rates, self._clock, self._pace = rates or Rates(), clock, pace
        self._strangers = Rates(STRANGERS_RATE, STRANGERS_BURST)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] != "http":
            return
        request_id = uuid4().hex
        scope.setdefault("state", {}).update({"request_id": request_id, STRANGER: PEER not in scope["state"]})

        async def numbered(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            _expect_short_head(scope)
            body = await _body(receive)
            await self._let_in(scope, body, request_id)
        except ApiError as error:
            refused = errors.response(error, request_id)
            # What is left of the body would be taken for the next request.
            refused.headers["Connection"] = "close"
            await refused(scope, receive, numbered)
            return
        except _GoneError:
            return
        await self._app(scope, _once(body, receive), numbered)

    async def _let_in(self, scope: Scope, body: bytes, request_id: str) -> None:
        """Finds out who makes a request, and lets him wait for his turn. Raises ApiError."""
        path = scope["path"]
        if scope["method"] == "GET" and (path in PUBLIC or path.startswith(f"{STATIC}/")):
            await self._hold_back(scope)
            return
        try:
            identity = self._identity(scope, body, request_id)
        except ApiError:
            await self._hold_back(scope)
            raise
        scope["state"] |= {"identity": identity, STRANGER: False}
        await self._take_turn(identity.asker)

    def _identity(self, scope: Scope, body: bytes, request_id: str) -> Identity:
        """Who makes a request. Raises ApiError."""
        peer: Asker | None = scope["state"].get(PEER)
        if peer is not None:
            asker = Asker(uid=peer.uid, pid=peer.pid, request_id=request_id)
            return Identity(asker, ANY_PROJECT, read_only=False, sees_all=True)
        address = _address(scope)
        try:
            if self._verifier is None or self._keys is None:
                raise SignatureError("there are no keys here: the API is served on its Unix socket alone")
            request = SignedRequest(
                method=scope["method"],
                path=scope["raw_path"],
                query=scope["query_string"],
                headers=tuple((name.lower(), value) for name, value in scope["headers"]),
                body=body,
            )
            signed = self._verifier.verify(request, self._clock(), self._pace())
            key = self._keys.get(signed.access_key)
            assert key
        except SignatureError as error:
            self._tell(scope, error, Asker(address=address, request_id=request_id))
            raise ApiError(401, NOT_SIGNED, f"Not authenticated: {error}.") from None
        asker = Asker(access_key=key.access_key, address=address, request_id=request_id)
        sees_all = key.project == ANY_PROJECT or self._keys.of_one_project
        return Identity(asker, key.project, key.read_only, sees_all)

    def _tell(self, scope: Scope, error: Exception, asker: Asker) -> None:
        """Logs a request that is not authenticated; not more of them than somebody may make."""
        if self._rates.wait(f"log {same_origin(asker.address or '')}", self._pace()) == 0:
            audit.refused(f"{scope['method']} {scope['path']}", error, asker)

    async def _hold_back(self, scope: Scope) -> None:
        """Lets who has not signed wait for his turn. Raises ApiError where too many wait."""
        if not scope["state"][STRANGER]:
            return
        wait = self._strangers.wait(same_origin(_address(scope) or ""), self._pace())
        await asyncio.sleep(WAIT_SECONDS if wait is None else wait)
        if wait is None:
            raise ApiError(429, errors.TOO_MANY, "Too many requests that are not signed: make fewer a second.")

    async def _take_turn(self, asker: Asker) -> None:
        who = asker.access_key or f"uid {asker.uid}"
        wait = self._rates.wait(who, self._pace())
        if wait is None:
            raise ApiError(429, errors.TOO_MANY, "Too many requests: make fewer a second.")
        if wait:
            await asyncio.sleep(wait)


def _address(scope: Scope) -> str | None:
    """Where a request comes from."""
    return scope["client"][0] if scope.get("client") else None


def _expect_short_head(scope: Scope) -> None:
    """Raises ApiError for a head that is too long, and came all at once."""
    headers = sum(len(name) + len(value) + 4 for name, value in scope["headers"])
    if len(scope["raw_path"]) + len(scope["query_string"]) + headers > HEAD_BYTES:
        raise ApiError(431, errors.HEAD_TOO_LARGE, f"The head is longer than {HEAD_BYTES:,} bytes.")


class _GoneError(Exception):
    """The client went before its request was there."""


async def _body(receive: Receive) -> bytes:
    """The whole body of a request. Raises ApiError for one that is too long, or does not come."""
    body, length = bytearray(), 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise _GoneError
                piece = message.get("body", b"")
                length += len(piece)
                if length <= BODY_BYTES:
                    body += piece
                if length > DRAINED_BYTES or not message.get("more_body"):
                    break
    except TimeoutError:
        raise ApiError(408, errors.TOO_SLOW, f"The body was not there within {BODY_SECONDS:g} seconds.") from None
    if length > BODY_BYTES:
        raise ApiError(413, errors.TOO_LARGE, f"The body is longer than {BODY_BYTES:,} bytes.")
    return bytes(body)


def _once(body: bytes, receive: Receive) -> Receive:
    """What the application receives: the body, and then what comes behind it."""
    is_given = False

    async def given() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return given


def failure(request_id: str) -> JSONResponse:
    """The answer where nobody thought of what happened; the log says more."""
    return errors.response(ApiError(500, errors.FAILED, "The request failed by a fault of dataplane."), request_id)
