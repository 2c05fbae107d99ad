"""When the build makes something anew, and what it says when it cannot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dataplane._core.build import BuildError, Step, Variant, build_programs


def later(path: Path, than: Path) -> None:
    """Makes `path` one second younger than `than`."""
    moment = than.stat().st_mtime_ns + 10**9
    os.utime(path, ns=(moment, moment))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_text("one")
    return path


@pytest.fixture
def step(tmp_path: Path, source: Path) -> Step:
    output = tmp_path / "made" / "output"
    step = Step(output, (source,), ("cp", str(source), str(output)))
    step.run()
    later(output, source)
    return step


def test_a_step_makes_its_output_once(step: Step) -> None:
    assert step.output.read_text() == "one"
    assert not step.is_due()


def test_a_younger_input_makes_a_step_due(step: Step, source: Path) -> None:
    later(source, step.output)
    assert step.is_due()


def test_a_younger_header_makes_a_step_due(step: Step, tmp_path: Path) -> None:
    header = tmp_path / "header.h"
    header.touch()
    step.output.with_name("output.d").write_text(f"object: {step.inputs[0]} \\\n {header}\n")
    later(step.output, header)
    assert not step.is_due()
    later(header, step.output)
    assert step.is_due()


def test_a_header_that_is_gone_makes_a_step_due(step: Step, tmp_path: Path) -> None:
    step.output.with_name("output.d").write_text(f"object: {tmp_path / 'gone.h'}\n")
    assert step.is_due()


def test_another_command_makes_a_step_due(step: Step) -> None:
    assert step._replace(command=(*step.command, "--verbose")).is_due()


def test_a_failed_step_leaves_nothing_and_is_told(step: Step, source: Path) -> None:
    failing = step._replace(command=("false",))
    with pytest.raises(BuildError, match="output could not be made"):
        failing.run()
    assert not step.output.exists()


def test_a_missing_compiler_is_told(step: Step) -> None:
    with pytest.raises(BuildError, match="no-such-compiler is not installed"):
        step._replace(command=("no-such-compiler",)).run()


def test_a_program_that_is_not_ours_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"elsewhere\.c is no file of this project"):
        build_programs([tmp_path / "elsewhere.c"], Variant(("cc",)), tmp_path)
    assert not list(tmp_path.iterdir())
