"""Whether workers use io_uring: where it is wanted, and where the system refuses it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dataplane.live.firewall import Firewall
from dataplane.policy import Policy

from .scene import POLICY

# A filter of system calls: io_uring_setup, which has the same number everywhere, fails with an error; all else goes on.
REFUSED = """
import ctypes, errno, struct
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, 425), (0x06, 0, 0, 0x00050000 | {error}), (0x06, 0, 0, 0x7fff0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code))) == 0, ctypes.get_errno()

from dataplane.live.firewall import Firewall
from dataplane.policy import Policy

firewall = Firewall(Policy.parse({policy!r}))
firewall.start()
print(firewall.io_uring())
firewall.stop()
"""


def test_it_is_used_where_it_can_be() -> None:
    firewall = Firewall(Policy.parse(POLICY), workers=2)
    assert firewall.io_uring() == (False, None)
    firewall.start()
    used, refused = firewall.io_uring()
    assert used is (refused is None)
    firewall.stop()
    assert firewall.io_uring() == (False, None)


def test_it_is_not_used_where_nobody_wants_it() -> None:
    firewall = Firewall(Policy.parse(POLICY), io_uring=False)
    firewall.start()
    assert firewall.io_uring() == (False, None)
    firewall.stop()


@pytest.mark.parametrize(("error", "said"), [(1, "Operation not permitted"), (38, "Function not implemented")])
def test_a_system_that_refuses_it(error: int, said: str) -> None:
    """As a container's filter of system calls does, or an old kernel: workers do without, and say why."""
    script = REFUSED.format(error=error, policy=POLICY)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == f"(False, {said!r})\n", done.stderr
