"""Places that cannot be written: what is told of them has what helps."""

from __future__ import annotations

import errno
import os

import pytest

from dataplane.live.interfaces import links, locks


@pytest.mark.parametrize(
    ("refused", "told"),
    [
        (links.refusal, "/proc/sys cannot be written, as in a container that may not: let it (docker run"),
        (
            lambda _, error: locks._unusable(error),
            "mount something there that can be written (mount -t tmpfs none /run",
        ),
    ],
)
def test_a_read_only_file_system_is_told_with_a_remedy(refused: object, told: str) -> None:
    """Its owner is not what is wrong."""
    assert callable(refused)
    error = OSError(errno.EROFS, os.strerror(errno.EROFS))
    assert told in str(refused("switching IPv6 off on interface eth0", error))
