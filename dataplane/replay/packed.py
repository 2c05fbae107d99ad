"""Records as they are in memory, packed into Parquet files: how parts of a replay that was cut are brought together.

Needs pyarrow and NumPy (the extra ``dask``).
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dataplane._core import ffi, lib
from dataplane.replay.arrays import FLOW, RECORD, SEEN
from dataplane.verdict import VERDICT_WORDS

_ROW_GROUP = 1 << 17
#: What is packed of each packet, as NumPy sees it: of a replay, and of two policies compared.
RECORDS: Mapping[str, Any] = {"record": RECORD, "flow": FLOW, "seen": SEEN}
COMPARED: Mapping[str, Any] = {"before": RECORD, "after": RECORD, "flow": FLOW}


class PackedArrays:
    """Arrays of some of the packets, with the packets' numbers, as a Parquet file."""

    def __init__(self, kinds: Mapping[str, Any]) -> None:
        columns = [(name, pa.binary(dtype.itemsize)) for name, dtype in kinds.items()]
        self._schema = pa.schema([("packet", pa.uint64()), *columns])
        self._kept: list[tuple[Any, ...]] = []
        self._rows = 0
        self._file = io.BytesIO()
        self._writer = pq.ParquetWriter(self._file, self._schema, compression="zstd", use_dictionary=False)

    def add(self, numbers: Any, *arrays: Any) -> None:
        """Takes arrays of as many packets as there are numbers; they are kept."""
        self._kept.append((numbers, *arrays))
        self._rows += len(numbers)
        if self._rows >= _ROW_GROUP:
            self._write_row_group()

    def _write_row_group(self) -> None:
        columns = [np.concatenate(arrays) for arrays in zip(*self._kept, strict=True)]
        packed = [pa.array(columns[0])]
        for column, field in zip(columns[1:], list(self._schema)[1:], strict=True):
            packed.append(pa.Array.from_buffers(field.type, len(column), [None, pa.py_buffer(column.tobytes())]))
        self._writer.write_table(pa.Table.from_arrays(packed, schema=self._schema))
        self._kept, self._rows = [], 0

    def close(self) -> bytes:
        """The file."""
        if self._rows:
            self._write_row_group()
        self._writer.close()
        return self._file.getvalue()


def copied(array: Any, n: int, dtype: Any) -> Any:
    """The first `n` of an array of C that is used again, as one of NumPy."""
    return np.frombuffer(bytearray(ffi.buffer(array, n * dtype.itemsize)), dtype=dtype)


def numbers_of(replay: Any, n: int) -> Any:
    """The numbers among all packets of the next `n` that a replay which is cut by instance has given."""
    numbers = np.empty(n, dtype=np.uint64)
    lib.dp_replay_numbers(replay, ffi.from_buffer("uint64_t[]", numbers.data), n)
    return numbers


class PackedRecords:
    """Records of some of a replay's packets as they are in memory, with the packets' numbers, as a Parquet file.

    `replay` is cut by instance: its packets are counted among themselves, and so is who opened a connection. With
    `whole` all are kept, else those of denied packets, who tell nothing of where they were seen or who opened what.
    """

    def __init__(self, replay: Any, *, whole: bool) -> None:
        self._replay = replay
        self._whole = whole
        self._numbers = np.empty(_ROW_GROUP, dtype=np.uint64)
        self._packets = 0
        self._packed = PackedArrays(RECORDS)

    def write(self, records: Any, flows: Any, seen: Any, n: int) -> None:
        """Takes a batch; `seen` may be NULL where not all is kept."""
        numbers = numbers_of(self._replay, n)
        record, flow = copied(records, n, RECORD), copied(flows, n, FLOW)
        if self._whole:
            place = copied(seen, n, SEEN)
            self._name_openers(record, numbers)
        else:
            denied = record["verdict"] == VERDICT_WORDS.index("deny")
            numbers, record, flow = numbers[denied], record[denied], flow[denied]
            place = np.zeros(len(numbers), dtype=SEEN)
        self._packed.add(numbers, record, flow, place)

    def _name_openers(self, record: Any, numbers: Any) -> None:
        """Puts the packets' numbers in place of those among the part's."""
        end = self._packets + len(numbers)
        if end > len(self._numbers):
            self._numbers = np.concatenate([self._numbers, np.empty(max(end, len(self._numbers)), dtype=np.uint64)])
        self._numbers[self._packets : end] = numbers
        self._packets = end
        openers = record["check"]["opened_by"]
        known = openers != 0
        openers[known] = self._numbers[openers[known] - 1]

    def close(self) -> bytes:
        """The file."""
        return self._packed.close()


def unpacked(files: Sequence[bytes], kinds: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    """What several such files have, in the order of their packets, some at a time: numbers, and arrays of `kinds`."""
    parts = [pq.ParquetFile(pa.BufferReader(file)) for file in files]
    groups = [iter(range(part.num_row_groups)) for part in parts]
    held: list[tuple[Any, ...] | None] = [None] * len(parts)
    ended = [False] * len(parts)
    while True:
        for which, part in enumerate(parts):
            while not ended[which] and (held[which] is None or not len(held[which][0])):  # type: ignore[index]
                group = next(groups[which], None)
                if group is None:
                    ended[which] = True
                else:
                    held[which] = _columns(part.read_row_group(group), kinds)
        found = [which for which in range(len(parts)) if not ended[which]]
        if not found:
            return
        # Up to the packet behind which one of them has to be read on.
        last = min(held[which][0][-1] for which in found)  # type: ignore[index]
        taken = []
        for which in found:
            columns = held[which]
            assert columns is not None
            n = int(np.searchsorted(columns[0], last, side="right"))
            taken.append([column[:n] for column in columns])
            held[which] = tuple(column[n:] for column in columns)
        joined = [np.concatenate(columns) for columns in zip(*taken, strict=True)]
        order = np.argsort(joined[0], kind="stable")
        yield tuple(column[order] for column in joined)


def _columns(table: Any, kinds: Mapping[str, Any]) -> tuple[Any, ...]:
    """The columns of packed records."""
    table = table.combine_chunks()
    columns = [np.asarray(table.column(0))]
    for index, dtype in enumerate(kinds.values(), 1):
        column = table.column(index).chunk(0)
        columns.append(
            np.frombuffer(column.buffers()[1], dtype=dtype, count=len(column), offset=column.offset * dtype.itemsize)
        )
    return tuple(columns)
