"""`dataplane check` and `dataplane schema`, run as people run them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import dataplane
from dataplane.policy import Policy, PolicyError

from .conftest import unmarked
from .test_document import EXAMPLE
from .test_limits import TABLE_3

ROOT = Path(__file__).parents[3]


def run(*arguments: str | Path, text: str = "") -> subprocess.CompletedProcess[str]:
    """The command's end; whatever happens, nobody sees a traceback."""
    finished = subprocess.run(
        [sys.executable, "-m", "dataplane", *map(str, arguments)],
        input=text,
        text=True,
        capture_output=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1"},
    )
    assert "Traceback" not in finished.stderr
    return finished


@pytest.fixture
def table_3(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(TABLE_3)
    return path


def test_a_valid_policy(table_3: Path) -> None:
    """Exit status 0; what is in it, the quotas that are used (SPEC 6, Table 3 of the source), and warnings."""
    finished = run("check", table_3)
    assert (finished.returncode, finished.stderr) == (0, "")
    lines = [line.rstrip() for line in finished.stdout.splitlines() if line.strip()]
    assert lines[0] == (
        f"{table_3} is valid: 2 security groups, 4 rules, 1 address group, 0 instances, 0 load balancers."
    )
    assert re.fullmatch(r" *Sg-A +ingress +IPv4 +4/120", lines[3])
    assert lines[4] == 'warning: security group "Sg-A" is not used: no instance is in it and no rule elsewhere names it'


def test_a_valid_policy_as_json(table_3: Path) -> None:
    finished = run("check", "--json", table_3)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert json.loads(finished.stdout) == {
        "policy": str(table_3),
        "valid": True,
        "counts": {"security_groups": 2, "rules": 4, "address_groups": 1, "instances": 0, "load_balancers": 0},
        "quotas": [{"security_group": "Sg-A", "direction": "ingress", "ethertype": "IPv4", "used": 4, "limit": 120}],
        "warnings": ['security group "Sg-A" is not used: no instance is in it and no rule elsewhere names it'],
    }


BAD = "region: §5\ninstances:\n  - {id: a, addresses: [§10.0.0.256]}\n"


def test_a_policy_with_mistakes(tmp_path: Path) -> None:
    """SPEC 2: exit status 2; a line for each mistake with file, line and column, and how many there are."""
    text, (first, second) = unmarked(BAD)
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    finished = run("check", path)
    assert (finished.returncode, finished.stdout) == (2, "")
    assert finished.stderr.splitlines() == [
        f'{path}:{first}: region 5 is not allowed: write text in quotes: "5"',
        f'{path}:{second}: addresses[0] "10.0.0.256" is no IPv4 or IPv6 address',
        "2 mistakes: the policy is not valid.",
    ]


def test_mistakes_as_json() -> None:
    text, _ = unmarked(BAD)
    finished = run("check", "-", "--json", text=text)
    assert (finished.returncode, finished.stderr) == (2, "")
    report = json.loads(finished.stdout)
    assert report["valid"] is False
    assert report["mistakes"][0] == {
        "file": "<stdin>",
        "line": 1,
        "column": 9,
        "place": "region",
        "message": 'region 5 is not allowed: write text in quotes: "5"',
    }
    assert len(report["mistakes"]) == 2


def test_standard_input() -> None:
    finished = run("check", "-", text=EXAMPLE)
    assert finished.returncode == 0
    assert finished.stdout.startswith(
        "<stdin> is valid: 2 security groups, 1 rule, 1 address group, 1 instance, 1 load balancer."
    )


def test_ids_are_printed_as_they_are() -> None:
    """Square brackets and long ids, which the terminal library could take for markup or cut off."""
    name = "[red]" + "x" * 200
    rule = f'{{direction: ingress, remote_group_id: "{name}"}}'
    text = f'security_groups: [{{id: "{name}", security_group_rules: [{rule}]}}]'
    finished = run("check", "-", text=text)
    assert finished.returncode == 0
    assert f'warning: security group "{name[:80]}..."' in finished.stdout
    table = finished.stdout.split("warning")[0]
    assert "".join(re.findall(r"x+|\[red\]", table)) == name


def test_a_file_that_is_not_there() -> None:
    finished = run("check", "none.yaml")
    assert (finished.returncode, finished.stdout) == (2, "")
    assert finished.stderr == "none.yaml: the file cannot be read: No such file or directory\n"


@pytest.mark.parametrize("arguments", [["check"], ["chek", "x"], ["check", "--quiet", "x"], ["check", "a", "b"]])
def test_bad_usage(arguments: list[str]) -> None:
    finished = run(*arguments)
    assert finished.returncode == 2
    assert "Error: " in finished.stderr


def test_version() -> None:
    finished = run("--version")
    assert (finished.returncode, finished.stdout) == (0, f"dataplane {dataplane.__version__}\n")


def test_help_names_the_commands() -> None:
    finished = run("--help")
    assert finished.returncode == 0
    commands = "check new clone schema replay explain diff import export learn test top run api restore ctl policy"
    commands += " fleet"
    assert sorted(re.findall(r"^  (\w+)  +\w", finished.stdout, re.MULTILINE)) == sorted(commands.split())


def _schema() -> dict[str, Any]:
    finished = run("schema")
    assert (finished.returncode, finished.stderr) == (0, "")
    schema: dict[str, Any] = json.loads(finished.stdout)
    return schema


def test_schema_of_address_pairs() -> None:
    """SPEC 2: an address or prefix, or a mapping of it and its virtual MAC: the schema allows what `check` allows."""
    good = ["10.0.0.9", "10.0.0.0/24", {"ip": "10.0.0.9"}, {"ip": "10.0.0.0/24", "mac": "00:00:5e:00:01:07"}]
    bad = [{"mac": "00:00:5e:00:01:07"}, {"ip": "10.0.0.9", "mac_address": "00:00:5e:00:01:07"}, {"ip": 10}, 10, None]
    validator = jsonschema.Draft202012Validator(_schema())
    for pair in good + bad:
        written = {"instances": [{"id": "a", "addresses": ["10.0.0.1"], "allowed_address_pairs": [pair]}]}
        assert validator.is_valid(written) is (pair in good), pair
        with contextlib.nullcontext() if pair in good else pytest.raises(PolicyError):
            Policy.parse(json.dumps(written))


def test_schema_describes_every_field() -> None:
    """So that editors can complete and explain them."""
    schema = _schema()
    models = {"Policy": schema, **schema["$defs"]}
    assert set(models) == {
        "AddressGroup",
        "Conntrack",
        "Instance",
        "LoadBalancer",
        "Policy",
        "SecurityGroup",
        "SecurityGroupRule",
        "Tag",
        "Tap",
        "Timeouts",
        "Uplink",
    }
    for name, model in models.items():
        assert model["additionalProperties"] is False, name
        for field, described in model["properties"].items():
            assert described.get("description"), f"{name}.{field}"
    assert set(schema["properties"]) == set(Policy.model_fields)
    rule = schema["$defs"]["SecurityGroupRule"]
    assert rule["required"] == ["direction"]
    assert rule["properties"]["priority"] | {"description": "", "title": ""} == {
        "default": 1,
        "minimum": 1,
        "maximum": 100,
        "type": "integer",
        "description": "",
        "title": "",
    }
    assert rule["properties"]["action"]["enum"] == ["allow", "deny"]
    assert "default" not in rule["properties"]["id"]
    assert "default" not in schema["$defs"]["Instance"]["properties"]["security_groups"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["replay", "-", "-"],
        ["replay", "-", "a.pcap", "--changes", "-"],
        ["replay", "-", "a.pcap", "--expect", "-"],
        ["replay", "p.yaml", "-", "-"],
        ["diff", "-", "-", "a.pcap"],
        ["diff", "p.yaml", "-", "-"],
        ["diff", "p.yaml", "q.yaml", "-", "--changes", "-"],
        ["explain", "-", "-", "--packet", "1"],
        ["explain", "-", "a.pcap", "--packet", "1", "--changes", "-"],
    ],
)
def test_standard_input_is_named_once(arguments: list[str]) -> None:
    """Whoever reads it second would find nothing in it."""
    finished = run(*arguments, text="instances: []")
    assert (finished.returncode, finished.stdout) == (2, "")
    assert finished.stderr == "-: standard input can be read only once: name it once\n"
