"""For pytest: files ``*.test.yaml`` are tests, and the fixture ``dataplane`` judges packets by a policy (SPEC 8.6).

::

    def test_ssh_is_for_the_office(dataplane):
        (verdict,) = dataplane("policy.yaml", IP(src="172.17.0.9", dst="172.16.1.5") / TCP(dport=22))
        assert verdict.verdict == "deny"

Nothing is loaded before a test asks for it: pytest loads this plugin wherever the package is installed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from dataplane import DataPlane, Policy, Verdict

_FILES = "*.test.yaml"
_STEP_NS = 1_000_000
#: What text of a document has in it, and hardly a file's name.
_OF_A_DOCUMENT = re.compile(r"\n|:\s")


class Judge:
    """What the fixture ``dataplane`` is: call it with a policy, or with a policy and packets."""

    def __call__(
        self, policy: Policy | Mapping[str, Any] | str | Path, packets: Any = None
    ) -> DataPlane | list[Verdict]:
        """A `DataPlane` with a policy in force, or the verdicts of packets, in order.

        `policy` is a Policy, a document as a mapping or as YAML text (with a line feed or a key in it), or a file's
        name. `packets` are scapy packets, or frames as bytes, in an empty connection table and at a millisecond from
        each to the next; one packet is as a list of one. Raises PolicyError, and TypeError or ValueError for what is
        no packet.
        """
        from dataplane import DataPlane

        plane = DataPlane(self._policy(policy))
        if packets is None:
            return plane
        frames = self._frames(packets)
        return [
            plane.process(frame, time_ns=number * _STEP_NS, link=None if hasattr(frame, "name") else "ethernet")
            for number, frame in enumerate(frames)
        ]

    @staticmethod
    def _policy(policy: Policy | Mapping[str, Any] | str | Path) -> Policy:
        from dataplane import Policy

        if isinstance(policy, Mapping):
            return Policy.model_validate(dict(policy))
        if isinstance(policy, str) and _OF_A_DOCUMENT.search(policy) and not os.path.exists(policy):
            return Policy.parse(policy)
        return Policy.load(policy) if isinstance(policy, str | Path) else policy

    @staticmethod
    def _frames(packets: Any) -> Sequence[Any]:
        if isinstance(packets, str):
            raise TypeError("packets are of scapy, or frames as bytes: those written as text go into a *.test.yaml")
        is_one = isinstance(packets, bytes | bytearray | memoryview) or hasattr(packets, "payload")
        return [packets] if is_one else list(packets)


@pytest.fixture
def dataplane() -> Judge:
    """Judges packets by a policy: `dataplane(policy, packets)` gives verdicts, `dataplane(policy)` a DataPlane."""
    return Judge()


# ---- files ----


class CaseFile(pytest.File):
    """A file of cases."""

    def collect(self) -> Iterable[CaseItem]:
        from dataplane.insight.cases import cases_of_file

        for case in cases_of_file(self.path):
            name = case.name.partition("::")[2] or self.path.name.removesuffix(".test.yaml")
            yield CaseItem.from_parent(self, name=name, case=case)


class CaseItem(pytest.Item):
    """A case."""

    def __init__(self, *, case: Any, **options: Any) -> None:
        super().__init__(**options)
        self._case = case

    def runtest(self) -> None:
        from dataplane.insight.suite import run_case

        result = run_case(self._case)
        if result.status:
            raise CaseFailedError(result.told)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, CaseFailedError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, self.name


class CaseFailedError(Exception):
    """A case that did not pass: what came instead, and why."""


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> CaseFile | None:
    """Takes files of cases, where pytest is asked to look."""
    return CaseFile.from_parent(parent, path=file_path) if fnmatch(file_path.name, _FILES) else None
