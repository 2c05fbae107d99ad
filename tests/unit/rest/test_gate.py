"""What every request passes: who makes it, its size, how many there are; keys, certificates and places."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import os
import re
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.http.http_config import HttpConfig
from huaweicloudsdkvpc.v3 import ListPortsRequest
from huaweicloudsdkvpc.v3.vpc_client import VpcClient

from dataplane.control.keys import Keys, KeysError
from dataplane.control.rate import BURST, RATE, WAIT_SECONDS, Rates
from dataplane.control.rest.gate import BODY_BYTES, DRAINED_BYTES, HEAD_BYTES
from dataplane.control.rest.server import ApiOptions, ApiPlaceError, ApiServers
from tests.unit.live.scene import filled

from .served import SECRET, Served, serving

LIST = "/v3/p1/vpc/security-groups"


def test_a_request_that_is_not_signed_is_refused(unchanged: Served) -> None:
    """Over TCP; with the error's form, and the request's number in body and header."""
    answer = unchanged.unsigned("GET", LIST)
    assert (answer.status, answer.code) == (401, "APIGW.0301")
    assert answer.body["request_id"] == answer.headers["x-request-id"]
    assert answer.body["error_msg"] == "Not authenticated: the header authorization is missing."
    assert unchanged.unsigned("DELETE", "/v3/p1/vpc/security-groups/sg").status == 401
    assert unchanged.unsigned("GET", "/nothing").status == 401


def test_over_the_unix_socket_nothing_is_signed(unchanged: Served) -> None:
    """Whoever may open it may do all, in every project."""
    assert unchanged.path.stat().st_mode & 0o777 == 0o600
    assert unchanged.call("GET", "/vpc/security-groups").body["page_info"]["current_count"] == 2
    assert unchanged.call("GET", "/vpc/security-groups", project="p7").body["security_groups"][0]["project_id"] == "p7"


def test_the_document_of_the_api_is_for_everybody(unchanged: Served) -> None:
    document = unchanged.unsigned("GET", "/openapi.json")
    assert document.status == 200
    assert f"{LIST.replace('p1', '{project_id}')}/{{security_group_id}}" in document.body["paths"]
    assert "422" not in str(document.body["paths"])
    page = unchanged.unsigned("GET", "/docs")
    assert page.status == 200
    assert b"openapi.json" in page.body


def test_the_page_of_the_api_loads_nothing_from_elsewhere(unchanged: Served) -> None:
    page = unchanged.unsigned("GET", "/docs").body.decode()
    loaded = re.findall(r"(?:src|href)=\"([^\"]+)\"", page)
    assert len(loaded) == 3
    assert "//" not in "".join(loaded)
    for place in loaded:
        answer = unchanged.unsigned("GET", place)
        assert answer.status == 200
        assert len(answer.body) > 1000 or place.endswith(".png")
    assert unchanged.unsigned("GET", "/docs/static/../../../../etc/passwd").status in (401, 404)
    assert unchanged.unsigned("GET", "/docs/static/%2e%2e/core.py").status == 404
    assert unchanged.unsigned("PUT", loaded[0]).status == 401


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("GET", "/nothing", None, (404, "SYS.0404")),
        ("GET", "/vpc/security-groups/", None, (404, "SYS.0404")),
        ("DELETE", "/vpc/security-group-rules/web/", None, (404, "SYS.0404")),
        ("PATCH", "/vpc/security-groups", None, (405, "SYS.0405")),
        ("POST", "/vpc/security-groups", None, (400, "VPC.9901")),
        ("POST", "/vpc/security-groups", b"{", (400, "VPC.9901")),
        ("POST", "/vpc/security-groups", b"[" * 100_000, (400, "VPC.9901")),
        ("POST", "/vpc/security-groups", [], (400, "VPC.9901")),
        ("POST", "/vpc/security-groups", {"security_group": {"name": "x", "color": "red"}}, (400, "VPC.9901")),
        ("POST", "/vpc/security-groups", {"security_group": {"name": 5}}, (400, "VPC.9901")),
        ("POST", "/vpc/security-groups", {"security_group": {"name": "\ud800"}}, (400, "VPC.9901")),
        ("POST", "/vpc/security-groups", b" " * (BODY_BYTES + 1), (413, "SYS.0413")),
        ("GET", "/vpc/security-groups?limit=x", None, (400, "VPC.9901")),
        (
            "POST",
            "/vpc/security-groups",
            b'{"security_group": {"name": "x"}, "dry_run": true, "dry_run": false}',
            (400, "VPC.9901"),
        ),
        ("POST", "/vpc/security-groups", b'{"security_group": {"name": "x"}, "dry_run": NaN}', (400, "VPC.9901")),
        ("PUT", "/vpc/security-groups/sg", {"security_group": {"name": "<a>"}}, (400, "VPC.9901")),
        ("DELETE", "/vpc/security-groups/a%2Fb", None, (404, "SYS.0404")),
        ("DELETE", "/vpc/security-groups/%00", None, (404, "VPC.9904")),
    ],
)
def test_requests_that_are_not_valid(
    unchanged: Served, method: str, path: str, body: object, expected: tuple[int, str]
) -> None:
    answer = unchanged.call(method, path, body)
    assert (answer.status, answer.code) == expected
    assert answer.body["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/vpc/security-group-rules/web", (202, 2)),
        ("/vpc/address-groups/list/force", (202, 1)),
        ("/dataplane/instances/b", (202, 0)),
        ("/dataplane/shadow", (202, 0)),
        ("/vpc/security-groups/other", (409, None)),
        ("/vpc/address-groups/list", (409, None)),
        ("/vpc/security-group-rules/nothing", (404, None)),
    ],
)
def test_a_dry_run_of_a_deletion(unchanged: Served, path: str, expected: tuple[int, int | None]) -> None:
    """Any body may have dry_run, that of a deletion too, which needs none; nothing else may be in it."""
    answer = unchanged.call("DELETE", path, {"dry_run": True})
    assert (answer.status, answer.body.get("disconnected", {}).get("total")) == expected
    assert unchanged.call("DELETE", path, {"dryrun": True}).status == 400


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/vpc/security-groups", {"security_group": {"name": "x"}}),
        ("PUT", "/vpc/security-groups/sg", {"security_group": {"name": "x"}}),
        ("DELETE", "/vpc/security-group-rules/web", None),
        ("DELETE", "/dataplane/instances/b", None),
    ],
)
def test_what_is_asked_in_the_wrong_place_changes_nothing(
    unchanged: Served, method: str, path: str, body: object
) -> None:
    """A dry run that is asked for in the query is no change."""
    answer = unchanged.call(method, f"{path}?dry_run=true", body)
    assert (answer.status, answer.code) == (400, "VPC.9901")
    assert "dry_run" in answer.body["error_msg"]


def test_a_body_without_end_is_refused(unchanged: Served) -> None:
    """In pieces, whose sum nobody has told before."""
    with socket.create_connection(("127.0.0.1", unchanged.port), 20) as connection:
        head = f"POST {LIST} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        connection.sendall(head)
        piece = b"10000\r\n" + bytes(0x10000) + b"\r\n"
        for _ in range(DRAINED_BYTES // 0x10000 + 1):
            connection.sendall(piece)
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_the_log_says_who_did_what_and_what_that_cut(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    """The key and the address, or the user at the socket; the request's number; refused ones too. No secret."""
    with caplog.at_level(logging.INFO, "dataplane"):
        rule = {"security_group_id": "sg", "direction": "ingress", "protocol": "udp"}
        done = served.call("POST", "/vpc/security-group-rules", {"security_group_rule": rule})
        again = served.call("POST", "/vpc/security-group-rules", {"security_group_rule": rule})
        served.unsigned("DELETE", "/v3/p1/vpc/security-groups/sg", Authorization="x")
    assert (done.status, again.status) == (201, 409)
    added, in_force, refused, unsigned = caplog.records
    assert added.getMessage().startswith(f"rule {done.body['security_group_rule']['id']} added to security group sg")
    told = vars(in_force)
    assert (told["uid"], told["request_id"]) == (os.getuid(), done.body["request_id"])
    assert told["disconnected"] == {"total": 2, "by_instance": {"a": 2}, "revoked": 0}
    assert "already exists" in refused.getMessage()
    assert vars(refused)["request_id"] == again.body["request_id"]
    assert "refused: DELETE /v3/p1/vpc/security-groups/sg: the header Authorization" in unsigned.getMessage()
    assert vars(unsigned)["address"] == "127.0.0.1"
    assert SECRET not in caplog.text


# ---- how many ----


def test_who_asks_in_turn_waits_and_who_floods_is_refused() -> None:
    rates = Rates()
    waits = [rates.wait("a", 0.0) for _ in range(int(BURST + RATE * WAIT_SECONDS) + 1)]
    assert waits[: int(BURST)] == [0.0] * int(BURST)
    assert waits[int(BURST)] == pytest.approx(1 / RATE)
    assert waits[-2] == pytest.approx(WAIT_SECONDS)
    assert waits[-1] is None
    assert rates.wait("b", 0.0) == 0
    assert rates.wait("a", WAIT_SECONDS) == pytest.approx(1 / RATE)
    assert rates.wait("a", 1000.0) == 0
    # A clock that runs backwards gives nobody more.
    assert rates.wait("a", 0.0) == 0


def test_askers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataplane.control.rate._ASKERS_MAX", 3)
    rates = Rates()
    for number in range(10):
        assert rates.wait(str(number), 0.0) == 0
    assert len(rates._buckets) == 3


def test_a_flood_over_the_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """429, and the requests of before are done."""
    monkeypatch.setattr("dataplane.control.rest.gate.Rates", lambda *_: Rates(rate=1e-6, burst=2))
    with serving(tmp_path, filled()) as served:
        statuses = [served.call("GET", "/vpc/quotas").status for _ in range(3)]
    assert statuses == [200, 200, 429]


def test_who_floods_unsigned_waits_and_keeps_nobody_else_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is held back, then it is 429; who has signed is answered at once, from the same address too."""
    monkeypatch.setattr("dataplane.control.rest.gate.STRANGERS_BURST", 2.0)
    monkeypatch.setattr("dataplane.control.rest.gate.STRANGERS_RATE", 1e-6)
    monkeypatch.setattr("dataplane.control.rest.gate.WAIT_SECONDS", 0.2)
    with serving(tmp_path, filled()) as served:
        assert [served.unsigned("GET", LIST).status for _ in range(2)] == [401, 401]
        begun = time.monotonic()
        assert served.unsigned("GET", LIST).code == "SYS.0429"
        assert served.unsigned("GET", "/openapi.json").code == "SYS.0429"
        assert time.monotonic() - begun >= 0.4
        assert {port.id for port in served.sdk().list_ports(ListPortsRequest()).ports} == {"a", "b"}
        assert served.call("GET", "/ports").status == 200


# ---- connections ----


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 300_000 + b"\r\n\r\n", 431, "SYS.0431"),
        (b"GET /" + b"a" * HEAD_BYTES + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431, "SYS.0431"),
        (b"\x16\x03\x01\x00\xff" * 100, 400, "VPC.9901"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", 400, "VPC.9901"),
    ],
)
def test_a_head_that_is_none_or_too_long_is_answered(unchanged: Served, sent: bytes, status: int, code: str) -> None:
    """In the API's form, all of it, and the connection ends without a reset."""
    with socket.create_connection(("127.0.0.1", unchanged.port), 20) as connection:
        connection.sendall(sent)
        with contextlib.closing(http.client.HTTPResponse(connection)) as response:
            response.begin()
            body = json.loads(response.read())
    assert (response.status, body["error_code"]) == (status, code)
    assert body["request_id"] == response.headers["X-Request-Id"]


def test_who_begins_a_request_after_an_answer_and_does_not_end_it_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        serving(tmp_path, filled()) as served,
        socket.create_connection(("127.0.0.1", served.port), 20) as connection,
    ):
        # It is the time since the answer that counts, not that since the connection was made.
        for seconds in (60.0, 0.3):
            monkeypatch.setattr("dataplane.control.rest.connection.SILENT_SECONDS", seconds)
            connection.sendall(b"GET /docs HTTP/1.1\r\nHost: x\r\n\r\n")
            with contextlib.closing(http.client.HTTPResponse(connection)) as response:
                response.begin()
                assert (response.status, bool(response.read())) == (200, True)
        connection.sendall(b"GET /do")
        assert _is_ended(connection)


def test_who_does_not_read_his_answers_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataplane.control.rest.connection.READING_SECONDS", 0.3)
    with serving(tmp_path, filled()) as served, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(60)
        connection.connect(("127.0.0.1", served.port))
        for _ in range(60):
            connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n")
        # Who sends to a connection that is gone is told so.
        assert any(not _takes(connection, b"\r\n") for _ in range(400))


def _takes(connection: socket.socket, data: bytes) -> bool:
    time.sleep(0.05)
    try:
        connection.sendall(data)
    except (ConnectionResetError, BrokenPipeError):
        return False
    return True


def _is_ended(connection: socket.socket) -> bool:
    with contextlib.suppress(ConnectionResetError):
        while connection.recv(1 << 16):
            pass
    return True


def test_one_address_does_not_take_all_places_and_the_silent_give_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The longest open first; who is being served does not give way, and the next is told so."""
    monkeypatch.setattr("dataplane.control.rest.server.CLIENTS_OF_ONE_MAX", 3)
    with contextlib.ExitStack() as stack, serving(tmp_path, filled()) as served:

        def connect(address: str = "127.0.0.1") -> socket.socket:
            made = socket.create_connection(("127.0.0.1", served.port), 20, (address, 0))
            return stack.enter_context(made)

        silent = [connect() for _ in range(3)]
        other = connect("127.0.0.2")
        assert served.unsigned("GET", LIST).status == 401
        assert _is_ended(silent[0])
        for one in (*silent[1:], other):
            one.sendall(b"GET /docs HTTP/1.1\r\nHost: x\r\n\r\n")
            assert one.recv(100).startswith(b"HTTP/1.1 200")
        # Who is known does not give way.
        busy = threading.Event()
        monkeypatch.setattr("dataplane.control.listener._Place.gives_way", property(lambda _: busy.is_set()))
        stack.callback(busy.set)
        asked = [connect() for _ in range(4)]
        full = b"".join(iter(lambda: asked[-1].recv(1000), b""))
        assert full.startswith(b"HTTP/1.1 503 ")
        assert b'"error_code":"SYS.0503"' in full
        busy.set()
        assert served.unsigned("GET", LIST).status == 401


def test_a_handshake_that_does_not_end_gives_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts as a connection before TLS is there."""
    monkeypatch.setattr("dataplane.control.rest.server.CLIENTS_OF_ONE_MAX", 2)
    certificate, key = _certificate(tmp_path)
    with serving(tmp_path, filled(), certificate=certificate, private_key=key) as served:
        silent = [socket.create_connection(("127.0.0.1", served.port), 20) for _ in range(3)]
        assert _is_ended(silent[0])
        context = ssl.create_default_context(cafile=str(certificate))
        connection = http.client.HTTPSConnection("127.0.0.1", served.port, timeout=60, context=context)
        connection.request("GET", "/docs")
        assert connection.getresponse().status == 200
        for one in (connection, *silent):
            one.close()


# ---- keys ----


def keys_file(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "keys.yaml"
    path.write_text(text)
    path.chmod(mode)
    return path


ONE = "- {access_key: AK, secret_key: 12345678, project: p1}"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the list: Input should be a valid list"),
        ("[]", "there is no key in it"),
        ("- {access_key: AK, secret_key: short, project: p1}", "0.secret_key: String should have at least 8"),
        ("- {access_key: AK, secret_key: '12345678'}", "0.project: Field required"),
        ("- {access_key: 'A K', secret_key: '12345678', project: p1}", "0.access_key: String should match"),
        ("- {access_key: AK, secret_key: '12345678', project: p1, admin: true}", "0.admin: Extra inputs"),
        (
            "- {access_key: AK, secret_key: '12345678', project: p1}\n"
            "- {access_key: AK, secret_key: '123456789', project: p1}",
            "access_key AK is there twice",
        ),
        ("- {access_key: AK, secret_key: 'unclosed", "it is no YAML at line 1"),
        (ONE, "0.secret_key: Input should be a valid string"),
    ],
)
def test_keys_that_are_not_valid(tmp_path: Path, text: str, reason: str) -> None:
    """Told in one sentence that has no secret in it."""
    with pytest.raises(KeysError) as caught:
        Keys.load(keys_file(tmp_path, text))
    assert str(caught.value).startswith(f"{tmp_path / 'keys.yaml'}: ")
    assert reason in str(caught.value)
    assert "12345678" not in str(caught.value)
    assert "unclosed" not in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o601])
def test_keys_that_others_may_read_are_refused(tmp_path: Path, mode: int) -> None:
    path = keys_file(tmp_path, ONE.replace("12345678", "'12345678'"), mode)
    with pytest.raises(KeysError, match="others than its owner may read or write it: chmod 600"):
        Keys.load(path)


def test_keys_that_are_no_file(tmp_path: Path) -> None:
    with pytest.raises(KeysError, match=r"cannot be read: No such file .*chmod 600"):
        Keys.load(tmp_path / "none")
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(KeysError, match="no regular file"):
        Keys.load(tmp_path / "pipe")


# ---- places ----


@pytest.mark.parametrize("place", ["8774", "127.0.0.1:", ":8774", "127.0.0.1:99999", "no.such.host.invalid:8774"])
def test_places_that_are_none(tmp_path: Path, place: str) -> None:
    keys = keys_file(tmp_path, ONE.replace("12345678", "'12345678'"))
    with pytest.raises(ApiPlaceError, match=f"--api {place}: ") as caught:
        ApiServers.open(ApiOptions((str(tmp_path / "sock"), place), keys))
    assert caught.value.invalid
    assert not (tmp_path / "sock").exists(), "all places, or none"


def test_a_port_needs_keys_and_a_socket_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataplane.control.rest.server.KEYS_FILE", str(tmp_path / "none"))
    with pytest.raises(ApiPlaceError, match=r"--api HOST:PORT needs keys; a Unix socket needs none"):
        ApiServers.open(ApiOptions(("127.0.0.1:0",)))
    with serving(tmp_path, filled(), keys=None) as served:
        assert served.call("GET", "/ports").status == 200


def _certificate(folder: Path) -> tuple[Path, Path]:
    certificate, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


def test_over_tls(tmp_path: Path) -> None:
    """The SDK, with the certificate's authority; a client that speaks no TLS gets nothing."""
    certificate, key = _certificate(tmp_path)
    with serving(tmp_path, filled(), certificate=certificate, private_key=key) as served:
        config = HttpConfig.get_default_config()
        config.ssl_ca_cert = str(certificate)
        client = (
            VpcClient.new_builder()
            .with_http_config(config)
            .with_credentials(BasicCredentials("AK", SECRET, "p1"))
            .with_endpoint(f"https://127.0.0.1:{served.port}")
            .build()
        )
        served.clients.append(client)
        assert {port.id for port in client.list_ports(ListPortsRequest()).ports} == {"a", "b"}
        assert served.call("GET", "/ports").status == 200, "the Unix socket needs no TLS"
        with socket.create_connection(("127.0.0.1", served.port), 20) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert not plain.recv(100).startswith(b"HTTP")
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection(("127.0.0.1", served.port), 20) as connection, old.wrap_socket(connection) as new:
            assert new.version() in ("TLSv1.2", "TLSv1.3")


@pytest.mark.parametrize(("certificate", "key"), [("cert.pem", None), (None, "key.pem"), ("none.pem", None)])
def test_certificates_that_are_none(tmp_path: Path, certificate: str | None, key: str | None) -> None:
    (tmp_path / "cert.pem").write_text("no certificate")
    options = ApiOptions(
        (str(tmp_path / "sock"),),
        certificate=tmp_path / certificate if certificate else None,
        private_key=tmp_path / key if key else None,
    )
    with pytest.raises(ApiPlaceError, match="--tls-") as caught:
        ApiServers.open(options)
    assert caught.value.invalid


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("none/api.sock", "No such file or directory: make its folder, or name another place"),
        ("file/api.sock", "Not a directory: make its folder, or name another place"),
        (f"{'x' * 108}", "AF_UNIX path too long: 107 bytes are possible: name a shorter one"),
        (f"{'x' * 300}", "107 bytes are possible: name a shorter one"),
        ("file", "exists and is no socket: name another place with --api"),
        ("busy", "another firewall listens at .*: stop it, or name another place with --api"),
    ],
)
def test_a_socket_that_cannot_be_made_is_told_with_what_to_do(tmp_path: Path, place: str, why: str) -> None:
    """Which, why, and what to do, in one sentence; no folder is made for it."""
    (tmp_path / "file").touch()
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(tmp_path / "busy"))
        busy.listen()
        with pytest.raises(ApiPlaceError, match=why) as refused:
            ApiServers.open(ApiOptions((str(tmp_path / place),)))
    assert str(tmp_path / place) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "busy"}
