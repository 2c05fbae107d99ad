"""Records as they are in memory, packed into Parquet files: how parts of a replay that was cut are brought together.

Needs pyarrow and NumPy (the extra ``dask``).
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dataplane._core import ffi, lib
from dataplane.replay.arrays import FLOW, RECORD, SEEN
from dataplane.verdict import VERDICT_WORDS

_ROW_GROUP = 1 << 17
_DTYPES = (RECORD, FLOW, SEEN)
_NAMES = ("record", "flow", "seen")
_PACKED = pa.schema(
    [("packet", pa.uint64()), *((n, pa.binary(dtype.itemsize)) for n, dtype in zip(_NAMES, _DTYPES, strict=True))]
)


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
        self._kept: list[tuple[Any, ...]] = []
        self._rows = 0
        self._file = io.BytesIO()
        self._writer = pq.ParquetWriter(self._file, _PACKED, compression="zstd", use_dictionary=False)

    def write(self, records: Any, flows: Any, seen: Any, n: int) -> None:
        """Takes a batch; `seen` may be NULL where not all is kept."""
        numbers = np.empty(n, dtype=np.uint64)
        lib.dp_replay_numbers(self._replay, ffi.from_buffer("uint64_t[]", numbers.data), n)
        record, flow = (
            np.frombuffer(bytearray(ffi.buffer(array, n * dtype.itemsize)), dtype=dtype)
            for array, dtype in ((records, RECORD), (flows, FLOW))
        )
        if self._whole:
            place = np.frombuffer(bytearray(ffi.buffer(seen, n * SEEN.itemsize)), dtype=SEEN)
            self._name_openers(record, numbers)
        else:
            denied = record["verdict"] == VERDICT_WORDS.index("deny")
            numbers, record, flow = numbers[denied], record[denied], flow[denied]
            place = np.zeros(len(numbers), dtype=SEEN)
        self._kept.append((numbers, record, flow, place))
        self._rows += len(numbers)
        if self._rows >= _ROW_GROUP:
            self._write_row_group()

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

    def _write_row_group(self) -> None:
        columns = [np.concatenate(arrays) for arrays in zip(*self._kept, strict=True)]
        packed = [pa.array(columns[0])]
        for column, field in zip(columns[1:], list(_PACKED)[1:], strict=True):
            packed.append(pa.Array.from_buffers(field.type, len(column), [None, pa.py_buffer(column.tobytes())]))
        self._writer.write_table(pa.Table.from_arrays(packed, schema=_PACKED))
        self._kept, self._rows = [], 0

    def close(self) -> bytes:
        """The file."""
        if self._rows:
            self._write_row_group()
        self._writer.close()
        return self._file.getvalue()


def unpacked(files: Sequence[bytes]) -> Iterator[tuple[Any, ...]]:
    """The records of several such files in the order of their packets, some at a time: numbers, `dp_record`, `dp_flow`
    and `dp_seen` as arrays of NumPy.
    """
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
                    held[which] = _columns(part.read_row_group(group))
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


def _columns(table: Any) -> tuple[Any, ...]:
    """The columns of packed records."""
    table = table.combine_chunks()
    columns = [np.asarray(table.column(0))]
    for index, dtype in enumerate(_DTYPES, 1):
        column = table.column(index).chunk(0)
        columns.append(
            np.frombuffer(column.buffers()[1], dtype=dtype, count=len(column), offset=column.offset * dtype.itemsize)
        )
    return tuple(columns)
