"""The formats of files: their page, their schemas, and what reads them say the same."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from dataplane.cli import app
from dataplane.policy import Policy
from dataplane.policy.changes import KINDS, Change
from dataplane.policy.schedule import load_changes, scheduled
from dataplane.replay.expectation import EXPECTABLE
from dataplane.replay.expectations import Expectations

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/files.md").read_text()


def _example(name: str) -> str:
    found = re.search(rf"```yaml\n# {name}\n(.*?)```", PAGE, re.DOTALL)
    assert found, name
    return found[1]


def _schema(*of: str) -> dict[str, object]:
    done = CliRunner().invoke(app, ["schema", *of])
    assert done.exit_code == 0
    described: dict[str, object] = json.loads(done.stdout)
    assert described["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    return described


def test_the_examples_of_the_page_are_valid(tmp_path: Path) -> None:
    policy = Policy.parse(_example("policy"))
    (tmp_path / "changes.yaml").write_text(_example("changes"))
    (tmp_path / "expect.yaml").write_text(_example("expect"))
    changes = load_changes(tmp_path / "changes.yaml", policy)
    assert [change.at for change in changes] == [10.5, *range(11, 30)]
    assert scheduled(policy, changes)[-1][1].instance("ecs-b").addresses == ("192.168.0.11", "fd00::11")
    assert Expectations.load(tmp_path / "expect.yaml").total == 4


def test_every_kind_of_change_is_on_the_page() -> None:
    assert {kind for kind in KINDS if f"{kind}:" not in PAGE} == set()


def test_the_table_of_changes_is_made_from_their_kinds() -> None:
    """In their order: the name, the first paragraph that tells it, and the command of `dataplane ctl`."""
    _, begin, table = PAGE.partition("| change | what it does | `dataplane ctl` |\n|---|---|---|\n")
    assert begin
    made = "".join(map(_row, KINDS.values()))
    assert table[: len(made)] == made, made
    assert table[len(made)] == "\n"


def _row(kind: type[Change]) -> str:
    told = " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())
    command = f"`{' '.join(kind.command)}`" if kind.command else "`reload`"
    return f"| `{kind.kind}` | {told} | {command} |\n"


def test_the_schema_is_that_of_policies_if_nothing_is_said() -> None:
    assert _schema() == _schema("policy")
    assert "security_groups" in _schema()["properties"]  # type: ignore[operator]


@pytest.mark.parametrize(("of", "item"), [("changes", "TimedItem"), ("expect", "Expectation")])
def test_the_schema_of_a_list_names_every_key_that_is_read(of: str, item: str) -> None:
    described = _schema(of)
    assert described["type"] == "array"
    properties = described["$defs"][item]["properties"]  # type: ignore[index]
    keys = {"at", *KINDS} if of == "changes" else {"packet", "address", "port", "count", *EXPECTABLE}
    assert keys <= properties.keys()
    for value in yaml.safe_load(_example(of)):
        assert value.keys() <= properties.keys()


def test_what_is_expected_is_among_the_words_of_the_schema() -> None:
    properties = _schema("expect")["$defs"]["Expectation"]["properties"]  # type: ignore[index]
    assert set(properties["verdict"]["enum"]) == {"allow", "deny", "bypass"}
    assert None in properties["reason"]["enum"]
    assert "no-rule-matched" in properties["reason"]["enum"]


def test_another_format_has_no_schema() -> None:
    done = CliRunner().invoke(app, ["schema", "captures"])
    assert done.exit_code == 2
