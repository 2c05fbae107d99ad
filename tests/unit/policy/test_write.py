"""A policy that is written as a document: as people would write it, and safe to put where the policy file is."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from dataplane.policy import Policy, write

TEXT = """\
security_groups:
- id: web
  security_group_rules:
  - {id: A01, direction: ingress, protocol: tcp, multiport: '22,80-82', remote_ip_prefix: 172.16.0.0/24}
  - {id: out, direction: egress, enabled: false}
- {id: empty}
instances:
- id: a
  addresses: [10.0.0.1, 'fd00::1']
  mac: 02:00:00:00:09:01
  security_groups: [web]
  interface: tap-a
  tap: {mtu: 1400}
uplinks:
- {interface: eth1}
conntrack:
  max_entries: 1000
  timeouts: {icmp: 2.5}
"""


def test_it_is_what_people_would_write() -> None:
    written = write.as_yaml(write.document(Policy.parse(TEXT)))
    assert written == TEXT


@pytest.mark.parametrize(
    "text", ["1e5", "0o17", "0x1f", "1.5", "-3", "null", "~", "true", "on", "12:30", "é #: x", "'"]
)
def test_text_stays_text(text: str) -> None:
    policy = Policy.model_validate({"security_groups": [{"id": text, "name": f"{text}\n{text}", "description": text}]})
    assert Policy.parse(write.as_yaml(write.document(policy))) == policy


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """Its mode stays, a link to it too; where that fails, so does the old one."""
    file, link = tmp_path / "policy.yaml", tmp_path / "link"
    write.put(file, "old")
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    file.chmod(0o640)
    link.symlink_to(file)
    write.put(link, "new")
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode), link.is_symlink()) == ("new", 0o640, True)
    with pytest.raises(UnicodeEncodeError):
        write.put(file, "\ud800")
    assert file.read_text() == "new"
    assert sorted(os.listdir(tmp_path)) == ["link", "policy.yaml"]


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    """As root a device would become a file for everybody."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="it is no regular file"):
        write.put(pipe, "text")
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert os.listdir(tmp_path) == ["pipe"]
