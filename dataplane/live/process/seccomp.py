"""The system calls that a running firewall never makes, refused by the kernel (seccomp, by libseccomp and pyseccomp).

Who takes the daemon over can start no program, look into no other process, mount nothing and load nothing into the
kernel. All else is allowed: what Python and its libraries call differs from version to version, and a call refused by
mistake would be a fault that shows late. A refused call fails with EPERM.

The filter holds for every thread that there is, and for those that come. It asks no speculation barriers for them
(there is no foreign code in them), and allowed calls are looked up in the kernel's bitmap of those.
"""

from __future__ import annotations

import contextlib
import errno
from typing import Any

from dataplane.installation import how_to_install

#: By what they are for; those that a machine does not have are left out.
REFUSED: dict[str, tuple[str, ...]] = {
    "programs": ("execve", "execveat", "uselib"),
    "other processes": ("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "pidfd_getfd", "kcmp"),
    "mounts": (
        *("mount", "umount", "umount2", "mount_setattr", "move_mount", "open_tree", "pivot_root", "chroot"),
        *("fsopen", "fsconfig", "fsmount", "fspick"),
    ),
    "namespaces": ("setns", "unshare"),
    "files by handle": ("open_by_handle_at", "name_to_handle_at"),
    "the kernel": (
        *("kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "create_module"),
        *("bpf", "perf_event_open", "userfaultfd", "lookup_dcookie", "syslog", "acct", "quotactl", "quotactl_fd"),
        *("io_uring_setup", "nfsservctl", "_sysctl", "vhangup"),
    ),
    "the machine": ("reboot", "swapon", "swapoff", "iopl", "ioperm", "sethostname", "setdomainname", "personality"),
    "clocks": ("settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "stime"),
    "keys": ("add_key", "request_key", "keyctl"),
}


class FilterError(Exception):
    """The filter cannot be put in force: one clause that says why."""


def install() -> int:
    """Refuses the calls to all threads of this process, for good; returns how many. Raises FilterError."""
    try:
        import pyseccomp
    except ModuleNotFoundError:
        raise FilterError(f"pyseccomp is not installed: {how_to_install('live')} brings it") from None
    except (RuntimeError, OSError, AttributeError):
        # It looks for the library when it is imported.
        raise FilterError("libseccomp is not installed: Debian's package is libseccomp2") from None
    refuse = pyseccomp.ERRNO(errno.EPERM)
    try:
        calls = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
        # Calls of the machine's other forms (32 bit) would go round the filter.
        calls.set_attr(pyseccomp.Attr.ACT_BADARCH, refuse)
        calls.set_attr(pyseccomp.Attr.CTL_TSYNC, 1)
        for name, value in ((pyseccomp.Attr.CTL_SSB, 1), (pyseccomp.Attr.CTL_OPTIMIZE, 2)):
            # Older versions know neither; the filter is the same.
            with contextlib.suppress(OSError):
                calls.set_attr(name, value)
        refused = 0
        for number in {_number(pyseccomp, name) for names in REFUSED.values() for name in names} - {None}:
            calls.add_rule(refuse, number)
            refused += 1
        calls.load()
    except OSError as error:
        raise FilterError(f"it is refused: {error.strerror or error}") from None
    return refused


def _number(pyseccomp: Any, name: str) -> int | None:
    """A call's number; None where this machine, or the library, does not have it."""
    number: int = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name)
    return number if number >= 0 else None
