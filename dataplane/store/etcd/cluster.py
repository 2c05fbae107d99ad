"""An etcd cluster as it is asked: any of its members that answers.

etcd3gw asks one member, over HTTP (etcd's own gateway, /v3/). This goes on to the next member where one is away, signs
in again where a token is over, and says what is wrong in our words. Its watch is not used: it tells neither revisions
nor that they were compacted.
"""

from __future__ import annotations

import base64
import json
import random
import socket
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from etcd3gw import Etcd3Client
from etcd3gw.exceptions import (
    ConnectionFailedError,
    ConnectionTimeoutError,
    Etcd3Exception,
    InternalServerError,
)
from requests import RequestException, Response, Session
from requests.adapters import HTTPAdapter

from dataplane.store import StoreAwayError, StoreError

if TYPE_CHECKING:
    from dataplane.store.etcd.address import Address

#: How long one member is waited for, and all of them for one request.
_MEMBER_SECONDS, _ALL_SECONDS = 2.0, 5.0
#: A peer that is cut off is noticed after about so many seconds, on a stream that says nothing too.
_IDLE, _EACH, _PROBES = 2, 1, 3
_API = "/v3"
#: What is no text is kept apart from it, and can be asked for again.
_BYTES = "surrogateescape"
#: Why a member is not asked at all; one that does not answer for another reason may have done what it was asked.
_NOT_ASKED = frozenset(
    {"connection refused", "no route to host", "its name is not known", "its certificate is not one of the ca"}
)
#: What etcd says when its database is as large as it may be, and what helps.
_FULL = "database space exceeded"
_MAKE_ROOM = (
    "make room there (etcdctl compact --physical REVISION, etcdctl defrag), or let it grow (--quota-backend-bytes), and"
    " then etcdctl alarm disarm"
)
_GRANT = ": let its user read and write there (etcdctl role grant-permission ROLE readwrite --prefix=true {prefix})"
#: gRPC's codes of an answer that says that this member, or the cluster, cannot work now.
_UNAVAILABLE = (1, 4, 14)
_UNAUTHENTICATED = 16


class CompactedError(Exception):
    """The revision that was asked for is not kept any more."""


class StoreFullError(StoreError):
    """What is kept can be read, and nothing new is kept: one sentence that says what to do."""


class Item(NamedTuple):
    """A key with its value; `revision` is that of the change that wrote it last, 0 as `lease`: it hangs on none."""

    key: str
    value: str
    revision: int
    lease: int = 0


class Found(NamedTuple):
    """The keys of a range; `revision` is that of the cluster then, `more` whether there are others behind."""

    items: list[Item]
    revision: int
    more: bool


class Done(NamedTuple):
    """What became of a transaction; `answers` of the requests that were made."""

    succeeded: bool
    revision: int
    answers: list[dict[str, Any]]


class Events(NamedTuple):
    """What a watch tells: keys that were written, with None for one that was deleted, up to a revision."""

    items: list[tuple[str, str | None]]
    revision: int


class _Live(HTTPAdapter):
    """Connections whose peer is looked for when they are idle, since a watch may be idle for hours."""

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        options["socket_options"] = [
            (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE),
            (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _EACH),
            (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES),
        ]
        super().init_poolmanager(*arguments, **options)


class Cluster:
    """The members at an address, asked from one thread; `close` may be called from another."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._session = Session()
        # What the environment says of proxies is about other servers.
        self._session.trust_env = False
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, _Live())
        if address.ca:
            self._session.verify = str(address.ca)
        if address.cert:
            self._session.cert = (str(address.cert), str(address.key)) if address.key else str(address.cert)
        self._clients = [
            Etcd3Client(
                host=host,
                port=port,
                protocol="https" if address.tls else "http",
                timeout=_MEMBER_SECONDS,
                api_path=f"{_API}/",
                session=self._session,
            )
            for host, port in address.members
        ]
        # So that hosts do not all ask the same one.
        random.shuffle(self._clients)
        self._signed_in = address.user is None

    def close(self) -> None:
        """Ends the connections."""
        self._session.close()

    def range(self, key: str, *, prefix: bool = False, after: str = "", revision: int = 0, limit: int = 0) -> Found:
        """A key, or all that begin with it, those behind `after`, as they were at a revision.

        Raises CompactedError, StoreError.
        """
        request: dict[str, Any] = {"key": _coded(after + "\0" if after else key)}
        if prefix:
            request |= {"range_end": _coded(_end(key)), "limit": limit}
        if revision:
            request["revision"] = revision
        return found(self._ask("kv/range", request))

    def transaction(
        self,
        compare: Sequence[dict[str, Any]],
        success: Sequence[dict[str, Any]],
        failure: Sequence[dict[str, Any]] = (),
    ) -> Done:
        """Does all of `success` where all of `compare` holds, else all of `failure`. Raises StoreError."""
        answer = self._ask("kv/txn", {"compare": list(compare), "success": list(success), "failure": list(failure)})
        return Done(bool(answer.get("succeeded")), int(answer["header"]["revision"]), list(answer.get("responses", ())))

    def grant(self, seconds: int) -> int:
        """A new lease. Raises StoreError."""
        return int(self._ask("lease/grant", {"TTL": seconds, "ID": 0})["ID"])

    def keep_alive(self, lease: int) -> bool:
        """Whether a lease is still there; it lasts anew then. Raises StoreError."""
        return int(self._ask("lease/keepalive", {"ID": lease}).get("result", {}).get("TTL", 0)) > 0

    def seconds_left(self, lease: int) -> int:
        """How long a lease lasts unless it is kept alive; below 0: it is over. Raises StoreError."""
        return int(self._ask("lease/timetolive", {"ID": lease}).get("TTL", 0))

    def revoke(self, lease: int) -> None:
        """Ends a lease, and all keys that hang on it. Raises StoreError."""
        self._ask("lease/revoke", {"ID": lease})

    def why_it_takes_nothing(self) -> str | None:
        """Why nothing can be written now, in a sentence; None where it can, or that is not told to this user."""
        try:
            alarms = self._ask("maintenance/alarm", {"action": "GET"}).get("alarms", ())
        except StoreError:
            return None
        if any(alarm.get("alarm") == "NOSPACE" for alarm in alarms):
            return f"{self._address.name}: etcd has no room, and takes nothing that is new: {_MAKE_ROOM}"
        return None

    def leave_member(self) -> None:
        """Asks another member from now on."""
        self._clients.append(self._clients.pop(0))

    def watch(self, prefix: str, revision: int) -> Watch:
        """What happens to the keys of a prefix from a revision on. Raises StoreError."""
        request = {
            "key": _coded(prefix),
            "range_end": _coded(_end(prefix)),
            "start_revision": str(revision),
            "progress_notify": True,
        }
        return Watch(self._attempted("watch", {"create_request": request}, stream=True))

    # ---- one request ----

    def _ask(self, path: str, request: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = self._attempted(path, request)
        return answer

    def _attempted(self, path: str, request: dict[str, Any], *, stream: bool = False) -> Any:
        """The first answer of a member. Raises StoreAwayError where none answers in time."""
        until, reason, is_asked = time.monotonic() + _ALL_SECONDS, "", False
        for attempt in range(2 * len(self._clients)):
            if attempt and time.monotonic() > until:
                break
            client = self._clients[0]
            try:
                if not self._signed_in:
                    self._sign_in(client)
                return self._asked(client, path, request, stream=stream)
            except (ConnectionFailedError, ConnectionTimeoutError, InternalServerError, RequestException) as error:
                reason = _reason(error)
                is_asked |= reason not in _NOT_ASKED
            except Etcd3Exception as error:
                code, reason = _told(error.detail_text)
                if code == _UNAUTHENTICATED and self._address.user and self._signed_in:
                    self._signed_in = False
                    continue
                if "compacted" in reason:
                    raise CompactedError from None
                if _FULL in reason:
                    raise StoreFullError(f"{self._address.name}: etcd has no room: {_MAKE_ROOM}") from None
                if code not in _UNAVAILABLE:
                    more = _GRANT.format(prefix=self._address.prefix) if "permission denied" in reason else ""
                    raise StoreError(f"{self._address.name}: etcd refuses: {reason}{more}") from None
                is_asked = True
            self.leave_member()
        raise StoreAwayError(
            f"{self._address.name}: etcd does not answer: {reason} (do its members run there?)",
            is_done=None if is_asked else False,
        )

    def _asked(self, client: Etcd3Client, path: str, request: dict[str, Any], *, stream: bool) -> Any:
        if not stream:
            return client.post(client.get_url(path), json=request)
        response = self._session.post(
            client.get_url(path),
            json=request,
            stream=True,
            timeout=_MEMBER_SECONDS,
            # A member that has lost the others ends the watch, and another one is asked.
            headers={"Grpc-Metadata-hasleader": "true"},
        )
        if not response.ok:
            with response:
                raise Etcd3Exception(response.text, response.reason)
        # It has begun, and may say nothing for hours.
        response.raw.connection.sock.settimeout(None)
        return response

    def _sign_in(self, client: Etcd3Client) -> None:
        self._session.headers.pop("Authorization", None)
        answer = client.post(
            client.get_url("auth/authenticate"),
            json={"name": self._address.user, "password": self._address.password},
        )
        self._session.headers["Authorization"] = answer["token"]
        self._signed_in = True


class Watch:
    """What happens, as it comes; `close` may be called from any thread."""

    def __init__(self, response: Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[Events]:
        """Whole revisions. Raises CompactedError, StoreError at the end of the stream."""
        waiting = b""
        try:
            for chunk in self._response.iter_content(chunk_size=None):
                *lines, waiting = (waiting + chunk).split(b"\n") if b"\n" in chunk else (waiting + chunk,)
                for line in lines:
                    if line.strip():
                        yield from _events(json.loads(line))
        except (RequestException, OSError, ValueError, AttributeError) as error:
            raise StoreAwayError(f"the watch has ended: {_reason(error)}") from None
        raise StoreAwayError("the watch has ended")

    def close(self) -> None:
        """Ends the stream, for who waits for it too."""
        try:
            with socket.socket(fileno=socket.dup(self._response.raw.fileno())) as connection:
                connection.shutdown(socket.SHUT_RDWR)
        except (OSError, ValueError, AttributeError):
            # It has ended by itself.
            pass


def _events(line: dict[str, Any]) -> Iterator[Events]:
    if "error" in line:
        raise StoreAwayError(f"the watch has ended: {line['error'].get('message', line['error'])}")
    result = line["result"]
    if int(result.get("compact_revision", 0)):
        raise CompactedError
    if result.get("canceled"):
        raise StoreAwayError(f"the watch has ended: {result.get('cancel_reason', 'etcd has ended it')}")
    if result.get("created"):
        return
    items: list[tuple[str, str | None]] = []
    last = 0
    for event in result.get("events", ()):
        item = _item(event["kv"])
        items.append((item.key, None if event.get("type") == "DELETE" else item.value))
        last = max(last, item.revision)
    # Without events it says how far the watch has come.
    yield Events(items, last or int(result["header"]["revision"]))


def found(answer: dict[str, Any]) -> Found:
    """The keys in the answer to a range."""
    header = answer.get("header", {})
    return Found([_item(kv) for kv in answer.get("kvs", ())], int(header.get("revision", 0)), bool(answer.get("more")))


def _item(kv: dict[str, Any]) -> Item:
    place, value = _plain(kv["key"]), _plain(kv.get("value", ""))
    return Item(place, value, int(kv.get("mod_revision", 0)), int(kv.get("lease", 0)))


# ---- parts of a transaction ----


def written_at(key: str, revision: int) -> dict[str, Any]:
    """Holds while a key is as it was written at a revision; 0: while it is not there."""
    return {"key": _coded(key), "target": "MOD", "result": "EQUAL", "mod_revision": str(revision)}


def is_there(key: str) -> dict[str, Any]:
    """Holds while a key is there."""
    return {"key": _coded(key), "target": "MOD", "result": "GREATER", "mod_revision": "0"}


def put(key: str, value: str, lease: int = 0) -> dict[str, Any]:
    """Writes a key, which goes with the lease."""
    return {"request_put": {"key": _coded(key), "value": _coded(value), **({"lease": str(lease)} if lease else {})}}


def delete(key: str, *, prefix: bool = False) -> dict[str, Any]:
    """Deletes a key, or all that begin with it."""
    return {"request_delete_range": {"key": _coded(key), **({"range_end": _coded(_end(key))} if prefix else {})}}


def get(key: str) -> dict[str, Any]:
    """Reads a key."""
    return {"request_range": {"key": _coded(key)}}


def count(prefix: str) -> dict[str, Any]:
    """Counts the keys that begin with a prefix."""
    return {"request_range": {"key": _coded(prefix), "range_end": _coded(_end(prefix)), "count_only": True}}


def _coded(text: str) -> str:
    return base64.b64encode(text.encode(errors=_BYTES)).decode()


def _plain(coded: str) -> str:
    return base64.b64decode(coded).decode(errors=_BYTES)


def _end(prefix: str) -> str:
    """The first key behind all that begin with a prefix, which ends in ASCII."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def _told(detail: str | None) -> tuple[int, str]:
    """The code and the words of an error of etcd."""
    try:
        body = json.loads(detail or "")
        return int(body.get("code", 0)), str(body.get("message") or body.get("error"))
    except (ValueError, AttributeError):
        return 0, " ".join((detail or "it gives no reason").split())[:200]


def _reason(error: Exception) -> str:
    """Why a member does not answer, in few words."""
    text = str(getattr(error, "detail_text", None) or error)
    for mark, words in (
        ("Connection refused", "connection refused"),
        ("timed out", "it takes too long"),
        ("timeout", "it takes too long"),
        ("CERTIFICATE_VERIFY_FAILED", "its certificate is not one of the ca"),
        ("No route to host", "no route to host"),
        ("Name or service not known", "its name is not known"),
        ("etcdserver", "it has lost the other members"),
    ):
        if mark in text:
            return words
    return " ".join(text.split())[:200] or type(error).__name__
