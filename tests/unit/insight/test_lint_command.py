"""SPEC 8.5: `dataplane check --lint`, run as people run it: its formats and exit statuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pydantic_sarif.model import StaticAnalysisResultsFormatSarifVersion210JsonSchema as Sarif

from dataplane import DataPlane
from dataplane.insight.exposure import PORTS
from dataplane.insight.lint import KINDS, lint
from dataplane.insight.packet_bytes import ip_packet
from dataplane.insight.packet_text import parse_packet
from dataplane.policy import Policy
from tests.unit.policy.test_command import ROOT, run

POLICY = """\
security_groups:
  - id: web
    security_group_rules:
      - {id: A01, direction: ingress, protocol: tcp, multiport: "22"}
      - {id: "A%02", direction: ingress, protocol: tcp, multiport: "22", remote_ip_prefix: 10.0.0.0/8, priority: 2}
      - {id: A03, direction: ingress, protocol: udp, multiport: "53", remote_group_id: empty}
      - {id: A04, direction: egress}
      - {id: A05, direction: egress, protocol: gre, action: deny, priority: 2}
  - id: empty
  - id: unused
  - id: late
    security_group_rules:
      - {id: A06, direction: egress, protocol: tcp}
instances:
  - id: ecs-a
    addresses: [192.168.0.10, "2001:db8::a"]
    security_groups: [web, late]
"""


TIMES = """\
security_groups:
  - id: web
    security_group_rules:
      - {id: over, direction: ingress, protocol: tcp, multiport: 22, expires_at: "2020-01-01T00:00:00Z"}
      - {id: later, direction: ingress, protocol: tcp, multiport: 80, expires_at: "2199-01-01T00:00:00Z"}
      - {id: ssh, direction: ingress, protocol: tcp, multiport: 22, remote_ip_prefix: 10.0.0.0/8, priority: 2}
      - {id: http, direction: ingress, protocol: tcp, multiport: 80, priority: 2}
instances:
  - {id: a, addresses: [192.168.0.10], security_groups: [web]}
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "my policy.yaml"
    path.write_text(POLICY)
    return path


def test_json_has_the_fields_of_the_specification_and_no_others(policy: Path) -> None:
    done = run("check", policy, "--lint", "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {
        "findings": [
            {
                "kind": kind,
                "rule": rule,
                "security_group": group,
                "file": str(policy),
                "line": line,
                "because": because,
                "example": example and {"packet": example[0], "rule": example[1]},
            }
            for kind, rule, group, line, because, example in [
                ("open-to-any", "A01", "web", 4, [], ("tcp 198.51.100.1:40000 > 192.168.0.10:22 S", "A01")),
                ("shadowed", "A%02", "web", 5, ["A01"], ("tcp 10.0.0.1:40000 > 192.168.0.10:22 S", "A01")),
                ("empty-remote", "A03", "web", 6, [], None),
                ("shadowed", "A05", "web", 8, ["A04"], ("gre 192.168.0.10 > 198.51.100.1", "A04")),
                ("unused-group", None, "unused", 10, [], None),
                ("unreachable-group", None, "late", 11, ["A04"], None),
                ("shadowed", "A06", "late", 13, ["A04"], ("tcp 192.168.0.10:40000 > 198.51.100.1:443 S", "A04")),
                (
                    "no-rule-of-family",
                    None,
                    "web",
                    16,
                    [],
                    ("tcp [2001:db8::1]:40000 > [2001:db8::a]:443 S", None),
                ),
            ]
        ]
    }
    assert run("check", "--json", "--lint", policy).stdout == done.stdout


def test_examples_are_what_the_engine_says_of_them(policy: Path) -> None:
    """Each packet is one that `explain` takes, and the rule named with it decides about it."""
    loaded = Policy.load(policy)
    shown = [(f.kind, f.rule, f.example) for f in lint(loaded) if f.example]
    assert len(shown) == 5
    for kind, rule, example in shown:
        checks = DataPlane(loaded).process(ip_packet(parse_packet(example.packet)), time=1.0, link="raw").checks
        assert [check.rule for check in checks] == [rule if kind == "redundant" else example.rule], example


def test_text_has_a_place_a_sentence_and_a_packet_at_80_columns(policy: Path) -> None:
    done = run("check", policy, "--lint")
    lines = done.stdout.replace(str(policy), "policy.yaml").splitlines()
    assert done.returncode == 0
    assert lines[4:8] == [
        "policy.yaml:5: shadowed",
        '  rule "A%02" of security group "web" never decides: rule "A01" always takes its',
        "  packets first",
        '  tcp 10.0.0.1:40000 > 192.168.0.10:22 S: taken by rule "A01"',
    ]
    assert max(map(len, lines)) <= 80
    assert "policy.yaml: 8 findings: 3 shadowed, 1 empty-remote," in " ".join(lines)


def test_the_page_has_every_kind_and_every_port() -> None:
    page = (ROOT / "docs/lint.md").read_text()
    assert [kind for kind in KINDS if f"| `{kind}` |" not in page] == []
    listed = page.partition("| remote login |")[2].partition("\n\n")[0]
    numbers = {int(number) for number in re.findall(r"\b\d+\b", listed)}
    assert numbers == {number for _, number, _ in PORTS}
    assert [service for _, _, service in PORTS if service not in listed] == []


def test_a_policy_without_findings_says_so(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY.partition("      - {id: A01")[0] + "      - {id: out, direction: egress}\n"
                    "instances: [{id: a, addresses: [10.0.0.1], security_groups: [web]}]\n")  # fmt: skip
    done = run("check", path, "--lint", "--fail-on", ",".join(KINDS))
    assert (done.returncode, done.stdout) == (0, f"{path}: nothing found.\n")


def test_sarif_is_valid_and_leads_to_the_lines(policy: Path) -> None:
    """SARIF 2.1.0 by its schema; a path is a URI in it."""
    done = run("check", policy, "--lint", "--format", "sarif")
    log = json.loads(done.stdout)
    Sarif.model_validate(log)
    (of,) = log["runs"]
    assert [rule["id"] for rule in of["tool"]["driver"]["rules"]] == list(KINDS)
    assert all(KINDS[result["ruleIndex"]] == result["ruleId"] for result in of["results"])
    shadowed = of["results"][1]
    place = shadowed["locations"][0]["physicalLocation"]
    assert place == {"artifactLocation": {"uri": policy.as_uri()}, "region": {"startLine": 5}}
    (related,) = shadowed["relatedLocations"]
    assert related["physicalLocation"]["region"] == {"startLine": 4}
    prints = [json.dumps(result["partialFingerprints"]) for result in of["results"]]
    assert len(set(prints)) == len(prints)


def test_workflow_commands_are_a_line_each_and_escaped(policy: Path) -> None:
    lines = run("check", policy, "--lint", "--format", "github").stdout.splitlines()
    assert len(lines) == 8
    assert lines[1] == (
        f"::warning file={policy},line=5,title=shadowed::"
        'rule "A%2502" of security group "web" never decides: rule "A01" always takes its packets first'
        ' (tcp 10.0.0.1:40000 > 192.168.0.10:22 S: taken by rule "A01")'
    )


@pytest.mark.parametrize(
    ("kinds", "status"),
    [("shadowed", 1), ("redundant", 0), ("redundant,unused-group", 1), ("no-rule-of-family", 1)],
)
def test_fail_on_is_about_its_kinds_alone(policy: Path, kinds: str, status: int) -> None:
    for how in ("text", "json", "sarif", "github"):
        done = run("check", policy, "--lint", "--format", how, "--fail-on", kinds)
        assert (done.returncode, done.stderr) == (status, "")
        assert done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--lint", "--fail-on", "shadow"], '"shadow" is no kind of finding'),
        (["--fail-on", "shadowed"], "add --lint"),
        (["--format", "json"], "add --lint"),
        (["--lint", "--format", "xml"], "xml"),
    ],
)
def test_bad_usage_is_exit_status_2(policy: Path, arguments: list[str], says: str) -> None:
    done = run("check", policy, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in " ".join(done.stderr.split())


def test_a_policy_that_is_not_valid_is_told_as_ever(tmp_path: Path) -> None:
    """Exit status 2 and every mistake (SPEC 2), whatever is to fail."""
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY.replace('multiport: "53"', 'multiport: "0"'))
    done = run("check", path, "--lint", "--fail-on", "shadowed")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{path}:6:")
    done = run("check", path, "--lint", "--format", "json")
    assert json.loads(done.stdout)["valid"] is False


def test_rules_whose_time_is_over_are_left_out(tmp_path: Path) -> None:
    """They are not in force: nothing is said or because of them, and lines are those of the document."""
    path = tmp_path / "policy.yaml"
    path.write_text(TIMES)

    found = json.loads(run("check", path, "--lint", "--json").stdout)["findings"]
    assert [(one["kind"], one["rule"], one["line"], one["because"]) for one in found] == [
        ("redundant", "later", 5, ["http"]),
        ("shadowed", "http", 7, ["later"]),
    ]


def test_the_group_made_on_the_fly_has_no_findings() -> None:
    """SPEC 3.4: the document does not write it."""
    done = run("check", "-", "--lint", text="instances: [{id: a, addresses: [10.0.0.1]}]\n")
    assert (done.returncode, done.stdout) == (0, "<stdin>: nothing found.\n")


@pytest.mark.parametrize("how", ["text", "json"])
def test_findings_and_what_run_needs_are_told_together(policy: Path, how: str) -> None:
    """`--lint --live`: neither is dropped; what is missing decides the exit status, and a document stays one."""
    done = run("check", policy, "--lint", "--live", "--format", how)
    alone = run("check", policy, "--lint", "--format", how)
    assert done.returncode == 2
    assert done.stdout == alone.stdout
    assert "has no interface" in done.stderr
    assert "that dataplane run needs" in done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--uplink", "eth0"], "--uplink is for what run needs: add --live"),
        (["--lint", "--uplink", "eth0"], "--uplink is for what run needs: add --live"),
        (["--lint", "--json", "--format", "text"], "--json and --format text do not go together: give one of them"),
        (["--lint", "--json", "--format", "sarif"], "--json and --format sarif do not go together: give one of them"),
    ],
)
def test_options_that_would_do_nothing_are_refused(policy: Path, options: list[str], words: str) -> None:
    done = run("check", policy, *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in " ".join(done.stderr.replace("│", " ").split())
