"""The one door to C: nothing else imports the extension."""

from __future__ import annotations

from typing import TYPE_CHECKING

try:
    from dataplane._core._dataplane import ffi, lib
except ImportError as error:
    raise ImportError(f"dataplane's C part is not built for this Python: run 'pip install .' ({error})") from error

if TYPE_CHECKING:
    from dataplane._core._dataplane import CData
else:
    CData = ffi.CData

__all__ = ["CData", "ffi", "lib"]
