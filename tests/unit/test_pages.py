"""Every command of the documents does what they show; those that need root are in tests/system/test_tutorial.py."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dataplane.insight.sentences import CAUSES
from dataplane.verdict import CAUSE_WORDS, REASON_WORDS
from tests.support import pages

ROOT = Path(__file__).parents[2]
#: Pages whose commands are run here.
PAGES = (
    *("diff", "dropped", "explain", "flows", "learn", "lint", "presets", "replay", "report", "start", "timing"),
    *("scale", "tutorial-policy"),
)
#: What they use besides, where a page does.
PROGRAMS = {"replay": ("tcpdump", "tshark")}


@pytest.mark.parametrize("name", PAGES)
def test_its_commands_do_what_it_shows(name: str, tmp_path: Path) -> None:
    if missing := [program for program in PROGRAMS.get(name, ()) if shutil.which(program) is None]:
        pytest.skip(f"{missing[0]} is needed")
    for shared in ("examples", "pcaps"):
        (tmp_path / shared).symlink_to(ROOT / shared)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environ = {"PATH": path, "HOME": str(tmp_path), "LC_ALL": "C.UTF-8", "PYTHONPATH": str(ROOT)}
    page = ROOT / "docs" / f"{name}.md"
    assert sum(1 for command in pages.commands(page.read_text()) if command.shown) > 0
    assert pages.differences(page, tmp_path, environ) == []


def test_every_reason_and_cause_has_its_section() -> None:
    """`explain` names the section by the word."""
    page = (ROOT / "docs" / "dropped.md").read_text()
    anchors = set(re.findall(r"^\(([\w-]+)\)=$", page, re.MULTILINE))
    assert anchors == {*REASON_WORDS, *CAUSE_WORDS} - {"none"}
    assert set(CAUSES) <= anchors


def test_outputs_are_compared() -> None:
    """Line by line; dots stand for what differs from run to run."""
    assert pages.fits("a\nb 0.17 s  \nc\n", "a\nb ... s\nc\n")
    assert pages.fits("a\nb\nc\n", "...\nc\n")
    assert not pages.fits("a\nb\n", "a\n")
    assert not pages.fits("a\n", "a\nb\n")
    found = list(pages.commands("```console\n$ cat <<END\nx\nEND\nx\n# true\n```\n"))
    assert [(command.text, command.shown) for command in found] == [("cat <<END\nx\nEND", "x\n"), ("true", "")]


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    """Every page is in it, and what they link to."""
    command = ["-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", str(ROOT / "docs"), str(tmp_path)]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    dropped = (tmp_path / "dropped.html").read_text()
    assert 'id="tcp-window"' in dropped
    reference = (tmp_path / "policy.html").read_text()
    assert all(field in reference for field in ("multiport", "on_change", "port_security_enabled", "tcp_half_open"))
    timing = (tmp_path / "timing.html").read_text()
    drawn = re.findall(r"<desc>(.*?)</desc>(.*?)</svg>", timing, re.DOTALL)
    assert len(drawn) == (ROOT / "docs" / "timing.md").read_text().count("```{timing}") > 0
    for text, picture in drawn:
        # Lines are drawn, and no word is lost.
        assert picture.count('class="packet"') == len(re.findall(r"[-=]{2}&gt;|&lt;[-=]{2,}[^&\n]*\|", text))
        words = re.sub(r"&[lg]t;|[-=]{2,}|\.{4,}|\|", " ", text).split()
        assert sorted(words) == sorted(" ".join(re.findall(r"<text[^>]*>(.*?)</text>", picture)).split())
    # Nothing is asked of other hosts.
    for page in tmp_path.glob("*.html"):
        assert not re.search(r'<(?:script|img|link)\b[^>]*(?:src|href)="https?://', page.read_text()), page.name
