"""A connection of the API: uvicorn's, which must ask and read in time, and of which is known who is at its other end.

Who sends no whole head of a request within `SILENT_SECONDS`, after an answer too, or does not read an answer within
`READING_SECONDS`, is cut off. What is no HTTP, or has too long a head, is answered in the API's form.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from dataplane.control import audit
from dataplane.control.audit import Asker
from dataplane.control.listener import same_origin
from dataplane.control.rate import Rates
from dataplane.control.rest import errors
from dataplane.control.rest.errors import ApiError
from dataplane.control.rest.gate import HEAD_BYTES, PEER, STRANGER

SILENT_SECONDS = 10.0
READING_SECONDS = 30.0
#: What a client still sends when it is refused is read for so long, or the system would take the answer back.
_LINGER_SECONDS = 1.0

# What uvicorn says of single requests is said by us, within bounds.
_quiet = logging.getLogger("uvicorn.error.requests")
_quiet.setLevel(logging.ERROR)


class Unreadable:
    """Tells the log of requests that nobody can read; no more of an address than one may make others."""

    def __init__(self) -> None:
        self._rates = Rates()

    def tell(self, error: ApiError, asker: Asker) -> None:
        """Logs one."""
        if self._rates.wait(same_origin(asker.address or ""), time.monotonic()) == 0:
            audit.refused("request", error, asker)


class Connection(H11Protocol):
    """A connection; `lost` is called when it has ended."""

    transport: asyncio.Transport

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        lost: Callable[[], None],
        unreadable: Unreadable,
    ) -> None:
        super().__init__(config, server_state, app_state)
        self.logger = _quiet
        self._lost, self._unreadable = lost, unreadable
        self._asking: asyncio.TimerHandle | None = None
        self._reading: asyncio.TimerHandle | None = None
        self._is_refused = False

    @property
    def gives_way(self) -> bool:
        """Whether nothing is being done for it: it has not asked, is answered, or has not signed."""
        return self._is_idle or self._is_refused or bool(self.cycle.scope["state"].get(STRANGER, True))

    @property
    def _is_idle(self) -> bool:
        asked: object = self.cycle
        return asked is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.family == socket.AF_UNIX:
            self.app_state = {**self.app_state, PEER: Asker.at(connection)}
        self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._asking, self._reading):
            if timer:
                timer.cancel()
        super().connection_lost(exc)
        self._lost()

    def data_received(self, data: bytes) -> None:
        if not self._is_refused:
            super().data_received(data)

    def on_response_complete(self) -> None:
        self._expect_request()
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reading = self.loop.call_later(READING_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._reading:
            self._reading.cancel()

    def send_400_response(self, msg: str) -> None:
        """Answers what is no request, or too long a one."""
        # h11 keeps what it could not read.
        if len(self.conn.trailing_data[0]) > HEAD_BYTES:
            error = ApiError(431, errors.HEAD_TOO_LARGE, f"The head is longer than {HEAD_BYTES:,} bytes.")
        else:
            error = ApiError(400, errors.BAD_VALUE, "This is no request of HTTP/1.1.")
        request_id = uuid4().hex
        address = self.client[0] if self.client else None
        self._unreadable.tell(error, Asker(address=address, request_id=request_id))
        answer = errors.response(error, request_id)
        headers = [*answer.raw_headers, (b"x-request-id", request_id.encode()), (b"connection", b"close")]
        for event in (
            h11.Response(status_code=error.status, headers=headers, reason=HTTPStatus(error.status).phrase.encode()),
            h11.Data(data=bytes(answer.body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self._is_refused = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_LINGER_SECONDS, self.transport.abort)

    def _expect_request(self) -> None:
        if self._asking:
            self._asking.cancel()
        self._asking = self.loop.call_later(SILENT_SECONDS, self._end_if_idle)

    def _end_if_idle(self) -> None:
        if self._is_idle:
            self.transport.abort()


def full_answer() -> bytes:
    """What is sent to who finds all places taken."""
    error = ApiError(503, errors.FULL, "All connections that may be open at once are taken: ask again later.")
    answer = errors.response(error, uuid4().hex)
    head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {len(answer.body)}"
    return head.encode() + b"\r\nConnection: close\r\n\r\n" + bytes(answer.body)
