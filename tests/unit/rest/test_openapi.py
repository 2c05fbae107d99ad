"""The document of the API, and requests made from it (schemathesis), against a real uvicorn."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from pydantic import TypeAdapter
from requests import PreparedRequest
from requests.auth import AuthBase
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from dataplane.control.signature import ALGORITHM, SignedRequest, canonical_requests, signature

from .served import SECRET, Served

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


class Signed(AuthBase):
    """Signs what goes over the wire."""

    def __call__(self, r: PreparedRequest) -> PreparedRequest:
        date = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        path, _, query = r.path_url.partition("?")
        body = r.body.encode() if isinstance(r.body, str) else r.body or b""
        host = str(r.url).partition("//")[2].partition("/")[0]
        r.headers.update({"Host": host, "X-Sdk-Date": date})
        headers = ((b"host", host.encode()), (b"x-sdk-date", date.encode()))
        request = SignedRequest(str(r.method), path.encode(), query.encode(), headers, body)
        made = signature(next(canonical_requests(request, ["host", "x-sdk-date"])), date, SECRET.encode())
        r.headers["Authorization"] = f"{ALGORITHM} Access=ALL, SignedHeaders=host;x-sdk-date, Signature={made}"
        return r


@pytest.fixture
def schema(served: Served) -> Any:
    return schemathesis.openapi.from_url(f"http://127.0.0.1:{served.port}/openapi.json")


@pytest.mark.filterwarnings("ignore")
def test_requests_made_from_the_document(schema: Any) -> None:
    """Each operation, with values that it allows: the answer is one that the document tells."""
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) == 35
    for operation in operations:

        @hypothesis.settings(
            max_examples=6,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        )
        @given(case=operation.as_strategy())
        def try_it(case: Any) -> None:
            case.call_and_validate(auth=Signed(), checks=CHECKS, timeout=60)

        try_it()


def test_no_schema_is_built_while_requests_are_answered(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """What builds one sets the filters of warnings aside, which all threads share: it is done before."""
    built: list[Any] = []
    made = TypeAdapter.__init__

    def noted(self: TypeAdapter[Any], *given: Any, **options: Any) -> None:
        built.append(given)
        made(self, *given, **options)

    monkeypatch.setattr(TypeAdapter, "__init__", noted)
    for path in ("/vpc/security-groups", "/vpc/security-group-rules", "/vpc/address-groups", "/ports"):
        assert served.call("GET", path).status == 200
    assert built == []
