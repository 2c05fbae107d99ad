"""What documents, code and tests refer to is there: files that are linked, and clauses of the specification."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _files(*endings: str) -> list[Path]:
    named = subprocess.run(
        ["git", "ls-files"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.splitlines()
    return [ROOT / name for name in named if name.endswith(endings) and (ROOT / name).is_file()]


def _clauses() -> set[str]:
    """The numbers of sections and clauses: 4, 4.4."""
    found: set[str] = set()
    section = ""
    for line in (ROOT / "docs/specification.md").read_text().splitlines():
        if match := re.match(r"## (\d+)\. ", line):
            section = match[1]
            found.add(section)
        elif match := re.match(r"(\d+)\. ", line):
            found.add(f"{section}.{match[1]}")
    return found


def test_every_link_in_a_document_leads_to_a_file() -> None:
    dead = [
        f"{path.relative_to(ROOT)}: {target}"
        for path in _files(".md")
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", path.read_text())
        if not (path.parent / target).exists()
    ]
    assert dead == []


def test_every_clause_that_is_named_is_in_the_specification() -> None:
    clauses = _clauses()
    assert {"2", "3.5", "4.9", "5.7", "7"} <= clauses
    unknown = {
        f"{path.relative_to(ROOT)}: SPEC {number}"
        for path in _files(".py", ".pyi", ".c", ".h", ".md", ".yaml", "Makefile")
        for number in re.findall(r"\bSPEC (\d+(?:\.\d+)?)", path.read_text(errors="replace"))
        if number not in clauses
    }
    assert unknown == set()


def test_the_page_of_the_house_names_files_that_are_there_and_leaves_no_clause_out() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    named = set(re.findall(r"`((?:dataplane|csrc|tests)/[\w./]*|pyproject\.toml)`", page))
    assert len(named) > 30
    assert {name for name in named if not (ROOT / name).exists()} == set()
    # No part of the house is left out: a module of the core, a package, a module beside the packages.
    parts = [*(ROOT / "csrc").glob("*.c"), *(ROOT / "dataplane").glob("[!_]*.py")]
    names = [str(path.relative_to(ROOT)) for path in parts]
    names += [f"{path.parent.name}/" for path in (ROOT / "dataplane").glob("*/__init__.py")]
    assert [name for name in names if name not in page] == []
    told = set(re.findall(r"\d+(?:\.\d+)?", " ".join(re.findall(r"^\| ([\d., ]+) \|", page, re.MULTILINE))))
    untold = {clause for clause in _clauses() if clause not in told and clause.partition(".")[0] not in told}
    # 1 is of words, and the heads of sections that are told clause by clause stand for nothing of their own.
    assert untold <= {"1", "3", "4", "5", "8"}
