"""Findings for programs: SARIF 2.1.0, which code review shows beside the lines, and commands of GitHub's workflows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dataplane.insight.lint import KINDS, Located

_ABOUT = {
    "shadowed": "Another decision is always taken before the rule's.",
    "redundant": "Without the rule every packet gets the same verdict.",
    "unreachable-group": "The groups before it decide about every packet.",
    "unused-group": "No instance is in the group, and no rule elsewhere names it.",
    "empty-remote": "The rule's remote has no address of its family now.",
    "open-to-any": "Remote login or a data store is open to every address.",
    "no-rule-of-family": "The groups of an address have no rule of its family.",
}


def sarif(findings: Iterable[Located], version: str) -> dict[str, Any]:
    """A SARIF 2.1.0 log (OASIS, 2020) with one run; `version` is that of this program."""
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "dataplane",
                        "version": version,
                        "rules": [
                            {
                                "id": kind,
                                "shortDescription": {"text": _ABOUT[kind]},
                                "defaultConfiguration": {"level": "warning"},
                            }
                            for kind in KINDS
                        ],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [_result(located) for located in findings],
            }
        ],
    }


def _result(located: Located) -> dict[str, Any]:
    finding = located.finding
    # What a finding is known by when lines move.
    name = finding.rule or finding.security_group
    result = {
        "ruleId": finding.kind,
        "ruleIndex": KINDS.index(finding.kind),
        "level": "warning",
        "message": {"text": _sentence(located)},
        "locations": [{"physicalLocation": _place(located.file, located.line)}],
        "partialFingerprints": {"dataplane/v1": f"{finding.kind}/{name}/{'/'.join(map(str, finding.location[2:]))}"},
    }
    related = zip(finding.because, located.because_lines, strict=True)
    if finding.because:
        result["relatedLocations"] = [
            {"id": number, "message": {"text": f"rule {rule}"}, "physicalLocation": _place(located.file, line)}
            for number, (rule, line) in enumerate(related, 1)
        ]
    return result


def _place(file: str, line: int) -> dict[str, Any]:
    uri = Path(file).as_uri() if Path(file).is_absolute() else quote(file)
    return {"artifactLocation": {"uri": uri}, "region": {"startLine": line}}


def _sentence(located: Located) -> str:
    words = located.finding.example_words
    return located.finding.message + (f" ({words})" if words else "")


def workflow_commands(findings: Iterable[Located]) -> Iterator[str]:
    """A line for each finding that GitHub Actions shows as a warning beside the line of the file."""
    for located in findings:
        where = f"file={_property(located.file)},line={located.line},title={_property(located.finding.kind)}"
        yield f"::warning {where}::{_data(_sentence(located))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
