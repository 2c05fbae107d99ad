"""One funnel for what C reports: an error code becomes an exception, with a class for each kind of fault."""

from __future__ import annotations

from dataplane._core import ffi, lib


class DataPlaneError(Exception):
    """The C side refused or failed; the text says what was being done and why it did not work."""


class OutOfMemoryError(DataPlaneError, MemoryError):
    """There is not enough memory; nothing has changed."""


class ArgumentError(DataPlaneError, ValueError):
    """A value that the C side does not take."""


class ReadError(DataPlaneError, OSError):
    """The system could not read or write a file."""


class FormatError(DataPlaneError, ValueError):
    """A file is not what it should be."""


class TruncatedError(FormatError):
    """A file ends in the middle of something."""


class LimitError(DataPlaneError):
    """A bound of a table is reached."""


ERRORS: dict[int, type[DataPlaneError]] = {
    lib.DP_E_MEMORY: OutOfMemoryError,
    lib.DP_E_ARGUMENT: ArgumentError,
    lib.DP_E_IO: ReadError,
    lib.DP_E_FORMAT: FormatError,
    lib.DP_E_TRUNCATED: TruncatedError,
    lib.DP_E_LIMIT: LimitError,
}


def check(code: int, what: str) -> int:
    """Returns `code`, a count or 0, when it is no error; else raises the error of that code.

    `what` says what was being done, as the beginning of a sentence: "making the connection table".
    """
    if code < 0:
        raise ERRORS.get(code, DataPlaneError)(f"{what}: {ffi.string(lib.dp_error_text(code)).decode()}")
    return code
