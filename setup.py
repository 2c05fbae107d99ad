"""The extension; all else about the package stands in pyproject.toml."""

from runpy import run_path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

BUILD = "dataplane/_core/build.py"
build = run_path(BUILD)


class BuildExtension(build_ext):
    """Links cffi's generated C with the objects of core and io, which build.py compiles."""

    def pre_run(self, extension: Extension, ffi: Any) -> None:
        """Called by cffi before it writes the generated C."""
        objects, exports = build["extension_objects"]()
        extension.extra_objects += map(str, objects)
        extension.extra_link_args += [f"-Wl,--version-script={exports}"]
        extension.depends += [*map(str, objects), str(exports)]


setup(
    cffi_modules=[f"{BUILD}:ffibuilder"],
    cmdclass={"build_ext": BuildExtension},
    # The extension keeps to Python's stable ABI: one wheel serves 3.11 and later.
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
