"""`dataplane new` and `dataplane clone`."""

from __future__ import annotations

import difflib
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dataplane.cli import app
from dataplane.insight.cases import find_cases
from dataplane.insight.lint import lint
from dataplane.insight.suite import run_case
from dataplane.policy import Policy
from dataplane.policy.beginning import beginning
from dataplane.policy.changes import apply, parse_change
from dataplane.policy.services import PRESETS


def run(*words: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, list(map(str, words)), input=stdin)


# ---- new ----


_SOURCES = (None, "10.0.0.0/8", "2001:db8:1::/64", "10.1.2.3")


@pytest.mark.parametrize(
    ("preset", "source"), [(name, source) for name in PRESETS for source in _SOURCES[: 1 if name == "default" else 4]]
)
def test_a_policy_to_begin_with_passes_its_tests_and_has_no_findings(
    preset: str, source: str | None, tmp_path: Path
) -> None:
    """All cases pass; each rule of the servers' group that lets in is hit by one; lint finds what the preset says."""
    made = beginning(PRESETS[preset], policy_file="policy.yaml", source=source)
    (tmp_path / "policy.yaml").write_text(made.policy)
    (tmp_path / "policy.test.yaml").write_text(made.tests)
    results = [run_case(case) for case in find_cases([str(tmp_path)])]
    assert [(result.outcome, result.told) for result in results] == [("passed", "")] * len(results)
    assert len(results) >= 2
    policy = Policy.load(tmp_path / "policy.yaml")
    found = {finding.kind for finding in lint(policy)}
    assert found == ({"open-to-any"} if preset in ("general-web", "all-open") and source is None else set())
    rules = policy.group(preset).security_group_rules
    served = [r for r in rules if r.direction == "ingress" and r.remote_group_id != preset]
    assert all(f"rule={rule.id}\n" in made.tests for rule in served)


@pytest.mark.parametrize(
    "source",
    [
        "2001:db8::/32",
        "::/0",
        "2000::/3",
        "::/1",
        "8000::/1",
        "0.0.0.0/0",
        "203.0.113.0/24",
        "128.0.0.0/1",
        "0.0.0.0/1",
    ],
)
@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "default"])
def test_who_is_refused_is_outside_of_a_wide_source(preset: str, source: str, tmp_path: Path) -> None:
    """Where nobody is outside, the case is left out."""
    made = beginning(PRESETS[preset], policy_file="policy.yaml", source=source)
    (tmp_path / "policy.yaml").write_text(made.policy)
    (tmp_path / "policy.test.yaml").write_text(made.tests)
    results = [run_case(case) for case in find_cases([str(tmp_path)])]
    assert [(result.outcome, result.told) for result in results] == [("passed", "")] * len(results)
    assert ("nobody else comes in" in made.tests) == (not source.endswith("/0"))


def test_without_its_rules_the_tests_fail(tmp_path: Path) -> None:
    made = beginning(PRESETS["ssh"], policy_file="policy.yaml")
    (tmp_path / "policy.yaml").write_text(made.policy.replace("multiport: '22'", "multiport: '2222'"))
    (tmp_path / "policy.test.yaml").write_text(made.tests)
    assert [run_case(case).outcome for case in find_cases([str(tmp_path)])].count("failed") == 1


@pytest.mark.parametrize(
    ("place", "policy", "tests"),
    [
        ("", "policy.yaml", "policy.test.yaml"),
        ("a/b", "a/b/policy.yaml", "a/b/policy.test.yaml"),
        ("a/web.yml", "a/web.yml", "a/web.test.yml"),
    ],
)
def test_where_it_is_written(place: str, policy: str, tests: str, tmp_path: Path) -> None:
    done = run("new", tmp_path / place, "--preset", "database", "--json")
    assert done.exit_code == 0, done.output
    told = {"preset": "database", "policy": str(tmp_path / policy), "tests": str(tmp_path / tests)}
    assert json.loads(done.stdout) == told
    assert run("test", tmp_path / tests).exit_code == 0


def test_nothing_that_is_there_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "policy.test.yaml").write_text("mine")
    done = run("new", tmp_path)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"{tmp_path}/policy.test.yaml is there already: name another file or folder, or add --force\n"
    assert [path.name for path in tmp_path.iterdir()] == ["policy.test.yaml"]
    assert run("new", tmp_path, "--force").exit_code == 0
    assert run("test", tmp_path).exit_code == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--preset", "wbe"], '--preset: preset "wbe" is not known: did you mean web?; dataplane new --preset list'),
        (["--preset", "default", "--from", "10.0.0.0/8"], "--preset default: it opens no service: it takes no sources"),
        (["--from", "10.0.0.1/8"], "--preset web: it cannot be for 10.0.0.1/8, which has host bits set: write"),
    ],
)
def test_what_cannot_begin_is_one_sentence(words: list[str], told: str, tmp_path: Path) -> None:
    done = run("new", tmp_path, *words)
    assert (done.exit_code, done.stderr[: len(told)], done.stderr.count("\n")) == (2, told, 1)
    assert list(tmp_path.iterdir()) == []


def test_the_presets_are_listed() -> None:
    assert [line.split()[0] for line in run("new", "--preset", "list").stdout.splitlines()] == list(PRESETS)
    assert list(json.loads(run("new", "--preset", "list", "--json").stdout)) == list(PRESETS)


# ---- clone ----

TEXT = """\
# the policy
security_groups:
  # for the web
  - id: web  # a name
    security_group_rules:
      - {direction: ingress, remote_group_id: web}  # each other
      - id: A02
        direction: egress
        description: |
          all
          of it
# who is there
instances:
  - {id: a, addresses: [10.0.0.1], security_groups: [web]}
"""


def _cloned(policy: Policy, group: str, new_id: str) -> Policy:
    return apply(policy, parse_change({"clone_group": {"security_group": group, "id": new_id}}))


def test_a_clone_leaves_all_else_as_it_was_written(tmp_path: Path) -> None:
    """Comments stay; the policy is that of the change `clone_group`."""
    (tmp_path / "p.yaml").write_text(TEXT)
    done = run("clone", tmp_path / "p.yaml", "web", "web-2")
    assert (done.exit_code, done.stderr) == (0, "")
    changed = list(difflib.ndiff(TEXT.splitlines(), done.stdout.splitlines()))
    assert {line[:2] for line in changed} == {"  ", "+ "}
    assert Policy.parse(done.stdout) == _cloned(Policy.parse(TEXT), "web", "web-2")


@pytest.mark.parametrize(
    "text",
    [
        '{"security_groups": [{"id": "web"}]}',
        "security_groups: [{id: web}]  # in a row",
        "security_groups:\n- id: web",
        "security_groups:\n- {id: web,\n   name: x}\n\n\n# end\n",
        "instances: []\nsecurity_groups:\n- &w {id: web}\n",
        "{security_groups: [{id: web}]}",
        "security_groups:\r\n- id: web\r\n",
    ],
)
def test_a_clone_of_any_form_of_a_document_is_the_policy_with_the_group(text: str) -> None:
    done = run("clone", "-", "web", "new", stdin=text)
    assert done.exit_code == 0
    assert Policy.parse(done.stdout) == _cloned(Policy.parse(text), "web", "new")
    assert ("written anew" in done.stderr) == text.startswith("security_groups: [")


def test_a_clone_in_place_and_beside(tmp_path: Path) -> None:
    path, other = tmp_path / "p.yaml", tmp_path / "q.yaml"
    path.write_text(TEXT)
    assert run("clone", path, "web", "x", "-o", other).exit_code == 0
    assert path.read_text() == TEXT
    refused = run("clone", path, "web", "y", "-o", other)
    assert refused.exit_code == 2
    assert "--force overwrites it" in refused.stderr
    assert run("clone", path, "web", "x", "-o", path, "--force").exit_code == 2
    done = run("clone", path, "web", "x", "--in-place")
    assert (done.exit_code, done.stdout) == (0, f"{path} has the security group x, a copy of web\n")
    assert path.read_text() == other.read_text()
    as_json = run("clone", path, "web", "z", "--json")
    assert json.loads(as_json.stdout)["security_groups"][-1]["id"] == "z"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["web", "web"], 'security group id "web" is used already\n'),
        (["wbe", "new"], '"wbe" is no security group of this policy; did you mean "web"?\n'),
        (["web", "new", "-i", "-o", "x"], "--in-place writes into POLICY: name a file there, and leave -o out\n"),
    ],
)
def test_what_cannot_be_cloned_is_one_sentence(words: list[str], told: str, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(TEXT)
    done = run("clone", path, *words)
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", told)
    assert path.read_text() == TEXT
