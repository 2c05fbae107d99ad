"""Signatures: what the vendor's signer signs is verified, and nothing else is.

The signer is that of the SDK (huaweicloudsdkcore); a request of its is taken as it goes over the wire.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer
from hypothesis import given
from hypothesis import strategies as st

from dataplane.control.signature import (
    REPEAT_SECONDS,
    SKEW_SECONDS,
    SignatureError,
    SignedRequest,
    Verifier,
    authorization,
    canonical_path,
)

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC).timestamp()
SECRETS = {"AK": "secret of AK", "BK": "secret of BK"}

names = st.text(string.ascii_lowercase + "_", min_size=1, max_size=8)
words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=12)
segments = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"], exclude_characters="/%?#"), max_size=8)


def signed(
    method: str = "POST",
    path: str = "/v3/p1/vpc/security-groups",
    query: list[tuple[str, Any]] | None = None,
    body: str = '{"security_group": {"name": "网络 x"}}',
    at: float = NOW,
    access_key: str = "AK",
    headers: dict[str, str] | None = None,
) -> SignedRequest:
    """A request as the SDK signs and sends it."""
    date = datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ")
    given = {"Content-Type": "application/json", "X-Sdk-Date": date, **(headers or {})}
    request = SdkRequest(
        method=method,
        schema="http",
        host="127.0.0.1:8774",
        resource_path=path,
        uri="",
        query_params=query or [],
        header_params=given,
        body=body,
    )
    Signer(BasicCredentials(access_key, SECRETS[access_key], "p1")).sign(request)
    wire, _, text = request.uri.partition("?")
    return SignedRequest(
        method=method,
        path=wire.encode(),
        query=text.encode(),
        headers=tuple(
            (name.lower().encode(), value.encode("latin-1")) for name, value in request.header_params.items()
        ),
        body=request.body or b"",
    )


def verifier() -> Verifier:
    return Verifier(SECRETS.get)


def changed(request: SignedRequest, **fields: Any) -> SignedRequest:
    values = {name: getattr(request, name) for name in SignedRequest.__dataclass_fields__}
    return SignedRequest(**(values | fields))


def with_header(request: SignedRequest, name: bytes, value: bytes) -> SignedRequest:
    kept = tuple((key, old) for key, old in request.headers if key != name)
    return changed(request, headers=(*kept, (name, value)))


def refusal(request: SignedRequest, now: float = NOW) -> str:
    with pytest.raises(SignatureError) as caught:
        verifier().verify(request, now)
    return str(caught.value)


# ---- what is signed is verified ----


@given(
    st.sampled_from(["GET", "POST", "PUT", "DELETE"]),
    st.lists(segments, max_size=4).map(lambda parts: "/" + "/".join(parts)),
    st.lists(st.tuples(names, words | st.integers(-5, 2000) | st.booleans()), max_size=4, unique_by=lambda q: q[0]),
    st.none() | st.tuples(names, st.lists(words, max_size=4) | st.lists(st.integers(1, 2000), max_size=4)),
    words,
)
def test_what_the_sdk_signs_is_verified(
    method: str, path: str, query: list[tuple[str, Any]], many: tuple[str, list[Any]] | None, body: str
) -> None:
    """Multi-byte, spaces, numbers that are sorted as numbers, empty segments."""
    if many and many[0] not in dict(query):
        query = [*query, many]
    request = signed(method, path, query, body)
    assert verifier().verify(request, NOW).access_key == "AK"


def test_numbers_are_verified_in_the_order_of_the_sdk() -> None:
    request = signed("GET", query=[("priority", [100, 7, 20])], body="")
    assert request.query == b"priority=7&priority=20&priority=100"
    assert verifier().verify(request, NOW)


def test_a_request_that_was_changed_is_refused() -> None:
    """Every byte of path, query, body, a signed header or the signature, taken out, replaced or with another before
    it; and the method."""
    request = signed(query=[("name", "a b"), ("limit", 5)])
    with pytest.raises(SignatureError):
        verifier().verify(changed(request, method="PUT"), NOW)
    for part in ("path", "query", "body", *dict(request.headers)):
        of_header = isinstance(part, bytes)
        old = dict(request.headers)[part] if of_header else getattr(request, part)
        for new in {new for new in _others(old) if _meaning(new) != _meaning(old)}:
            if part == "path" and canonical_path(new) == canonical_path(old):
                continue
            other = with_header(request, part, new) if of_header else changed(request, **{part: new})
            with pytest.raises(SignatureError):
                verifier().verify(other, NOW)


def _others(old: bytes) -> Iterator[bytes]:
    """Bytes with one replaced, taken out or put in."""
    for place in range(len(old) + 1):
        yield old[:place] + old[place + 1 :]
        for byte in range(33, 127):
            yield old[:place] + bytes([byte]) + old[place:]
            yield old[:place] + bytes([byte]) + old[place + 1 :]


def _meaning(text: bytes) -> object:
    """What means the same when it is read: an escape in small letters, a plus, an empty pair; and space around a header
    or behind a comma in it."""
    if b"=" in text and b" " not in text:
        return parse_qsl(text.decode("latin-1"), keep_blank_values=True)
    return text.strip().replace(b", ", b",")


# ---- what is refused ----


@given(st.binary(max_size=200) | st.text("SDK-HMAC256 Access=,;Signdeur0", max_size=80).map(str.encode))
def test_a_header_that_is_no_signature_is_refused_in_words(value: bytes) -> None:
    """Whatever stands there, a SignatureError and nothing else comes of it."""
    request = with_header(signed(), b"authorization", value)
    with pytest.raises(SignatureError):
        authorization(request)


@given(st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=20)), max_size=6), st.binary(max_size=40))
def test_requests_of_any_bytes_are_refused_in_words(headers: list[tuple[bytes, bytes]], data: bytes) -> None:
    request = SignedRequest("GET", data, data, tuple(headers), data)
    assert refusal(request) == "the header authorization is missing"
    valid = dict(signed().headers)
    extra = ((b"authorization", valid[b"authorization"]), (b"x-sdk-date", valid[b"x-sdk-date"]))
    with pytest.raises(SignatureError):
        verifier().verify(changed(request, headers=(*headers, *extra)), NOW)


@pytest.mark.parametrize(
    ("off", "taken"),
    [(0, True), (SKEW_SECONDS, True), (-SKEW_SECONDS, True), (SKEW_SECONDS + 1, False), (-SKEW_SECONDS - 1, False)],
)
def test_a_date_may_be_off_by_15_minutes(off: float, taken: bool) -> None:
    request = signed()
    if taken:
        assert verifier().verify(request, NOW + off)
    else:
        assert "more than 15 minutes" in refusal(request, NOW + off)


def test_the_key_of_another_and_none() -> None:
    """In the same words: nobody learns which keys there are."""
    request = signed()
    parts = dict(request.headers)[b"authorization"]
    other = refusal(with_header(request, b"authorization", parts.replace(b"Access=AK", b"Access=BK")))
    assert other == refusal(with_header(request, b"authorization", parts.replace(b"Access=AK", b"Access=NO")))
    assert other.startswith("the access key is not known, or the signature is not that")


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (
            changed(signed(), headers=(*signed().headers, (b"host", b"127.0.0.1:8774"))),
            "the header host is there 2 times",
        ),
        (with_header(signed(), b"x-sdk-date", b"20260304T250607Z"), "X-Sdk-Date is no time"),
        (with_header(signed(), b"x-sdk-date", b"2026-03-04"), "X-Sdk-Date is no time"),
        (signed(headers={"X-Sdk-Content-Sha256": "UNSIGNED-PAYLOAD"}), "the signature is not that of this request"),
        (signed(headers={"Content-Type": "text/plain"}), "the signature is not that of this request"),
        (
            with_header(
                signed(),
                b"authorization",
                b"SDK-HMAC-SHA256 Access=AK, SignedHeaders=x-sdk-date, Signature=" + b"0" * 64,
            ),
            "lack host or x-sdk-date",
        ),
        (
            with_header(
                signed(),
                b"authorization",
                b"SDK-HMAC-SHA256 Access=AK, SignedHeaders=x-sdk-date;host, Signature=" + b"0" * 64,
            ),
            "not names in their order",
        ),
    ],
)
def test_what_is_not_signed_as_it_should_be(request_: SignedRequest, reason: str) -> None:
    """A body that the signer left out among it."""
    assert reason in refusal(request_)


def test_the_hash_that_a_header_tells_is_that_of_the_body() -> None:
    import hashlib

    body = '{"a": 1}'
    right = hashlib.sha256(body.encode()).hexdigest()
    assert verifier().verify(signed(body=body, headers={"X-Sdk-Content-Sha256": right}), NOW)
    wrong = signed(body="", headers={"X-Sdk-Content-Sha256": "0" * 64})
    assert "is not the SHA-256 of the body" in refusal(wrong)


def test_a_request_that_was_overheard_is_not_made_again() -> None:
    """What changes something is taken again within the seconds in which its author may make the same, then not."""
    one, request, read = verifier(), signed(), signed("GET", body="")
    for later in (0.0, 1.0, REPEAT_SECONDS):
        assert one.verify(request, NOW + later)
    with pytest.raises(SignatureError, match="was made before"):
        one.verify(request, NOW + REPEAT_SECONDS + 0.1)
    # Reading does no harm, and another second makes another signature.
    assert one.verify(read, NOW)
    assert one.verify(read, NOW + 60)
    assert one.verify(signed(at=NOW + 60), NOW + 60)
    # As soon as it may be forgotten, its date is too old.
    assert one.verify(signed(at=NOW + 3 * SKEW_SECONDS), NOW + 3 * SKEW_SECONDS)
    assert len(one._seen) == 1
    with pytest.raises(SignatureError, match="more than 15 minutes"):
        one.verify(request, NOW + 3 * SKEW_SECONDS)


def test_a_clock_that_is_set_makes_no_request_new() -> None:
    """Back, so that it seems to come before itself; or far ahead, behind which all is forgotten, and back again."""
    one, request = verifier(), signed()
    one.verify(request, NOW, 0)
    one.verify(signed(at=NOW + 3600), NOW + 3600, 60)
    for now in (NOW, NOW - SKEW_SECONDS, NOW + SKEW_SECONDS):
        with pytest.raises(SignatureError, match="was made before"):
            one.verify(request, now, 120)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataplane.control.signature.REMEMBERED_MAX", 3)
    one = verifier()
    for number in range(10):
        one.verify(signed(body=str(number)), NOW)
    assert len(one._seen) == 3
