"""The loaders of policies, changes and expectations over any bytes (atheris: libFuzzer, guided by coverage of Python).

The input is read as a policy; where it begins like a list, as changes and as expectations too. Nothing but PolicyError
may be raised, each mistake stands inside the document and takes one line, and a policy that is valid reads back from
JSON as it is. A run longer than libFuzzer's -timeout is a fault as well.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(
    include=["dataplane.policy", "dataplane.replay.expectation", "dataplane.replay.expectations", "yaml"]
):
    from dataplane.policy import Policy, PolicyError
    from dataplane.policy.schedule import load_changes
    from dataplane.replay.expectations import Expectations

#: Where changes and expectations are read from, which come as files only.
DOCUMENT = Path(__file__).resolve().parents[2] / "build" / "fuzz" / f"fuzz_policy.{os.getpid()}"
#: What ends a line: of a text, and of a YAML text (1.1, which libyaml reads: 4.1.4).
LINE_ENDS = re.compile("\n"), re.compile("\r\n|[\r\n\x85\u2028\u2029]")


def check_mistakes(error: PolicyError, text: str, name: str) -> None:
    """Every mistake of this document has its place in it, and its line in the message."""
    assert error.mistakes
    assert len(str(error).splitlines()) == len(error.mistakes), str(error)
    documents = [ends.split(text) for ends in LINE_ENDS]
    for mistake in error.mistakes:
        assert mistake.message
        if mistake.file == name:
            line, column = mistake.line, mistake.column
            assert line, mistake
            assert column, mistake
            assert any(1 <= line <= len(lines) and 1 <= column <= len(lines[line - 1]) + 1 for lines in documents), (
                mistake
            )


def read_policy(data: bytes, text: str, name: str) -> None:
    try:
        policy = Policy.parse(data, name)
    except PolicyError as error:
        check_mistakes(error, text, name)
    else:
        again = Policy.parse(policy.model_dump_json(exclude_defaults=True), "again.json")
        assert again == policy


def test_one_input(data: bytes) -> None:
    text = data.decode(errors="replace").removeprefix("\ufeff")
    read_policy(data, text, "policy.yaml")
    start = text.lstrip()[:1]
    if start in ("{", "["):
        read_policy(data, text, "policy.json")
    # A change may name the file of a policy; in the folder of the document there are no devices that never end.
    if start in ("-", "[") and "/" not in text:
        DOCUMENT.write_bytes(data)
        for load in (load_changes, Expectations.load):
            try:
                load(DOCUMENT)
            except PolicyError as error:
                check_mistakes(error, text, str(DOCUMENT))


def words(schema: Any) -> Iterable[str]:
    """The keys and the words that the schema of a policy knows."""
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        yield from (word for word in schema.get("enum", []) if isinstance(word, str))
        schema = list(schema.values())
    if isinstance(schema, list):
        for part in schema:
            yield from words(part)


def main() -> None:
    DOCUMENT.parent.mkdir(parents=True, exist_ok=True)
    dictionary = DOCUMENT.with_name("fuzz_policy.dict")
    dictionary.write_text("".join(f'"{word}"\n' for word in sorted(set(words(Policy.model_json_schema())))))
    atheris.Setup([*sys.argv, f"-dict={dictionary}"], test_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
