"""The rights that a running firewall needs, and no others.

Capabilities belong to a thread, and new threads have those of the one that makes them: they are dropped after the ports
are open, and before a worker starts.
"""

from __future__ import annotations

import ctypes
import os

CAP_NET_ADMIN = 12
CAP_NET_RAW = 13

#: To attach to interfaces that come later, and to read and send on them.
NEEDED = (CAP_NET_ADMIN, CAP_NET_RAW)

_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    """32 capabilities of each set; two of these are 64."""

    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def keep_only(capabilities: tuple[int, ...] = NEEDED) -> None:
    """Gives up every capability but these, for this thread and all that it starts, for good.

    What is not there is not gained. The user stays who it is: root without capabilities owns its files and no more.
    Raises OSError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    header = _Header(_CAPABILITY_VERSION_3, 0)
    sets = (_Sets * 2)()
    _checked(libc.capget(ctypes.byref(header), sets))
    for capability in range(64):
        present = libc.prctl(_PR_CAPBSET_READ, capability, 0, 0, 0)
        if present == 1 and capability not in capabilities:
            # Refused without CAP_SETPCAP; then there was little to give up.
            libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    for half, part in enumerate(sets):
        kept = sum(1 << capability - 32 * half for capability in capabilities if capability // 32 == half)
        part.permitted &= kept
        part.effective = part.permitted
        part.inheritable = 0
    _checked(libc.capset(ctypes.byref(header), sets))
    _checked(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def _checked(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
