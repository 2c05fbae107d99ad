"""The server of metrics is bounded: who is silent, slow or long costs it little, and nobody else anything."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.request import Request, urlopen

import pytest

from dataplane.live import metrics_server

from .served import scraped

LARGE = b"x" * (32 << 20)


def app(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    """Says what it was asked for."""
    if environ["PATH_INFO"] == "/broken":
        raise RuntimeError("told")
    start("200 OK", [("Content-Type", "text/plain")])
    return [LARGE if environ["PATH_INFO"] == "/large" else f"{environ['PATH_INFO']} {environ['QUERY_STRING']}".encode()]


@pytest.fixture
def port() -> Iterator[int]:
    with scraped(app) as number:
        yield number


def get(port: int, path: str = "/metrics") -> bytes:
    with urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
        assert answer.status == 200
        data: bytes = answer.read()
        return data


@contextlib.contextmanager
def clients(port: int, number: int, said: bytes = b"") -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(socket.create_connection(("127.0.0.1", port), 10)) for _ in range(number)]
        for each in made:
            with contextlib.suppress(OSError):
                each.sendall(said)
        yield made


def served(port: int) -> int:
    """Connections of this port that are open in this process, as descriptors of the server's side."""
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(int(fd)).st_mode):
                with socket.socket(fileno=os.dup(int(fd))) as each:
                    found += (
                        each.family == socket.AF_INET and each.getsockname()[1] == port and bool(each.getpeername())
                    )
    return found


@pytest.mark.parametrize("said", [b"", b"GET /metrics HTTP/1.1\r\nHost: x\r\n"], ids=["silent", "half"])
def test_who_does_not_ask_gives_way(port: int, said: bytes) -> None:
    """Descriptors are bounded, no thread is made, and who asks is answered at once."""
    before = threading.active_count()
    with clients(port, 100, said):
        began = time.monotonic()
        assert get(port, "/metrics?a=b") == b"/metrics a=b"
        assert time.monotonic() - began < 3
        assert served(port) <= metrics_server.CLIENTS_MAX + 1
        assert threading.active_count() <= before + 1


def test_who_does_not_ask_in_time_is_cut_off(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often a byte comes."""
    monkeypatch.setattr(metrics_server, "REQUEST_SECONDS", 0.5)
    with clients(port, 1, b"GET ") as (client,):
        end = time.monotonic() + 60
        with contextlib.suppress(OSError):
            while time.monotonic() < end:
                client.sendall(b"/")
                time.sleep(0.05)
        assert time.monotonic() < end


def test_who_does_not_read_is_cut_off(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server, "ANSWER_SECONDS", 0.5)
    with clients(port, metrics_server.CLIENTS_MAX, b"GET /large HTTP/1.0\r\n\r\n"):
        assert get(port) == b"/metrics "
        end = time.monotonic() + 60
        while served(port) and time.monotonic() < end:
            time.sleep(0.1)
        assert not served(port)


def test_a_head_that_is_too_long_is_refused(port: int) -> None:
    with clients(port, 1, b"GET / HTTP/1.0\r\nX: " + b"x" * 20_000) as (client,):
        assert client.recv(100).startswith(b"HTTP/1.0 431 ")
    assert get(port) == b"/metrics "


@pytest.mark.parametrize(
    "text", [b"\0\0\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\nno\r\n\r\n"]
)
def test_what_is_no_http_is_no_fault(port: int, text: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with clients(port, 1, text) as (client,):
        client.recv(100)
    assert get(port) == b"/metrics "
    assert not caplog.records


def test_a_connection_is_for_one_request(port: int) -> None:
    """Keep-alive is not offered; what is sent behind a request does not cost it its answer."""
    with clients(port, 1, b"GET /one HTTP/1.1\r\nConnection: keep-alive\r\n\r\nGET /two HTTP/1.1\r\n\r\n") as (client,):
        data = b""
        while more := client.recv(4096):
            data += more
    assert data.count(b"HTTP/1.0 200 OK") == 1
    assert data.endswith(b"/one ")


def test_an_answer_that_fails_is_told_in_a_line(port: int, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(OSError, match="500"):
        urlopen(Request(f"http://127.0.0.1:{port}/broken"), timeout=60)
    assert [record.getMessage() for record in caplog.records] == ["metrics could not be read: RuntimeError: told"]
