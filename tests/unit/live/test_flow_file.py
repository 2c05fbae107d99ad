"""The file of a live flow log: whole lines, generations by size, another file when asked, and a disk that is full."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dataplane.lines import FLOW_FORMATS
from dataplane.live import flow_file
from dataplane.live.flow_file import FlowFile, FlowFileError

LINE = b'{"instance": "a"}\n'
BEGINS = (b'{"instance": ',)


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@contextlib.contextmanager
def opened(path: Path, *, size: int = 0, keep: int = 5, header: bytes = b"") -> Iterator[FlowFile]:
    """A flow log that is written; all that it was given is in it afterwards."""
    file = FlowFile(path, size=size, keep=keep, header=header, begins=BEGINS)
    file.start()
    yield file
    file.close(60)


@contextlib.contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    """The system writes nothing behind this place of any file, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_generations_hold_whole_lines_each_behind_its_header_and_the_oldest_go(tmp_path: Path) -> None:
    path = tmp_path / "flows"
    size = len(b"head\n") + 3 * len(LINE) + 5
    with opened(path, size=size, keep=2, header=b"head\n") as file:
        file.put(LINE * 20, 20)
    assert sorted(tmp_path.iterdir()) == [path, tmp_path / "flows.1", tmp_path / "flows.2"]
    assert [f.read_bytes() for f in sorted(tmp_path.iterdir())] == [b"head\n" + LINE * n for n in (2, 3, 3)]
    assert file.unwritten == 0


def test_a_line_that_is_longer_than_the_size_has_a_file_of_its_own(tmp_path: Path) -> None:
    with opened(tmp_path / "flows", size=5, keep=9) as file:
        file.put(LINE * 3, 3)
    assert [f.read_bytes() for f in sorted(tmp_path.iterdir())] == [LINE] * 3


def test_a_file_of_before_is_continued_and_nothing_else_is(tmp_path: Path) -> None:
    path = tmp_path / "flows"
    path.write_bytes(LINE)
    with opened(path) as file:
        file.put(LINE, 1)
    assert path.read_bytes() == LINE * 2
    path.write_text("security_groups: []\n")
    with pytest.raises(FlowFileError, match="it is no flow log of this format"):
        FlowFile(path, begins=BEGINS)
    assert path.read_text() == "security_groups: []\n"
    with pytest.raises(FlowFileError, match="it is no regular file"):
        FlowFile(Path("/dev/full"), begins=BEGINS)


def test_what_comes_after_it_was_moved_away_and_opened_anew_is_in_another_file(tmp_path: Path) -> None:
    path, moved = tmp_path / "flows", tmp_path / "moved"
    with opened(path) as file:
        file.put(LINE, 1)
        until(lambda: path.read_bytes() == LINE)
        path.rename(moved)
        file.reopen()
        until(path.exists)
        file.put(LINE * 2, 2)
    assert (moved.read_bytes(), path.read_bytes()) == (LINE, LINE * 2)


@pytest.mark.parametrize("form", FLOW_FORMATS)
def test_a_file_is_continued_in_every_format(tmp_path: Path, form: str) -> None:
    path = tmp_path / "flows"
    of = FLOW_FORMATS[form]
    first = of.header or of.begins[0] + b"...\n"
    path.write_bytes(first)
    file = FlowFile(path, header=of.header, begins=of.begins)
    file.start()
    file.put(b"more\n", 1)
    file.close(60)
    assert path.read_bytes() == first + b"more\n"


def _link(path: Path, victim: Path) -> None:
    path.symlink_to(victim)


def _fifo(path: Path, victim: Path) -> None:
    os.mkfifo(path)


def _other(path: Path, victim: Path) -> None:
    path.write_bytes(victim.read_bytes())


@pytest.mark.parametrize(
    ("put_there", "text", "told"),
    [
        (_link, b"root only\n", "it is a symbolic link"),
        (_link, b"", "it is a symbolic link"),
        (_fifo, b"", "it is no regular file"),
        (_other, b"root only\n", "it is no flow log of this format and is not added to"),
    ],
)
def test_what_takes_the_name_while_it_runs_is_not_written_to(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, put_there: Callable[[Path, Path], None], text: bytes, told: str
) -> None:
    """Whoever may write the folder does not lead the firewall to other files: told once, counted, and over with it."""
    path, victim = tmp_path / "flows", tmp_path / "victim"
    victim.write_bytes(text)
    with caplog.at_level("INFO"), opened(path) as file:
        file.put(LINE, 1)
        until(lambda: path.read_bytes() == LINE)
        path.unlink()
        put_there(path, victim)
        file.reopen()
        file.put(LINE * 2, 2)
        until(lambda: file.unwritten == 2)
        file.put(LINE * 3, 3)
        until(lambda: file.unwritten == 5)
        assert victim.read_bytes() == text
        path.unlink()
        file.put(LINE, 1)
        until(lambda: path.exists() and path.read_bytes() == LINE)
    assert [record.message for record in caplog.records] == [
        f"flow log {path} cannot be written ({told}): records are lost until it can",
        f"flow log {path} is written again, and lacks 5 records",
    ]


def test_a_start_refuses_what_is_not_written_to(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"")
    for name, put_there, told in (("a", _link, "it is a symbolic link"), ("b", _fifo, "it is no regular file")):
        put_there(tmp_path / name, victim)
        with pytest.raises(FlowFileError, match=f"{name}: {told}: name another place"):
            FlowFile(tmp_path / name, begins=BEGINS)


def test_a_full_disk_is_told_once_and_counted_and_leaves_no_part_of_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "flows"
    with caplog.at_level("INFO"), opened(path) as file:
        file.put(LINE, 1)
        until(lambda: path.read_bytes() == LINE)
        with no_file_longer_than(len(LINE) * 2 + 5):
            file.put(LINE * 2, 2)
            file.put(LINE * 3, 3)
            until(lambda: file.unwritten == 5)
        file.put(LINE, 1)
        until(lambda: path.read_bytes() == LINE * 2)
    told = [record.message for record in caplog.records]
    assert told == [
        f"flow log {path} cannot be written (File too large): records are lost until it can",
        f"flow log {path} is written again, and lacks 5 records",
    ]


def test_who_hands_lines_over_never_waits_and_what_the_queue_does_not_hold_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow_file, "QUEUE_BYTES", 2 * len(LINE))
    path = tmp_path / "flows"
    file = FlowFile(path, begins=BEGINS)
    for _ in range(3):
        file.put(LINE, 1)
    assert (file.refused, file.unwritten) == (1, 0)
    file.start()
    file.close(60)
    assert path.read_bytes() == LINE * 2
