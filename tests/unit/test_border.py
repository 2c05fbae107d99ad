"""The border between Python and C: what the headers declare is what exists on both sides (CONTRIBUTING, Habits)."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from dataplane._core import build, errors, ffi, lib, stub

FUNCTIONS = set(build.declared_functions())


def stub_class(name: str) -> ast.ClassDef:
    tree = ast.parse(stub.PATH.read_text())
    return next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)


def test_cffi_reads_every_function_of_the_section() -> None:
    """Counted in another way than cffi's: a prototype's last line ends with ');', and no other line does."""
    assert len(FUNCTIONS) == sum(line.endswith(");") for line in build.declarations().splitlines())


def test_lib_has_the_declared_functions() -> None:
    assert {name for name in dir(lib) if not isinstance(getattr(lib, name), int)} == FUNCTIONS


def test_extension_exports_the_declared_functions_only() -> None:
    path = sys.modules["dataplane._core._dataplane"].__file__
    command = ["nm", "--dynamic", "--defined-only", "--just-symbols", str(path)]
    names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert set(names) == FUNCTIONS | {"PyInit__dataplane"}


def test_stub_has_the_declared_functions_and_all_constants() -> None:
    body = stub_class("Lib").body
    assert {node.name for node in body if isinstance(node, ast.FunctionDef)} == FUNCTIONS
    constants = {ast.unparse(node.target) for node in body if isinstance(node, ast.AnnAssign)}
    assert constants == set(dir(lib)) - FUNCTIONS


def test_stub_is_up_to_date() -> None:
    assert stub.PATH.read_text() == stub.stub(), "run 'make stub'"


def test_stub_names_only_what_cffi_has() -> None:
    names = {node.name for node in stub_class("FFI").body if isinstance(node, ast.FunctionDef)}
    assert names <= set(dir(ffi))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (f"int a;\n{build.END}\n", r"'/\* cffi: begin \*/' 0 times"),
        (f"{build.BEGIN}\nint a;\n", r"'/\* cffi: end \*/' 0 times"),
        (f"{build.BEGIN}\n{build.BEGIN}\n{build.END}\n", r"'/\* cffi: begin \*/' 2 times"),
        (f"{build.BEGIN}\n{build.END}\n{build.END}\n", r"'/\* cffi: end \*/' 2 times"),
        (f"{build.END}\nint a;\n{build.BEGIN}\n", r"before '/\* cffi: begin \*/'"),
    ],
    ids=["no begin", "no end", "two begins", "two ends", "end before begin"],
)
def test_build_fails_on_wrong_marks(header: str, message: str) -> None:
    with pytest.raises(build.BuildError, match=message):
        build.section(header, build.HEADERS[0])


def test_declarations_are_what_stands_between_the_marks() -> None:
    assert build.section(f"#x\n{build.BEGIN}\nint a;\n{build.END}\n#y", build.HEADERS[0]) == "\nint a;\n"


CODES: dict[int, str] = ffi.typeof("enum dp_error").elements


def test_every_error_code_has_its_exception() -> None:
    assert errors.ERRORS.keys() == CODES.keys()
    assert len(set(errors.ERRORS.values())) == len(CODES)


@pytest.mark.parametrize("code", CODES, ids=CODES.values())
def test_check_raises_the_exception_of_the_code_with_its_text(code: int) -> None:
    text = ffi.string(lib.dp_error_text(code)).decode()
    assert text != "unknown error"
    with pytest.raises(errors.DataPlaneError) as raised:
        errors.check(code, "opening a capture")
    assert type(raised.value) is errors.ERRORS[code]
    assert str(raised.value) == f"opening a capture: {text}"


@pytest.mark.parametrize("count", [0, 1, 2**31 - 1])
def test_check_returns_what_is_no_error(count: int) -> None:
    assert errors.check(count, "reading") == count
