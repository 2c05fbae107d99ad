"""How C is compiled: the sources of the two build targets, their flags, and the declarations that cffi is given.

Two users. The packager (setup.py) asks for the `ffibuilder` and for the objects that the extension is linked with;
`make` runs this file as a script for what is not Python: libraries, C tests and fuzz targets:

    build.py --output DIRECTORY [--sanitize address,undefined] [--fuzz] [--library core|io]... [PROGRAM.c]...

Objects are compiled in parallel, and only when their source, a header of theirs or their command has changed. The
environment's CC names another compiler, and its CFLAGS stand last in each command (CFLAGS=-Wno-error, say).
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cffi import FFI

ROOT = Path(__file__).resolve().parents[2]
# What Python sees of the C side; the first is what the others stand on.
_NAMES = (
    *("dp_api.h", "dp_tables.h", "dp_plane.h", "dp_counters.h", "dp_connections.h"),
    *("dp_findings.h", "dp_live.h", "dp_captures.h", "dp_text.h"),
)
HEADERS = tuple(Path("csrc", name) for name in _NAMES)
EXTENSION = "dataplane._core._dataplane"

BEGIN = "/* cffi: begin */"
END = "/* cffi: end */"

LANGUAGE = ("-std=c11", "-fPIC", f"-ffile-prefix-map={ROOT}=.")
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wmissing-prototypes")
# Nothing replaces our functions at run time, so calls within the library need neither a table nor a pause for one.
# A compiler newer than ours may warn of more: that must not stop a user's build (CI sets CFLAGS=-Werror).
OPTIMISED = ("-O3", "-g1", "-fno-plt", "-fno-semantic-interposition", "-Wno-error")
# -O1 keeps the reports of sanitizers readable and the fuzzers fast.
SANITIZED = ("-O1", "-g", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all")
# What cffi writes has no prototypes and leaves arguments unused; that it fits our header must be certain.
GENERATED = (
    *("-std=c11", "-O3", "-g1", "-fno-plt", "-Wall", "-Wextra", "-Wno-unused-parameter"),
    *("-Werror=incompatible-pointer-types", "-Werror=implicit-function-declaration"),
)


class BuildError(SystemExit):
    """The build cannot go on; ends the program with a sentence on standard error."""


class Target(NamedTuple):
    """A set of C files compiled with the same flags; paths are relative to the root of the tree."""

    folder: str
    flags: tuple[str, ...]

    def sources(self) -> list[Path]:
        """The target's C files, in the order of their names."""
        return sorted(path.relative_to(ROOT) for path in (ROOT / self.folder).glob("*.c"))


# io may use what Linux has over POSIX; the core is plain C but for the one file that says so itself.
TARGETS = {"core": Target("csrc", ()), "io": Target("csrc/io", ("-D_GNU_SOURCE=1", "-Icsrc"))}
PROGRAM_FLAGS = TARGETS["io"].flags


class Variant(NamedTuple):
    """One way of compiling everything: with which compiler, and instrumented how."""

    compiler: tuple[str, ...]
    sanitize: str = ""
    fuzz: bool = False

    def compile_flags(self) -> tuple[str, ...]:
        instrumented = ",".join(filter(None, ["fuzzer-no-link" if self.fuzz else "", self.sanitize]))
        return (*SANITIZED, f"-fsanitize={instrumented}") if instrumented else OPTIMISED

    def link_flags(self) -> tuple[str, ...]:
        linked = ",".join(filter(None, ["fuzzer" if self.fuzz else "", self.sanitize]))
        return (f"-fsanitize={linked}",) if linked else ()


class Step(NamedTuple):
    """A command that makes `output` from `inputs`; a compiler adds what it read to the file `.d` beside the output."""

    output: Path
    inputs: tuple[Path, ...]
    command: tuple[str, ...]

    def is_due(self) -> bool:
        """Whether the output is missing, older than something it was made from, or made by another command."""
        record, dependencies = self._beside(".command"), self._beside(".d")
        if not (self.output.exists() and record.exists() and record.read_text() == shlex.join(self.command)):
            return True
        inputs = set(self.inputs)
        if dependencies.exists():
            inputs.update(map(Path, dependencies.read_text().partition(":")[2].replace("\\\n", " ").split()))
        made = self.output.stat().st_mtime_ns
        return any(not (ROOT / path).exists() or (ROOT / path).stat().st_mtime_ns >= made for path in inputs)

    def run(self) -> None:
        if not self.is_due():
            return
        self.output.parent.mkdir(parents=True, exist_ok=True)
        self.output.unlink(missing_ok=True)
        try:
            status = subprocess.run(self.command, cwd=ROOT, check=False).returncode
        except FileNotFoundError:
            raise BuildError(f"build: {self.command[0]} is not installed; install it, or name another in CC") from None
        if status:
            raise BuildError(f"build: {self.output.name} could not be made; the compiler's messages are above")
        self._beside(".command").write_text(shlex.join(self.command))

    def _beside(self, suffix: str) -> Path:
        return self.output.with_name(self.output.name + suffix)


def run_all(steps: Iterable[Step]) -> None:
    """Runs independent steps, as many at a time as there are processors."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(Step.run, steps):
            pass


def _compiler(default: str) -> tuple[str, ...]:
    return tuple(shlex.split(os.environ.get("CC", default)))


def _object(source: Path, flags: Sequence[str], variant: Variant, directory: Path) -> Step:
    output = directory / source.with_suffix(".o")
    environment = shlex.split(os.environ.get("CFLAGS", ""))
    dependencies = ("-MMD", "-MF", f"{output}.d", "-MT", "object")
    flags = (*LANGUAGE, *WARNINGS, *variant.compile_flags(), *flags, *environment, *dependencies)
    return Step(output, (source,), (*variant.compiler, *flags, "-c", str(source), "-o", str(output)))


def _target_objects(name: str, variant: Variant, directory: Path) -> list[Step]:
    target = TARGETS[name]
    return [_object(source, target.flags, variant, directory) for source in target.sources()]


def build_libraries(names: Iterable[str], variant: Variant, directory: Path) -> list[Path]:
    """Makes lib<name>.a of each named build target in `directory` and returns their paths."""
    objects = {name: _target_objects(name, variant, directory) for name in names}
    run_all(step for steps in objects.values() for step in steps)
    libraries = []
    for name, steps in objects.items():
        inputs = tuple(step.output for step in steps)
        output = directory / f"lib{name}.a"
        libraries.append(Step(output, inputs, ("ar", "rcsD", str(output), *map(str, inputs))))
    run_all(libraries)
    return [step.output for step in libraries]


def build_programs(sources: Iterable[Path], variant: Variant, directory: Path) -> list[Path]:
    """Links each source, a program of its own, with core and io; returns the programs' paths, in the same order.

    As libraries, so that a program which has all of a module's functions itself is linked with its own.
    """
    mains = [_object(_inside(source), PROGRAM_FLAGS, variant, directory) for source in sources]
    # io before core, which it stands on.
    common = build_libraries(reversed(TARGETS), variant, directory)
    run_all(mains)
    programs = []
    for main in mains:
        inputs = (main.output, *common)
        output = directory / main.output.stem
        link = (*variant.compiler, *variant.link_flags(), *map(str, inputs), "-o", str(output))
        programs.append(Step(output, inputs, link))
    run_all(programs)
    return [step.output for step in programs]


def _inside(source: Path) -> Path:
    try:
        return source.resolve(strict=True).relative_to(ROOT)
    except (FileNotFoundError, ValueError):
        raise BuildError(f"build: {source} is no file of this project") from None


def declarations() -> str:
    """What cffi is given of all headers."""
    return "".join(section((ROOT / header).read_text(), header) for header in HEADERS)


def section(header: str, path: Path) -> str:
    """The part of a header that cffi is given; BuildError unless each mark stands there once, in order."""
    for mark in (BEGIN, END):
        found = header.count(mark)
        if found != 1:
            raise BuildError(f"build: {path} has the mark '{mark}' {found} times; it must stand there exactly once")
    declared, end, _ = header.partition(BEGIN)[2].partition(END)
    if not end:
        raise BuildError(f"build: {path} has the mark '{END}' before '{BEGIN}'; it must come after")
    return declared


def declared_functions() -> list[str]:
    """The names of the functions that the headers declare, in cffi's own reading, sorted."""
    import cffi

    ffi = cffi.FFI()
    ffi.cdef(declarations())
    names = ffi.dlopen(None)
    return sorted(name for name in dir(names) if not isinstance(getattr(names, name, None), int))


def ffibuilder() -> FFI:
    """The description of the extension for `cffi_modules`; its C part comes from `extension_objects`."""
    import cffi

    if sys.platform != "linux":
        raise BuildError(f"build: dataplane runs on Linux only; this is {sys.platform}")
    builder = cffi.FFI()
    builder.cdef(declarations())
    includes = "\n".join(f'#include "{header.name}"' for header in HEADERS)
    builder.set_source(EXTENSION, includes, include_dirs=["csrc"], extra_compile_args=list(GENERATED))
    return builder


def extension_objects() -> tuple[list[Path], Path]:
    """Compiles core and io for the extension; returns the objects and the linker's list of what it exports.

    Only what the headers declare is exported, and the module's own entry point.
    """
    directory = ROOT / "build" / "extension"
    steps = [step for name in TARGETS for step in _target_objects(name, Variant(_compiler("cc")), directory)]
    run_all(steps)
    entry_point = f"PyInit_{EXTENSION.rpartition('.')[2]}"
    exported = [entry_point, *declared_functions()]
    script = directory / "exports.map"
    text = "{ global: " + "; ".join(exported) + "; local: *; };\n"
    if not script.exists() or script.read_text() != text:
        script.write_text(text)
    return [step.output for step in steps], script


def main(arguments: Sequence[str] | None = None) -> None:
    """Builds what the command line names and prints the paths of it, one to a line."""
    parser = argparse.ArgumentParser(description="Compiles libraries, C tests and fuzz targets of dataplane.")
    parser.add_argument("programs", nargs="*", type=Path, metavar="PROGRAM.c", help="programs, linked with core and io")
    parser.add_argument("--output", type=Path, required=True, metavar="DIRECTORY", help="where everything made goes")
    parser.add_argument("--library", action="append", default=[], choices=list(TARGETS), help="make a static library")
    parser.add_argument("--sanitize", default="", metavar="LIST", help="sanitizers, as in -fsanitize=LIST")
    parser.add_argument("--fuzz", action="store_true", help="make the programs libFuzzer targets, with clang")
    options = parser.parse_args(arguments)
    directory = options.output.resolve()
    variant = Variant(_compiler("clang" if options.fuzz else "cc"), options.sanitize, options.fuzz)
    made = build_libraries(options.library, variant, directory)
    if options.programs:
        made += build_programs(options.programs, variant, directory)
    print(*made, sep="\n")


if __name__ == "__main__":
    main()
