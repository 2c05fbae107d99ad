"""The connection table as people see it: iterable, filterable, countable, and it can be flushed."""

from __future__ import annotations

import ipaddress
import socket
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from struct import calcsize
from typing import Any, NamedTuple

from dataplane import notebook
from dataplane._core import ffi, lib
from dataplane._core.errors import check
from dataplane.packet_words import PORTED
from dataplane.policy.fields import PROTOCOL_NUMBERS
from dataplane.terminal import host_port
from dataplane.verdict import CONN_STATE_WORDS, ORIGIN_WORDS, Names

PROTOCOLS = dict(sorted((PROTOCOL_NUMBERS | {"esp": 50, "ah": 51}).items(), key=lambda item: item[1]))
PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}
_BATCH = 4096
_SAVED_SIZE = ffi.sizeof("struct dp_saved_connection")
#: How many connections a notebook shows.
_FIRST = 50
_SIZE = ffi.sizeof("struct dp_connection")
#: Where the fields of a `struct dp_connection` are.
_AT = {name: field.offset for name, field in ffi.typeof("struct dp_connection").fields}
_ZONE, _STATE = _AT["zone"], _AT["state"]
_QUERIES = (PROTOCOLS["icmp"], PROTOCOLS["icmpv6"])
_QUERY_OUT = 0x8000  # DP_KEY_QUERY_OUT of csrc/flow_key.h, in the place of an ICMP query's remote port

RECONSIDERED_AT_ONCE = 4096
_WOULD = {name: field.offset for name, field in ffi.typeof("struct dp_reconsidered").fields}
_WOULD_SIZE = ffi.sizeof("struct dp_reconsidered")

#: A rule's id and that of its group; None for no rule.
Rule = tuple[str, str] | None
#: The values of a Connection's fields.
Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True, repr=False)
class Connection:
    """One entry of the connection table, seen from its instance.

    `origin` is ``inbound`` or ``outbound`` (SPEC 1). Ports are None where the protocol has none; `icmp_id` and
    `icmp_type` are the identifier of an ICMP query and the type of its request. Times are nanoseconds; it lives until
    `expires_ns` unless a packet comes first. A `disconnected` one denies its packets until then (SPEC 5.3).
    """

    instance: str
    origin: str
    protocol: str
    state: str
    local: str
    local_port: int | None
    remote: str
    remote_port: int | None
    icmp_id: int | None
    rule: str | None
    security_group: str | None
    disconnected: bool
    last_ns: int
    expires_ns: int
    icmp_type: int | None = None

    def __repr__(self) -> str:
        local, remote = host_port(self.local, self.local_port), host_port(self.remote, self.remote_port)
        first, second = (remote, local) if self.origin == "inbound" else (local, remote)
        words = [self.instance, self.origin, self.protocol, f"{first} > {second}"]
        words += [f"id {self.icmp_id}"] if self.icmp_id is not None else []
        words += [self.state, *(["disconnected"] if self.disconnected else [])]
        words += [f"{name}={value}" for name, value in (("rule", self.rule), ("group", self.security_group)) if value]
        return f"<Connection {' '.join(words)}>"

    def _repr_html_(self) -> str:
        return _shown("Connection", [self])


_COLUMNS = (
    *("instance", "origin", "protocol", "state", "local", "local_port", "remote", "remote_port", "icmp_id"),
    *("rule", "security_group", "disconnected"),
)


def _shown(title: str, connections: Iterable[Connection]) -> str:
    # Ports are no numbers to be grouped.
    words = ([_word(getattr(connection, column)) for column in _COLUMNS] for connection in connections)
    return notebook.table(title, _COLUMNS, words)


def _word(value: object) -> object:
    return None if value is None else str(value)


class _Filter(NamedTuple):
    instance: str | None = None
    origin: str | None = None
    protocol: str | int | None = None
    address: str | None = None
    state: str | None = None
    disconnected: bool | None = None
    local: str | None = None
    local_port: int | None = None
    remote: str | None = None
    remote_port: int | None = None
    since_ns: int = 0


class Connections:
    """A view of a plane's live connections. Filters narrow it: ``connections.filter(protocol="tcp", state=...)``."""

    def __init__(self, plane: Any, names: Names, chosen: _Filter | None = None) -> None:
        self._plane = plane
        self._names = names
        self._chosen = chosen or _Filter()

    def filter(
        self,
        *,
        instance: str | None = None,
        origin: str | None = None,
        protocol: str | int | None = None,
        address: str | None = None,
        state: str | None = None,
        disconnected: bool | None = None,
        local: str | None = None,
        local_port: int | None = None,
        remote: str | None = None,
        remote_port: int | None = None,
        since_ns: int | None = None,
    ) -> Connections:
        """A narrower view.

        `instance` is an instance's id, `origin` ``inbound`` or ``outbound``, `protocol` a name or number, `address` an
        address or prefix on either side, `local` and `remote` one on the instance's and on the other side, with their
        ports; `state` a word such as ``ESTABLISHED``, ``FIN_WAIT`` or ``UNREPLIED``; `since_ns` is when
        the last packet was at the earliest.
        Raises ValueError for a word that is not known.
        """
        given: dict[str, Any] = {
            "instance": instance,
            "origin": origin,
            "protocol": protocol,
            "address": address,
            "state": state,
            "disconnected": disconnected,
            "local": local,
            "local_port": local_port,
            "remote": remote,
            "remote_port": remote_port,
            "since_ns": since_ns,
        }
        chosen = self._chosen._replace(**{name: value for name, value in given.items() if value is not None})
        _c_filter(chosen, self._names)
        return Connections(self._plane, self._names, chosen)

    def __iter__(self) -> Iterator[Connection]:
        for rows in self.rows():
            for row in rows:
                yield Connection(*row)

    def __repr__(self) -> str:
        return f"<Connections: {len(self):,} live>"

    def _repr_html_(self) -> str:
        live = len(self)
        more = f", the first {_FIRST}" if live > _FIRST else ""
        return _shown(f"{live:,} connections{more}", islice(self, _FIRST))

    def rows(self) -> Iterator[Iterator[Row]]:
        """As iterating, but many at a time, each as the values of a Connection's fields in their order."""
        for found, n in self._batches():
            yield _rows(bytes(ffi.buffer(found, n * _SIZE)), self._names)

    def _batches(self) -> Iterator[tuple[Any, int]]:
        """Arrays of `struct dp_connection`, each with how many are in it; an array is used again for the next."""
        chosen = _c_filter(self._chosen, self._names)
        cursor = ffi.new("uint64_t *", 0)
        found = ffi.new("struct dp_connection[]", _BATCH)
        while n := check(lib.dp_plane_connections(self._plane, chosen, cursor, found, _BATCH), "reading connections"):
            yield found, n

    def saved(self) -> Iterator[bytes]:
        """As iterating, with all that tracking knows of them: a batch of `struct dp_saved_connection` at a time."""
        chosen = _c_filter(self._chosen, self._names) if self._chosen != _Filter() else ffi.NULL
        cursor = ffi.new("uint64_t *", 0)
        found = ffi.new("struct dp_saved_connection[]", _BATCH)
        while n := check(lib.dp_plane_save(self._plane, chosen, cursor, found, _BATCH), "saving connections"):
            yield bytes(ffi.buffer(found, n * _SAVED_SIZE))

    def __len__(self) -> int:
        return int(lib.dp_plane_count(self._plane, _c_filter(self._chosen, self._names), ffi.NULL))

    def count(self) -> int:
        """How many connections are live, disconnected ones in their hold among them."""
        return len(self)

    def count_by_state(self) -> dict[str, int]:
        """How many connections are in each state; states without any are left out."""
        return count_by_word(self.state_counts())

    def state_counts(self) -> list[int]:
        """How many connections are in each state, by `enum dp_conn_state`."""
        numbers = ffi.new("uint64_t[]", lib.DP_CONN_STATES)
        lib.dp_plane_count(self._plane, _c_filter(self._chosen, self._names), numbers)
        return list(numbers)

    def census(self) -> dict[tuple[str, str], int]:
        """How many connections each instance has in each state, in one walk; pairs without any are left out."""
        counted: Counter[tuple[int, int]] = Counter()
        for found, n in self._batches():
            data = bytes(ffi.buffer(found, n * _SIZE))
            zones = memoryview(data).cast("I")[_ZONE // 4 :: _SIZE // 4].tolist()
            counted.update(zip(zones, data[_STATE::_SIZE], strict=True))
        census: dict[tuple[str, str], int] = {}
        for (zone, state), number in counted.items():
            key = self._names.instances[zone], CONN_STATE_WORDS[state]
            census[key] = census.get(key, 0) + number
        return census

    def flush(self) -> int:
        """Takes these connections out of the table at once and returns how many; their next packets are new."""
        return int(lib.dp_plane_flush(self._plane, _c_filter(self._chosen, self._names)))


class Reconsidered:
    """Connections that a change of the policy would not leave as they are: an array of `struct dp_reconsidered`.

    `names` has the rules of before and of then.
    """

    def __init__(self, data: bytes, names: Names) -> None:
        self._data, self._names = data, names

    @property
    def fates(self) -> list[tuple[Rule, Rule, bool]]:
        """Of each: the rule that admitted it, the one that would decide about it, and whether it would be cut or go."""
        words, rules = memoryview(self._data).cast("I"), self._names.rules
        old, new = (words[at // 4 :: _WOULD_SIZE // 4].tolist() for at in (_AT["rule"], _WOULD["rule"]))
        fates = self._data[_WOULD["fate"] :: _WOULD_SIZE]
        return [
            (rules[was], rules[now], fate != lib.DP_FATE_STAYS) for was, now, fate in zip(old, new, fates, strict=True)
        ]

    def connection(self, number: int) -> Connection:
        """One of them."""
        at = number * _WOULD_SIZE
        (row,) = _rows(self._data[at : at + _SIZE], self._names)
        return Connection(*row)


def protocol_number(protocol: str | int) -> int:
    """The number of a protocol given by name or number. Raises ValueError for an unknown one."""
    text = str(protocol).lower()
    number = PROTOCOLS.get(text, int(text) if text.isascii() and text.isdecimal() else -1)
    if not 0 <= number <= 255:
        raise ValueError(f"protocol {protocol!r} is not known: {', '.join(PROTOCOLS)} or a number 0..255 is")
    return number


def _c_filter(chosen: _Filter, names: Names) -> Any:
    c = ffi.new("struct dp_connection_filter *", {"zone": -1, "origin": -1, "protocol": -1, "disconnected": -1})
    if chosen.instance is not None:
        zone = names.known_zone(chosen.instance)
        if zone is None:
            raise ValueError(f"instance {chosen.instance!r} is not known")
        c.zone = zone
    if chosen.origin is not None:
        if chosen.origin not in ORIGIN_WORDS[1:]:
            raise ValueError(f"origin {chosen.origin!r} is not known: inbound or outbound is")
        c.origin = ORIGIN_WORDS.index(chosen.origin)
    if chosen.protocol is not None:
        c.protocol = protocol_number(chosen.protocol)
    if chosen.disconnected is not None:
        c.disconnected = chosen.disconnected
    c.since_ns = chosen.since_ns
    if chosen.state is not None:
        c.states = sum(1 << n for n, word in enumerate(CONN_STATE_WORDS) if n and word == chosen.state.upper())
        if not c.states:
            raise ValueError(
                f"state {chosen.state!r} is not known: {', '.join(dict.fromkeys(CONN_STATE_WORDS[1:]))} is"
            )
    for name in ("address", "local", "remote"):
        given = getattr(chosen, name)
        if given is not None:
            network = _network(name, given)
            if c.family not in (0, network.version):
                raise ValueError(f"{name} {given} is IPv{network.version}, and another address is IPv{c.family}")
            c.family = network.version
            prefix = getattr(c, name)
            prefix.address = network.network_address.packed.ljust(16, b"\0")
            prefix.bits = network.prefixlen
    for name in ("local_port", "remote_port"):
        port = getattr(chosen, name)
        if port is not None:
            if not 1 <= port <= 65535:
                raise ValueError(f"port {port} is out of range: 1..65535 is allowed")
            setattr(c, name, port)
    return c


def _network(name: str, given: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        network = ipaddress.ip_network(given, strict=False)
    except ValueError:
        raise ValueError(f"{name} {given!r} is no address and no CIDR block: write 10.0.0.5 or 10.0.0.0/8") from None
    if network.network_address != ipaddress.ip_interface(given).ip:
        raise ValueError(f"{name} {given!r} has host bits set: write {network}")
    return network


def flow_protocol(flow: Any) -> str:
    """What a `struct dp_flow` of IP or ARP is: ``arp``, or the IP protocol by name or by number."""
    return "arp" if flow.arp else PROTOCOL_NAMES.get(flow.protocol, str(flow.protocol))


def connection_of(c: Any, names: Names) -> Connection:
    """A `struct dp_connection` as a value."""
    (row,) = _rows(bytes(ffi.buffer(ffi.addressof(c), _SIZE)), names)
    return Connection(*row)


def _rows(data: bytes, names: Names) -> Iterator[Row]:
    """An array of `struct dp_connection` as rows. A table has many, so that each field is taken of all at once."""
    view = memoryview(data)

    def column(field: str, code: str) -> list[Any]:
        size = calcsize(code)
        return view.cast(code)[_AT[field] // size :: _SIZE // size].tolist()  # type: ignore[call-overload,no-any-return]

    numbers = (
        ("family", "B"),
        ("protocol", "B"),
        ("zone", "I"),
        ("rule", "I"),
        ("local_port", "H"),
        ("remote_port", "H"),
    )
    states = ("origin", "B"), ("state", "B"), ("disconnected", "B"), ("last_ns", "Q"), ("expires_ns", "Q")
    local_at, remote_at = _AT["local"], _AT["remote"]
    columns = {field: column(field, code) for field, code in (*numbers, *states)}
    # Named at once: a change that comes between two rows may have their numbers given out again.
    columns["zone"] = [names.instances[zone] for zone in columns["zone"]]
    columns["rule"] = [names.rules[rule] for rule in columns["rule"]]
    for number, values in enumerate(zip(*columns.values(), strict=True)):
        family, protocol, instance, named, local_port, remote_port, origin, state, disconnected, last, expires = values
        af, length = (socket.AF_INET, 4) if family == 4 else (socket.AF_INET6, 16)
        local, remote = number * _SIZE + local_at, number * _SIZE + remote_at
        query = protocol in _QUERIES
        ports = protocol in PORTED
        yield (
            instance,
            ORIGIN_WORDS[origin],
            PROTOCOL_NAMES.get(protocol) or str(protocol),
            CONN_STATE_WORDS[state],
            socket.inet_ntop(af, data[local : local + length]),
            local_port if ports else None,
            socket.inet_ntop(af, data[remote : remote + length]),
            remote_port if ports else None,
            local_port if query else None,
            named[0] if named else None,
            named[1] if named else None,
            bool(disconnected),
            last,
            expires,
            remote_port & ~_QUERY_OUT if query else None,
        )


def count_by_word(numbers: Iterable[int]) -> dict[str, int]:
    """The counts of states by their words, some of which several states share; states without any are left out."""
    counts: dict[str, int] = {}
    for word, number in zip(CONN_STATE_WORDS, numbers, strict=True):
        if number:
            counts[word] = counts.get(word, 0) + number
    return counts
