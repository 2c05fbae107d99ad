"""Writes `_dataplane.pyi`, the types of the compiled module, as the module itself tells them: `make stub`.

Pointers, arrays and structures are CData to a type checker; what it checks is that a name exists, how many arguments it
takes, and which of them are numbers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dataplane._core import ffi, lib

PATH = Path(__file__).with_name("_dataplane.pyi")
WIDTH = 120

HEAD = '''\
"""Types of the compiled module, from the headers that build.py names; written by stub.py (`make stub`), not by hand."""

from collections.abc import Callable, Iterator
from typing import Any, final

from typing_extensions import Buffer

@final
class CData:
    """A C pointer, array or structure; its fields are attributes."""

    def __getattr__(self, name: str) -> Any: ...
    def __setattr__(self, name: str, value: Any) -> None: ...
    def __getitem__(self, index: int | slice) -> Any: ...
    def __setitem__(self, index: int | slice, value: Any) -> None: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Any]: ...
    def __bool__(self) -> bool: ...
    def __int__(self) -> int: ...
    def __add__(self, offset: int) -> CData: ...
    def __sub__(self, other: int | CData) -> Any: ...
    def __enter__(self) -> CData: ...
    def __exit__(self, *exception: object) -> None: ...

@final
class CType:
    """A C type; which attributes there are depends on its kind."""

    cname: str
    kind: str
    def __getattr__(self, name: str) -> Any: ...

@final
class Memory:
    """C memory as a Python buffer."""

    def __buffer__(self, flags: int, /) -> memoryview: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int | slice) -> bytes: ...
    def __setitem__(self, index: int | slice, value: bytes) -> None: ...

@final
class FFI:
    """cffi's own functions, as far as they are used here."""

    NULL: CData
    def addressof(self, cdata: CData, *field_or_index: str | int) -> CData: ...
    def buffer(self, cdata: CData, size: int = -1) -> Memory: ...
    def cast(self, cdecl: str, value: CData | int) -> CData: ...
    def from_buffer(self, cdecl: str, buffer: Buffer, require_writable: bool = False) -> CData: ...
    def gc(self, cdata: CData, destructor: Callable[[CData], object] | None, size: int = 0) -> CData: ...
    def memmove(self, destination: CData | Buffer, source: CData | Buffer, n: int) -> None: ...
    def new(self, cdecl: str, init: Any = None) -> CData: ...
    def offsetof(self, cdecl: str, field: str) -> int: ...
    def release(self, cdata: CData) -> None: ...
    def sizeof(self, cdecl: str | CData) -> int: ...
    def string(self, cdata: CData, maxlen: int = -1) -> bytes: ...
    def typeof(self, cdecl: object) -> CType: ...
    def unpack(self, cdata: CData, length: int) -> Any: ...

'''

TAIL = """
ffi: FFI
lib: Lib
"""


def _python_type(ctype: Any) -> str:
    if ctype.kind == "void":
        return "None"
    if ctype.kind == "enum":
        return "int"
    if ctype.kind == "primitive":
        return {"char": "bytes", "_Bool": "bool", "float": "float", "double": "float"}.get(ctype.cname, "int")
    return "CData"


def _method(name: str) -> str:
    function: Any = ffi.typeof(getattr(lib, name))
    arguments = ["self", *(f"a{i}: {_python_type(argument)}" for i, argument in enumerate(function.args))]
    listed = ", ".join([*arguments, "/"])
    result = _python_type(function.result)
    line = f"    def {name}({listed}) -> {result}: ..."
    return line if len(line) <= WIDTH else f"    def {name}(\n        {listed}\n    ) -> {result}: ..."


def stub() -> str:
    """The text of `_dataplane.pyi` for the module as it is built now."""
    constants = [name for name in dir(lib) if isinstance(getattr(lib, name), int)]
    functions = [name for name in dir(lib) if name not in constants]
    lines = ["@final", "class Lib:", '    """The functions and constants of the C side."""', ""]
    lines += [f"    {name}: int" for name in sorted(constants)]
    lines += [_method(name) for name in sorted(functions)]
    return HEAD + "\n".join(lines) + "\n" + TAIL


if __name__ == "__main__":
    PATH.write_text(stub())
