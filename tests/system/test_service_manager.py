"""The service unit under a real systemd, which runs as a user's manager in namespaces of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .network import needs_root_and, until

ROOT = Path(__file__).parents[2]
SYSTEMD = Path("/lib/systemd/systemd")

pytestmark = [
    needs_root_and("systemctl", "unshare"),
    pytest.mark.skipif(not SYSTEMD.exists(), reason="there is no systemd here"),
]

POLICY = """
security_groups: [{id: web, security_group_rules: [{id: out, direction: egress}]}]
instances: [{id: a, addresses: [10.0.0.5], security_groups: [web], interface: dp-nobody}]
"""

#: In new network, mount and process namespaces; a line of standard input is the arguments of a systemctl.
MANAGER = """
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system /run/user
export XDG_RUNTIME_DIR=/run/user XDG_STATE_HOME=$1/state XDG_CONFIG_HOME=$1/config
export SYSTEMD_UNIT_PATH=$1:/lib/systemd/user
unset DBUS_SESSION_BUS_ADDRESS NOTIFY_SOCKET
"$0" --user </dev/null >"$1/manager.log" 2>&1 &
while ! [ -S /run/user/systemd/private ]; do sleep 0.05; done
while read -r line; do
    if [ "$line" = hang ]; then kill -STOP "$(systemctl --user show -P MainPID dataplane)"
    else systemctl --user --no-pager $line 2>&1; fi
    echo "status $?"
done
"""


class Manager:
    """A systemd that knows the service; its folder has the unit and the policy."""

    def __init__(self, folder: Path) -> None:
        self.policy = folder / "policy.yaml"
        self._process = subprocess.Popen(
            ["unshare", "-nmpf", "--mount-proc", "--kill-child", "bash", "-c", MANAGER, str(SYSTEMD), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def do(self, command: str) -> tuple[int, str]:
        """Runs `systemctl` with these arguments; its exit status and what it printed."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(command + "\n")
        lines = []
        for line in self._process.stdout:
            if line.startswith("status "):
                return int(line.split()[1]), "".join(lines)
            lines.append(line)
        raise AssertionError(f"the manager ended: {lines}")

    def show(self, name: str) -> str:
        """A property of the service."""
        return self.do(f"show -P {name} dataplane")[1].strip()

    def end(self) -> None:
        """Ends it, with all that runs there."""
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    program = Path(sys.executable).with_name("dataplane")
    text = (ROOT / "systemd" / "dataplane.service").read_text()
    text = text.replace("/usr/local/bin/dataplane", str(program)).replace("/etc/dataplane", str(tmp_path))
    # A user's manager cannot do what stands between these.
    begin, end = text.index("# Ports need these two"), text.index("[Install]")
    text = (text[:begin] + text[end:]).replace("WatchdogSec=60", "WatchdogSec=4")
    (tmp_path / "dataplane.service").write_text(text)
    (tmp_path / "policy.yaml").write_text(POLICY)
    made = Manager(tmp_path)
    try:
        yield made
    finally:
        made.end()


def test_the_service(manager: Manager) -> None:
    """Ready when it filters; a reload that fails where the policy has mistakes; started again when it hangs."""
    assert manager.do("start dataplane") == (0, "")
    assert manager.show("ActiveState") == "active"
    assert manager.show("StatusText") == "filtering 1 ports"

    assert manager.do("reload dataplane") == (0, "")
    manager.policy.write_text(POLICY + "nonsense: 1\n")
    status, said = manager.do("reload dataplane")
    assert status == 1, said
    manager.policy.write_text(POLICY)
    assert manager.do("reload dataplane") == (0, "")
    assert manager.show("ActiveState") == "active"
    assert manager.show("NRestarts") == "0"

    manager.do("hang")
    until(lambda: manager.show("NRestarts") == "1", "it is started again", seconds=60)
    until(lambda: manager.show("ActiveState") == "active", "and filters", seconds=60)
