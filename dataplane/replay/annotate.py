"""Frames of a replay as pcapng files, each with a comment that says what it met (SPEC 8.1).

A file is one section, in the order of the replay. Of a pcapng input, the bytes, timestamps and options of frames are as
they were, comments among them; so are the descriptions of interfaces, names, and what the head of the first section
says.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

from dataplane import pcapng
from dataplane._core import ffi, lib
from dataplane.outputs import close_output
from dataplane.verdict import Names, comment_of, verdict_of

_FRAME = struct.Struct("=QQ7I2H")
_BLOCK = struct.Struct("=4I")
_RECORD_SIZE = ffi.sizeof("struct dp_record")
#: Where the part of a record begins that its comment is made of.
_MET = ffi.offsetof("struct dp_record", "verdict")
_COMMENTS_MAX = 1 << 16
assert _FRAME.size == ffi.sizeof("struct dp_kept_frame")
assert _BLOCK.size == ffi.sizeof("struct dp_kept_block")


class AnnotatedWriter:
    """Takes a replay's records a batch at a time; `files` are what is written, each with the verdicts that it wants."""

    def __init__(self, replay: Any, names: Names, files: Sequence[tuple[BinaryIO, frozenset[str] | None]]) -> None:
        lib.dp_replay_keep(replay)
        self._replay = replay
        self._names = names
        self._files = [_File(file, wanted) for file, wanted in files]
        self._comments: dict[bytes, tuple[str, bytes]] = {}
        self._head: bytes | None = None

    def write(self, records: Any, flows: Any, seen: Any, n: int, positions: Sequence[int] | None = None) -> None:
        """Writes the frames of the records at `positions`, of `n` in all."""
        size = ffi.new("uint64_t *")
        kept = memoryview(ffi.buffer(lib.dp_replay_kept_frames(self._replay, n, size), size[0]))
        blocks = self._blocks({seen[i].capture for i in range(n)})
        self._begin()
        for file in self._files:
            file.put(blocks)
        at = 0
        chosen = range(n) if positions is None else frozenset(positions)
        for i in range(n):
            head = _FRAME.unpack_from(kept, at)
            if i not in chosen:
                at += head[2]
                continue
            verdict, comment = self._comment(records, i)
            for file in self._files:
                if file.wants(verdict):
                    file.put(self._frame(file, kept, at, head, comment))
            at += head[2]

    def flush(self) -> None:
        """Hands over all frames so far."""
        for file in self._files:
            file.flush()

    def close(self) -> None:
        """Finishes the files; one without a frame has the head of its section."""
        self._begin()
        for file in self._files:
            file.close()

    def _comment(self, records: Any, i: int) -> tuple[str, bytes]:
        key = bytes(ffi.buffer(records + i, _RECORD_SIZE)[_MET:])
        found = self._comments.get(key)
        if found is None:
            if len(self._comments) >= _COMMENTS_MAX:
                self._comments.clear()
            record = records[i]
            verdict = verdict_of(record, self._names)
            opened_by = [record.check[k].opened_by for k in range(record.checks)]
            found = verdict.verdict, pcapng.comment_option(comment_of(verdict, opened_by))
            self._comments[key] = found
        return found

    def _begin(self) -> None:
        if self._head is None:
            from dataplane import __version__

            self._head = pcapng.section(f"dataplane {__version__}")
        for file in self._files:
            file.begin(self._head)

    def _blocks(self, captures: set[int]) -> bytes:
        """Names that captures tell; the first section's head is kept for the beginning."""
        found = b""
        size = ffi.new("uint64_t *")
        for capture in sorted(captures):
            data = lib.dp_replay_kept_blocks(self._replay, capture, size)
            whole, at = bytes(ffi.buffer(data, size[0])) if size[0] else b"", 0
            while at < len(whole):
                length, kind, body_size, swapped = _BLOCK.unpack_from(whole, at)
                body = whole[at + _BLOCK.size : at + _BLOCK.size + body_size]
                if kind == pcapng.NAMES:
                    found += pcapng.names_again(body, swapped=bool(swapped))
                elif self._head is None:
                    self._head = pcapng.section_again(body, swapped=bool(swapped))
                at += length
        return found

    def _frame(self, file: _File, kept: memoryview, at: int, head: tuple[int, ...], comment: bytes) -> bytes:
        time_ns, timestamp, _, captured, length, n_options, capture, interface, link, in_block, swapped = head
        start = at + _FRAME.size
        number, blocks = file.interface(interface or -1 - capture, lambda: self._interface(interface, link))
        if not in_block:
            timestamp = time_ns if not interface else file.timestamp(interface, time_ns)
        options = bytes(kept[start + captured : start + captured + n_options]) if n_options else b""
        return blocks + pcapng.packet_again(
            number,
            timestamp,
            bytes(kept[start : start + captured]),
            length,
            comment + pcapng.packet_options_again(options, swapped=bool(swapped)),
        )

    def _interface(self, number: int, link: int) -> tuple[bytes, Callable[[int], int]]:
        """The block that describes an interface, and how its timestamps are made of nanoseconds since 1970."""
        if not number:
            return pcapng.interface_of(link), lambda time_ns: time_ns
        described = lib.dp_replay_interface(self._replay, number)
        body = bytes(ffi.buffer(described.body, described.size))
        return pcapng.interface_again(body, swapped=bool(described.swapped))


class _File:
    """One of the files, with numbers of its own for the interfaces that it has frames of."""

    def __init__(self, file: BinaryIO, wanted: frozenset[str] | None) -> None:
        self._file = file
        self._wanted = wanted
        self._begun = False
        self._numbers: dict[int, int] = {}
        self._clocks: dict[int, Callable[[int], int]] = {}

    def wants(self, verdict: str) -> bool:
        return self._wanted is None or verdict in self._wanted

    def begin(self, head: bytes) -> None:
        if not self._begun:
            self._begun = True
            self.put(head)

    def put(self, data: bytes) -> None:
        self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        close_output(self._file)

    def interface(self, key: int, describe: Callable[[], tuple[bytes, Callable[[int], int]]]) -> tuple[int, bytes]:
        """The number of an interface, and the block that describes it where it is new."""
        number = self._numbers.get(key)
        if number is not None:
            return number, b""
        block, self._clocks[key] = describe()
        number = self._numbers[key] = len(self._numbers)
        return number, block

    def timestamp(self, key: int, time_ns: int) -> int:
        return self._clocks[key](time_ns)
