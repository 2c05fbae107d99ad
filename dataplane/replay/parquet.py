"""Verdict records as a Parquet file, or as a table in memory: a row for each check, and one for a packet without
checks; and flow records.

Needs pyarrow and NumPy (the extra ``parquet``). Words are dictionary-encoded. Records are collected to row groups of
a size that readers are good at, however few come at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from dataplane._core import ffi
from dataplane.flow import FIELDS, FlowRecord, flow_records
from dataplane.installation import how_to_install
from dataplane.policy.addresses import address_text
from dataplane.policy.fields import PROTOCOL_NAMES, PROTOCOL_NUMBERS
from dataplane.replay.columns import COLUMNS
from dataplane.verdict import (
    CAUSE_WORDS,
    DIRECTION_WORDS,
    ORIGIN_WORDS,
    REASON_WORDS,
    STATE_WORDS,
    VERDICT_WORDS,
    Names,
)

if TYPE_CHECKING:
    from dataplane.replay.captures import Captures

try:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from dataplane.replay.arrays import FLOW, RECORD, SEEN
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        f"tables and Parquet files need {missing.name}: {how_to_install('parquet')} brings it, or write .csv or .jsonl"
    ) from None

_WORD = pa.dictionary(pa.int32(), pa.string())
_TYPES = {
    "packet": pa.uint64(),
    "time": pa.timestamp("ns", tz="UTC"),
    "opened_by": pa.uint64(),
    "source_port": pa.uint16(),
    "destination_port": pa.uint16(),
    "icmp_type": pa.uint8(),
    "icmp_code": pa.uint8(),
    "vlans": pa.list_(pa.uint16()),
    "capture_packet": pa.uint64(),
    "length": pa.uint32(),
}
SCHEMA = pa.schema([(name, _TYPES.get(name, _WORD)) for name in COLUMNS])
_ROW_GROUP = 1 << 17
_DTYPES = (RECORD, FLOW, SEEN)
_ICMP = (PROTOCOL_NUMBERS["icmp"], PROTOCOL_NUMBERS["icmpv6"])
#: By number; ARP behind them.
_PROTOCOL_WORDS = [*(PROTOCOL_NAMES.get(number, str(number)) for number in range(256)), "arp"]


class _TableWriter:
    """Takes a replay's records a batch at a time, and makes tables of many."""

    def __init__(self, names: Names, captures: Sequence[str], interfaces: Callable[[int], Sequence[str | int]]) -> None:
        self._names = names
        self._new_interfaces = interfaces
        self._interfaces: list[str] = []
        self._named = 0
        self._captures = [name.encode(errors="replace").decode() for name in captures]
        self._packet = 1
        self._kept = tuple(bytearray() for _ in _DTYPES)
        self._numbers: list[Any] = []

    def write(self, records: Any, flows: Any, seen: Any, n: int, positions: Sequence[int] | None = None) -> None:
        """Takes those at `positions` of the first `n` of arrays of `struct dp_record`, `dp_flow` and `dp_seen`."""
        chosen = np.asarray(range(n) if positions is None else positions, dtype=np.intp)
        arrays = [
            np.frombuffer(memoryview(ffi.buffer(array, n * dtype.itemsize)), dtype=dtype)
            for array, dtype in zip((records, flows, seen), _DTYPES, strict=True)
        ]
        while len(chosen):
            # A row group is of so many packets, however many come at a time.
            now = chosen[: _ROW_GROUP - len(self._kept[0]) // RECORD.itemsize]
            for kept, array in zip(self._kept, arrays, strict=True):
                kept += (array if len(now) == n else array[now]).tobytes()
            self._numbers.append(now + self._packet)
            chosen = chosen[len(now) :]
            if len(self._kept[0]) == _ROW_GROUP * RECORD.itemsize:
                self._take_table(self._table())
        self._packet += n

    def _take_table(self, table: Any) -> None:
        raise NotImplementedError

    def _table(self) -> Any:
        record, flow, seen = (np.frombuffer(k, dtype=d) for k, d in zip(self._kept, _DTYPES, strict=True))
        n = len(record)
        self._interfaces += map(str, self._new_interfaces(len(self._interfaces)))
        # Of those that are known by now, the ones that records have named: what is read ahead does not show.
        self._named = max(self._named, int(seen["interface"].max(initial=0)))
        row = np.repeat(np.arange(n), np.maximum(record["checks"], 1))
        second = np.concatenate([[False], row[1:] == row[:-1]]).astype(np.intp)
        packets, checks = record[row], record["check"][row, second]
        columns = {
            "packet": pa.array(np.concatenate(self._numbers)[row].astype(np.uint64)),
            "time": pa.array(packets["time_ns"].astype(np.int64), type=_TYPES["time"]),
            "verdict": _words(packets["verdict"], VERDICT_WORDS),
            "length": pa.array(packets["length"]),
            **_checks(checks, packets["checks"] == 0, self._names),
            **_packets(flow[row]),
            **_places(seen[row], self._captures, self._interfaces[: self._named]),
        }
        self._kept = tuple(bytearray() for _ in _DTYPES)
        self._numbers = []
        return pa.Table.from_arrays([columns[name] for name in COLUMNS], schema=SCHEMA)

    def flush(self) -> None:
        """A table can be read only once it is finished."""

    def close(self) -> None:
        """Makes a table of what is left."""
        if self._kept[0]:
            self._take_table(self._table())


class ParquetWriter(_TableWriter):
    """Writes each table as a row group of a file."""

    def __init__(
        self, path: str, names: Names, captures: Sequence[str], interfaces: Callable[[int], Sequence[str | int]]
    ) -> None:
        super().__init__(names, captures, interfaces)
        self._writer = pq.ParquetWriter(path, SCHEMA, compression="zstd")

    def _take_table(self, table: Any) -> None:
        self._writer.write_table(table)

    def close(self) -> None:
        """Finishes the file."""
        super().close()
        self._writer.close()


class ArrowWriter(_TableWriter):
    """Keeps all in memory, as a `pyarrow.Table`."""

    def __init__(self, names: Names, captures: Captures) -> None:
        super().__init__(names, captures.paths, captures.interfaces)
        self._tables = [SCHEMA.empty_table()]

    def _take_table(self, table: Any) -> None:
        self._tables.append(table)

    def table(self) -> Any:
        """All records, once the writer is closed; words are dictionary-encoded alike in all of it."""
        return pa.concat_tables(self._tables).unify_dictionaries().combine_chunks()


_COUNTS = ("first_packet", "packets_in", "packets_out", "bytes_in", "bytes_out", "packets_denied")
_FLOW_TYPES = {
    **dict.fromkeys(("local_port", "remote_port"), pa.uint16()),
    **dict.fromkeys(("first", "last"), pa.timestamp("ns", tz="UTC")),
    **dict.fromkeys(_COUNTS, pa.uint64()),
    **dict.fromkeys(("local", "remote", "community_id"), pa.string()),
}
FLOW_SCHEMA = pa.schema([(name, _FLOW_TYPES.get(name, _WORD)) for name in FIELDS])


class FlowParquetWriter:
    """Takes flow records, a row each."""

    def __init__(self, path: str) -> None:
        self._kept: list[FlowRecord] = []
        self._writer = pq.ParquetWriter(path, FLOW_SCHEMA, compression="zstd")

    def write_flows(self, flows: Any, n: int, names: Names) -> None:
        """Takes the first `n` of an array of `struct dp_flow_record`.

        A protocol without a name is its number as text.
        """
        self._kept += (
            flow._replace(protocol=str(flow.protocol)) if isinstance(flow.protocol, int) else flow
            for flow in flow_records(flows, n, names)
        )
        if len(self._kept) >= _ROW_GROUP:
            self._write_row_group()

    def _write_row_group(self) -> None:
        rows = zip(*self._kept, strict=True)
        columns = [pa.array(values, field.type) for values, field in zip(rows, FLOW_SCHEMA, strict=False)]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=FLOW_SCHEMA))
        self._kept = []

    def close(self) -> None:
        """Finishes the file."""
        if self._kept:
            self._write_row_group()
        self._writer.close()


class JoinedParquet:
    """A file of the rows of others, all of one schema, one behind the other; their row groups stay as they are."""

    def __init__(self, path: str, schema: Any) -> None:
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")

    def add(self, path: str) -> None:
        """Takes the rows of a file."""
        with pq.ParquetFile(path) as part:
            for group in range(part.num_row_groups):
                self._writer.write_table(part.read_row_group(group))

    def close(self) -> None:
        """Finishes the file."""
        self._writer.close()


def _words(values: Any, words: Sequence[str], mask: Any = None) -> Any:
    """Words by their numbers. Each stands in the dictionary once: in place of one that comes again, pyarrow writes
    whatever was in memory.
    """
    places: dict[str, int] = {}
    once = np.array([places.setdefault(word, len(places)) for word in words], dtype=np.int32)
    if len(places) < len(words):
        # Masked values may be numbers of nothing.
        values = once[np.where(values < len(words), values, 0)] if len(words) else values
    return pa.DictionaryArray.from_arrays(
        pa.array(values.astype(np.int32), mask=mask), pa.array(list(places), pa.string())
    )


def _checks(checks: Any, none: Any, names: Names) -> dict[str, Any]:
    """The columns of checks; null in the rows of packets that have `none`."""
    rules = [rule[0] if rule else "" for rule in names.rules]
    groups = [rule[1] if rule else "" for rule in names.rules]
    return {
        "instance": _words(checks["zone"], names.instances, none),
        "direction": _words(checks["direction"], DIRECTION_WORDS, none),
        "check_verdict": _words(checks["verdict"], VERDICT_WORDS, none),
        "state": _words(checks["state"], STATE_WORDS, none),
        "reason": _words(checks["reason"], REASON_WORDS, none),
        "rule": _words(checks["rule"], rules, none | (checks["rule"] == 0)),
        "security_group": _words(checks["rule"], groups, none | (checks["rule"] == 0)),
        "connection": _words(checks["origin"], ORIGIN_WORDS, none | (checks["origin"] == 0)),
        "cause": _words(checks["cause"], CAUSE_WORDS, none | (checks["cause"] == 0)),
        "opened_by": pa.array(checks["opened_by"], mask=none | (checks["opened_by"] == 0)),
    }


def _packets(flows: Any) -> dict[str, Any]:
    """The columns of what packets were."""
    no_ip = flows["family"] == 0
    no_ports = (flows["transport"] == 0) | np.isin(flows["protocol"], _ICMP)
    outer, inner = flows["vlans"] >> 12, flows["vlans"] & 0xFFF
    tags = np.stack([outer, inner], axis=1)
    tagged = np.stack([outer != 0, flows["vlans"] != 0], axis=1)
    offsets = np.concatenate([[0], np.cumsum(tagged.sum(axis=1))]).astype(np.int32)
    return {
        "protocol": _words(
            np.where(flows["arp"] != 0, 256, flows["protocol"].astype(np.int32)), _PROTOCOL_WORDS, no_ip
        ),
        "source": _addresses(flows["source"], flows["family"]),
        "destination": _addresses(flows["destination"], flows["family"]),
        "source_port": pa.array(flows["source_port"], mask=no_ports),
        "destination_port": pa.array(flows["destination_port"], mask=no_ports),
        "icmp_type": pa.array(flows["icmp_type"], mask=flows["icmp"] == 0),
        "icmp_code": pa.array(flows["icmp_code"], mask=flows["icmp"] == 0),
        "vlans": pa.ListArray.from_arrays(pa.array(offsets), pa.array(tags[tagged].astype(np.uint16))),
    }


def _addresses(addresses: Any, families: Any) -> Any:
    """Addresses as text, each distinct one made once."""
    words: dict[tuple[bytes, int], int] = {}
    keys = zip(addresses.tolist(), families.tolist(), strict=True)
    indices = np.array([words.setdefault(key, len(words)) for key in keys], dtype=np.int32)
    texts = [address_text(address[:4] if family == 4 else address) for address, family in words]
    return _words(indices, texts, families == 0)


def _places(seen: Any, captures: Sequence[str], interfaces: Sequence[str]) -> dict[str, Any]:
    """The columns of where packets were seen."""
    return {
        "capture": _words(seen["capture"], captures),
        "capture_packet": pa.array(seen["number"]),
        "interface": _words(seen["interface"].astype(np.int64) - 1, interfaces, seen["interface"] == 0),
    }
