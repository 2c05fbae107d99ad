"""Verdict records as a Parquet file: a row a packet, `checks` a list of structs with the fields of SPEC 7.

Needs pyarrow and NumPy (the extra ``parquet``). Words are dictionary-encoded. Records are collected to row groups of
a size that readers are good at, however few come at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dataplane._core import ffi
from dataplane.installation import how_to_install
from dataplane.verdict import DIRECTION_WORDS, ORIGIN_WORDS, REASON_WORDS, STATE_WORDS, VERDICT_WORDS, Names

try:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        f"Parquet files need {missing.name}: {how_to_install('parquet')} brings it, or write .csv or .jsonl"
    ) from None

_WORD = pa.dictionary(pa.int32(), pa.string())
_FIELDS = ("instance", "direction", "verdict", "state", "reason", "rule", "security_group", "connection")
_CHECK = pa.struct([(field, _WORD) for field in _FIELDS])
SCHEMA = pa.schema(
    [
        ("packet", pa.uint64()),
        ("time", pa.timestamp("ns", tz="UTC")),
        ("verdict", _WORD),
        ("checks", pa.list_(_CHECK)),
    ]
)
_RECORD = np.dtype(
    [
        ("time_ns", "u8"),
        ("length", "u4"),
        ("verdict", "u1"),
        ("checks", "u1"),
        ("unused", "u1", 2),
        (
            "check",
            [
                ("zone", "u4"),
                ("rule", "u4"),
                ("direction", "u1"),
                ("verdict", "u1"),
                ("state", "u1"),
                ("reason", "u1"),
                ("origin", "u1"),
                ("cause", "u1"),
                ("unused", "u1", 2),
            ],
            2,
        ),
    ]
)
_ROW_GROUP = 1 << 17
assert _RECORD.itemsize == ffi.sizeof("struct dp_record")


class ParquetWriter:
    """Takes a replay's records a batch at a time."""

    def __init__(self, path: str, names: Names) -> None:
        self._names = names
        self._packet = 1
        self._records = bytearray()
        self._writer = pq.ParquetWriter(path, SCHEMA, compression="zstd")

    def write(self, records: Any, n: int) -> None:
        """Takes the first `n` of an array of `struct dp_record`."""
        self._records += ffi.buffer(records, n * _RECORD.itemsize)
        if len(self._records) >= _ROW_GROUP * _RECORD.itemsize:
            self._write_row_group()

    def _write_row_group(self) -> None:
        rows = np.frombuffer(self._records, dtype=_RECORD)
        n = len(rows)
        present = np.arange(2) < rows["checks"][:, None]
        offsets = np.concatenate([[0], np.cumsum(rows["checks"], dtype=np.int32)])
        checks = _checks(rows["check"][present], self._names)
        batch = [
            pa.array(np.arange(self._packet, self._packet + n, dtype=np.uint64)),
            pa.array(rows["time_ns"].astype(np.int64), type=SCHEMA.field("time").type),
            _words(rows["verdict"], VERDICT_WORDS),
            pa.ListArray.from_arrays(pa.array(offsets, type=pa.int32()), checks),
        ]
        self._writer.write_table(pa.Table.from_arrays(batch, schema=SCHEMA))
        self._packet += n
        self._records = bytearray()

    def flush(self) -> None:
        """A Parquet file can be read only once it is finished."""

    def close(self) -> None:
        """Finishes the file."""
        if self._records:
            self._write_row_group()
        self._writer.close()


def _words(values: Any, words: Sequence[str], null: Callable[[Any], Any] | None = None) -> Any:
    mask = null(values) if null else None
    return pa.DictionaryArray.from_arrays(pa.array(values.astype(np.int32), mask=mask), pa.array(words, pa.string()))


def _checks(checks: Any, names: Names) -> Any:
    def absent(values: Any) -> Any:
        return values == 0

    rules = [rule[0] if rule else "" for rule in names.rules]
    groups = [rule[1] if rule else "" for rule in names.rules]
    columns = (
        _words(checks["zone"], names.instances),
        _words(checks["direction"], DIRECTION_WORDS),
        _words(checks["verdict"], VERDICT_WORDS),
        _words(checks["state"], STATE_WORDS),
        _words(checks["reason"], REASON_WORDS),
        _words(checks["rule"], rules, absent),
        _words(checks["rule"], groups, absent),
        _words(checks["origin"], ORIGIN_WORDS, absent),
    )
    return pa.StructArray.from_arrays(columns, fields=list(_CHECK))
