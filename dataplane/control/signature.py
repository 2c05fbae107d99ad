"""Signatures of requests with an access key and its secret (SDK-HMAC-SHA256), verified.

What is signed is the canonical request: method, path with each segment percent-encoded and a slash behind it, sorted
query, the signed headers, their names, and the SHA-256 of the body. Nothing here reads a clock or knows a server: a
request is bytes, `now` is in seconds since 1970.

A date is valid for 15 minutes, and the same second makes the same signature. So that a request which somebody has
overheard is not sent again within that time, one that changes something is taken again for `REPEAT_SECONDS` only: its
author makes two that are the same within one second.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn
from urllib.parse import parse_qsl, quote, unquote_to_bytes

ALGORITHM = "SDK-HMAC-SHA256"
#: A date may be off by so much, either way.
SKEW_SECONDS = 15 * 60
REPEAT_SECONDS = 5.0
#: So many signatures are remembered for what they changed; then the oldest are forgotten.
REMEMBERED_MAX = 100_000
HEADERS_MAX = 64
#: Methods that change nothing.
READING = ("GET", "HEAD", "OPTIONS")

_AUTHORIZATION = re.compile(
    rb"SDK-HMAC-SHA256 Access=([\x21-\x2b\x2d-\x7e]{1,128}), ?SignedHeaders=([a-z0-9!#$%&'*+.^_`|~;-]{1,4096}),"
    rb" ?Signature=([0-9a-f]{64})"
)
_DATE = re.compile(rb"\d{8}T\d{6}Z")
#: What the secret of a key that is not known is taken to be, so that its answer takes as long.
_NO_SECRET = b"\0" * 40


class SignatureError(ValueError):
    """A request that is not signed as it should be: a sentence that says why."""


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request as it came: `path` and `query` still percent-encoded, names of headers in lower case."""

    method: str
    path: bytes
    query: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class Authorization:
    """What the header `Authorization` says, and the date that was signed."""

    access_key: str
    signed_headers: tuple[str, ...]
    signature: str
    date: str

    @property
    def seconds(self) -> float:
        """The date in seconds since 1970."""
        return datetime.strptime(self.date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()


def authorization(request: SignedRequest) -> Authorization:
    """What a request says of its signature. Raises SignatureError for what is none."""
    found = _AUTHORIZATION.fullmatch(_header(request, "authorization"))
    if found is None:
        _refuse(f"the header Authorization is not of the form {ALGORITHM} Access=AK, SignedHeaders=a;b, Signature=hex")
    access_key, names, signature = (part.decode("ascii") for part in found.groups())
    signed = tuple(names.split(";"))
    if len(signed) > HEADERS_MAX or sorted(set(signed)) != list(signed):
        _refuse("SignedHeaders are not names in their order, each once")
    if not {"host", "x-sdk-date"} <= set(signed):
        _refuse("SignedHeaders lack host or x-sdk-date")
    date = _header(request, "x-sdk-date")
    if not _DATE.fullmatch(date):
        _refuse("the header X-Sdk-Date is no time such as 20200709T055627Z")
    made = Authorization(access_key, signed, signature, date.decode("ascii"))
    try:
        _ = made.seconds
    except (ValueError, OverflowError):
        _refuse("the header X-Sdk-Date is no time such as 20200709T055627Z")
    return made


class Verifier:
    """Verifies requests; `secret_of` gives the secret of an access key, None where there is no such key."""

    def __init__(self, secret_of: Callable[[str], str | None]) -> None:
        self._secret_of = secret_of
        # When a signature came first, by signature, the oldest first.
        self._seen: OrderedDict[str, float] = OrderedDict()

    def verify(self, request: SignedRequest, now: float, moment: float | None = None) -> Authorization:
        """Who signed a request. Raises SignatureError where it is not signed, by a key that is known, and now.

        `moment` is `now` by a clock that nobody sets, in seconds: what was made before is known by it.
        """
        found = authorization(request)
        secret = self._secret_of(found.access_key)
        key = _NO_SECRET if secret is None else secret.encode()
        is_right = False
        for canonical in canonical_requests(request, found.signed_headers):
            is_right |= hmac.compare_digest(signature(canonical, found.date, key), found.signature)
        if secret is None or not is_right:
            _refuse("the access key is not known, or the signature is not that of this request by its secret key")
        body_hash = _optional_header(request, "x-sdk-content-sha256")
        if body_hash is not None and body_hash != hashlib.sha256(request.body).hexdigest().encode():
            _refuse("the header X-Sdk-Content-Sha256 is not the SHA-256 of the body")
        if abs(now - found.seconds) > SKEW_SECONDS:
            _refuse("X-Sdk-Date is more than 15 minutes from the time here: set the clock, or sign the request anew")
        if request.method not in READING:
            self._remember(found, now if moment is None else moment)
        return found

    def _remember(self, found: Authorization, moment: float) -> None:
        first = self._seen.setdefault(found.signature, moment)
        if moment - first > REPEAT_SECONDS:
            _refuse("the same request was made before: sign it anew")
        while self._seen:
            oldest, came = next(iter(self._seen.items()))
            # What is older than this is refused for its date.
            if len(self._seen) <= REMEMBERED_MAX and moment - came <= 2 * SKEW_SECONDS:
                return
            del self._seen[oldest]


# ---- what is signed ----


def canonical_requests(request: SignedRequest, signed_headers: Iterable[str]) -> Iterator[bytes]:
    """The canonical forms of a request. Raises SignatureError for a signed header that is not there, or twice.

    There are two: values of one key in the order of the request, and sorted. The vendor's SDK sorts numbers as numbers,
    and sends them so; others sort texts.
    """
    headers = b"".join(b"%s:%s\n" % (name.encode(), _header(request, name).strip()) for name in signed_headers)
    names, digest = ";".join(signed_headers).encode(), hashlib.sha256(request.body).hexdigest().encode()
    for query in dict.fromkeys(_canonical_queries(request.query)):
        yield b"\n".join([request.method.encode(), canonical_path(request.path), query, headers, names, digest])


def canonical_path(path: bytes) -> bytes:
    """A path with each segment percent-encoded once, and a slash behind it."""
    encoded = "/".join(quote(segment, safe="~") for segment in unquote_to_bytes(path).split(b"/"))
    return (encoded if encoded.endswith("/") else f"{encoded}/").encode()


def _canonical_queries(query: bytes) -> Iterator[bytes]:
    # As the application reads it, so that what is verified is what is done.
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    by_key = sorted(pairs, key=lambda pair: pair[0])
    for ordered in (by_key, sorted(pairs)):
        yield "&".join(f"{quote(key, safe='~')}={quote(value, safe='~')}" for key, value in ordered).encode()


def signature(canonical: bytes, date: str, secret: bytes) -> str:
    """The signature of a canonical request at a date, in hexadecimal digits."""
    text = f"{ALGORITHM}\n{date}\n{hashlib.sha256(canonical).hexdigest()}"
    return hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()


def _header(request: SignedRequest, name: str) -> bytes:
    value = _optional_header(request, name)
    if value is None:
        _refuse(f"the header {name} is missing")
    return value


def _optional_header(request: SignedRequest, name: str) -> bytes | None:
    values = [value for key, value in request.headers if key == name.encode()]
    if len(values) > 1:
        _refuse(f"the header {name} is there {len(values)} times")
    return values[0] if values else None


def _refuse(sentence: str) -> NoReturn:
    raise SignatureError(sentence)
