"""Notes about interfaces that are damaged, or no notes at all: told in a sentence, in the way of nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from dataplane.live.interfaces import leftovers, links, locks, settings
from dataplane.live.interfaces.links import Link, PortError

LO = 1
NOTE = {"mac": "02:00:00:00:00:01", "flags": 1, "lro": False, "ipv6": True, "addresses": [["fd00::1", 64]]}


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """What files of this namespace begin with; no interface of it is really looked at or changed."""
    lo = Link(LO, "lo", NOTE["mac"], 0x80, 1500, False, False, 0, None, ())  # type: ignore[arg-type]
    monkeypatch.setattr(locks, "FOLDER", tmp_path)
    monkeypatch.setattr(links, "find", {"lo": lo}.get)
    monkeypatch.setattr(settings, "_put_back", lambda access, index, before: None)
    here = os.stat("/proc/thread-self/ns/net")
    return str(tmp_path / f"{here.st_dev}-{here.st_ino}-")


def note(**other: object) -> str:
    return json.dumps({"note": {**NOTE, **other}})


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 60000,
        b'{"note":' * 600 + b"1" + b"}" * 600,
        b"\xff\xff\0",
        b'{"note":' + b"1" * 5000 + b"}",
        b'{"note": 7}',
        b"[]",
        note(flags="1").encode(),
        note(addresses=7).encode(),
        note(addresses=[[5, "x"]]).encode(),
        note(addresses=[["::1", -5]]).encode(),
        note(addresses=[["::1", 129]]).encode(),
        note(addresses=[["zz", 64]]).encode(),
        note(addresses=[["::\0", 64]]).encode(),
        note(addresses=[["\ud800", 64]]).encode(),
        note(ipv4=7).encode(),
        note(ipv4={"rp_filter": "1"}).encode(),
        note(ipv4={"../all/forwarding": 1}).encode(),
    ],
)
def test_a_damaged_note_is_told_once(place: str, text: bytes) -> None:
    """`restore` goes on with the others; a firewall claims the interface all the same."""
    path = Path(f"{place}{LO}")
    path.write_bytes(text)
    claim = locks.claim("lo", LO)
    assert settings.is_damaged(claim)
    claim.abandon()
    with pytest.raises(PortError, match=r"^interface lo cannot be put back: what .* is damaged, and given up"):
        leftovers.put_back()
    assert not path.exists()
    assert leftovers.put_back() == []


def test_what_is_no_note_is_left_alone(place: str, tmp_path: Path) -> None:
    """A pipe (which would be waited for), a link, a folder, numbers that no interface has."""
    Path(f"{place}{LO}").write_text(note())
    os.mkfifo(f"{place}77")
    Path(f"{place}78").symlink_to(f"{place}{LO}")
    Path(f"{place}79").mkdir()
    for number in ("0", "9" * 20, str(1 << 31)):
        Path(f"{place}{number}").write_text(note())
    assert leftovers.put_back() == ["lo"]
    assert len(list(tmp_path.iterdir())) == 6
    with pytest.raises(PortError, match=r"cannot be noted there: .*-77 is no regular file"):
        locks.claim("lo", 77)
    locks.refuse_taken("lo", 77)


def test_a_note_that_is_whole_is_put_back(place: str) -> None:
    """Also one of before what is set of IPv4 was noted."""
    for whole in (note(), note(addresses=[]), note(flags=1 << 70), note(ipv4={"rp_filter": 0})):
        Path(f"{place}{LO}").write_text(whole)
        assert leftovers.put_back() == ["lo"]
