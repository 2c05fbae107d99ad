"""How single values are written in a policy document: ids, protocols, ports, addresses, MACs.

Each type below is what pydantic checks one field with. Values are kept in one canonical form, so that two ways of
writing the same thing compare equal: addresses as inet_ntop writes them, prefixes with their length, MACs in lower case
with colons, protocols by name where they have one. What is not allowed raises a PydanticCustomError of type `UNFIT`,
whose message goes on after the name and the value of the field: ``protocol 256`` *is out of range*.
"""

from collections.abc import Callable
from dataclasses import dataclass
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from struct import Struct
from typing import Annotated, Literal, NoReturn

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, PlainValidator, Strict, WithJsonSchema
from pydantic_core import PydanticCustomError

from dataplane.policy.icmp import CODE_NAMES, TYPE_NAMES
from dataplane.policy.mistakes import alternatives, nearest, shown

UNFIT = "unfit"

PROTOCOL_NUMBERS = {
    "tcp": 6,
    "udp": 17,
    "icmp": 1,
    "icmpv6": 58,
    "gre": 47,
    "sctp": 132,
    "dccp": 33,
    "udplite": 136,
}
PROTOCOL_NAMES = {number: name for name, number in PROTOCOL_NUMBERS.items()}
#: Those that have ports (SPEC 2, 4.7).
PROTOCOLS_WITH_PORTS = ("tcp", "udp", "sctp", "dccp", "udplite")
#: Protocols by names that the document does not know, and what to write.
_OTHER_PROTOCOLS = {
    "all": "leave the key out for all protocols",
    "any": "leave the key out for all protocols",
    "igmp": "write 2",
    "esp": "write 50",
    "ah": "write 51",
    "icmp6": "write icmpv6",
    "ipv6-icmp": "write icmpv6",
    "ospf": "write 89",
    "udp-lite": "write udplite",
}

PORT_MAX = 65535
MULTIPORT_MAX = 20
SECONDS_MAX = 1_000_000_000


def _unfit(message: str) -> NoReturn:
    # Braces are the template's own: without a context they stay as they are.
    raise PydanticCustomError(UNFIT, message)


def _not_text(value: object, example: str) -> NoReturn:
    _unfit("is empty" if value is None else f"is not text: write it in quotes, as {example}")


# ---- addresses ----


def packed_address(text: str) -> bytes:
    """An IPv4 or IPv6 address as 4 or 16 bytes in network order. Raises OSError or ValueError for anything else."""
    return inet_pton(AF_INET6 if ":" in text else AF_INET, text)


def address_text(packed: bytes) -> str:
    """The canonical text of a packed address."""
    return inet_ntop(AF_INET if len(packed) == 4 else AF_INET6, packed)


def _canonical(text: str, packed: bytes) -> str:
    """The canonical text of an address that was read from `text`: IPv4 addresses can be written in one way only."""
    return text if len(packed) == 4 else inet_ntop(AF_INET6, packed)


def packed_prefix(text: str) -> tuple[bytes, int]:
    """A canonical address or prefix as (packed address, bits)."""
    address, _, bits = text.partition("/")
    packed = packed_address(address)
    return packed, int(bits) if bits else len(packed) * 8


def packed_range(text: str) -> tuple[bytes, bytes]:
    """A canonical range ``first-last`` as packed addresses."""
    first, _, last = text.partition("-")
    return packed_address(first), packed_address(last)


def family(text: str) -> int:
    """4 or 6: the family of a canonical address, prefix or range."""
    return 6 if ":" in text else 4


def _pack(text: str, what: str) -> bytes:
    try:
        return inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    except (OSError, ValueError):
        _unfit(f"is no {what}")


def _address(value: object) -> str:
    if type(value) is not str:
        _not_text(value, '"192.168.0.10"')
    if "/" in value:
        _unfit("is a prefix: an address without a length is needed here")
    return _canonical(value, _pack(value, "IPv4 or IPv6 address"))


_BITS = {str(bits): bits for bits in range(129)}
#: The bits that a prefix leaves to hosts, by how many they are.
_HOST_MASKS = [(1 << bits) - 1 for bits in range(129)]
#: The same for IPv4, by the prefix's length as written.
_IPV4_HOST_MASKS = {str(bits): _HOST_MASKS[32 - bits] for bits in range(33)}
_ipv4_number = Struct("!I").unpack


def checked_prefix(value: object) -> str:
    """An address or CIDR block, always with its length."""
    if type(value) is not str:
        _not_text(value, '"192.168.0.0/24"')
    text, slash, length = value.partition("/")
    # Nearly all are IPv4 with a length, and fit: these can be written in one way only.
    if length in _IPV4_HOST_MASKS:
        try:
            (number,) = _ipv4_number(inet_pton(AF_INET, text))
        except (OSError, ValueError):
            pass
        else:
            if not number & _IPV4_HOST_MASKS[length]:
                return value
    packed = _pack(text, "IPv4 or IPv6 address or CIDR block")
    size = 32 if len(packed) == 4 else 128
    bits = _BITS.get(length, 129) if slash else size
    if bits > size:
        _unfit(f"has a bad prefix length: a number 0..{size} is allowed after the slash")
    number, host = int.from_bytes(packed, "big"), _HOST_MASKS[size - bits]
    if number & host:
        network = address_text((number & ~host).to_bytes(len(packed), "big"))
        _unfit(f"has host bits set: write {shown(f'{network}/{bits}')}")
    return f"{_canonical(text, packed)}/{bits}"


def _pair(value: object) -> str:
    """A prefix with its length, or an address, also where it was written with its full length."""
    if not isinstance(value, str) or "/" not in value:
        return _address(value)
    text = checked_prefix(value)
    address, _, bits = text.partition("/")
    return address if bits == ("128" if ":" in address else "32") else text


@dataclass(frozen=True, slots=True)
class VirtualAddress:
    """A virtual IP, as an address or prefix, with the virtual MAC that its holder answers with (RFC 9568, 7.3)."""

    ip: str
    mac: str


def pair_prefix(pair: str | VirtualAddress) -> str:
    """The address or prefix of an allowed address pair."""
    return pair if isinstance(pair, str) else pair.ip


def _address_pair(value: object) -> str | VirtualAddress:
    """A virtual IP, or a mapping of it and its MAC; without a MAC it is the same as the virtual IP alone."""
    if isinstance(value, VirtualAddress):
        value = {"ip": value.ip, "mac": value.mac}
    if not isinstance(value, dict):
        return _pair(value)
    # One of several is named, the same whatever their order.
    for key in sorted(value.keys() - {"ip", "mac"}):
        meant = {"ip_address": "ip", "mac_address": "mac"}.get(key)
        _unfit(f"has key {shown(key)}, which is not known: " + (f"write {meant}" if meant else "allowed are ip, mac"))
    if value.get("ip") is None:
        _unfit('has no ip: write {ip: 10.0.0.9, mac: "00:00:5e:00:01:07"}')
    ip = _key_of_pair("ip", value["ip"], _pair)
    if "mac" not in value:
        return ip
    mac = _key_of_pair("mac", value["mac"], _mac)
    if int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
        _unfit(f"has mac {shown(mac)}, which no interface can have: the MAC of one station is needed")
    return VirtualAddress(ip, mac)


def _written_pair(pair: str | VirtualAddress) -> object:
    return pair if isinstance(pair, str) else {"ip": pair.ip, "mac": pair.mac}


def _key_of_pair(key: str, value: object, read: Callable[[object], str]) -> str:
    try:
        return read(value)
    except PydanticCustomError as error:
        _unfit(f"has {key} {shown(value)}, which {error.message_template}")


def _set_entry(value: object) -> str:
    """An address, a CIDR block, or a range ``first-last``."""
    # Nearly all are IPv4 addresses, which can be written in one way only.
    if type(value) is str:
        try:
            inet_pton(AF_INET, value)
        except (OSError, ValueError):
            pass
        else:
            return value
    if not isinstance(value, str) or "-" not in value:
        return _pair(value)
    first, last = (_pack(end.strip(), "range of addresses: first-last is allowed") for end in value.split("-", 1))
    if len(first) != len(last):
        _unfit("mixes IPv4 and IPv6")
    if first > last:
        _unfit("runs backwards: the first address must not be above the last")
    return f"{address_text(first)}-{address_text(last)}"


_HEX = frozenset("0123456789abcdef")


def _mac(value: object) -> str:
    if type(value) is not str:
        _not_text(value, '"fa:16:3e:00:00:01"')
    text = value.lower()
    separator = next((mark for mark in ":-." if mark in text), None)
    parts = text.split(separator) if separator else [text]
    width = {None: 12, ".": 4}.get(separator, 2)
    digits = "".join(parts)
    if any(len(part) != width for part in parts) or len(digits) != 12 or not _HEX.issuperset(digits):
        _unfit('is no MAC: six bytes are allowed, as "fa:16:3e:00:00:01"')
    return ":".join(digits[i : i + 2] for i in range(0, 12, 2))


# ---- protocols and ports ----


def _protocol(value: object) -> str | int | None:
    if value is None:
        return None
    if type(value) is str:
        if value in PROTOCOL_NUMBERS:
            return value
        if value.isascii() and value.isdecimal() and len(value) <= 3:
            value = int(value)
    if type(value) is int:
        if 0 <= value <= 255:
            return PROTOCOL_NAMES.get(value, value)
        _unfit("is out of range: 0..255")
    names = alternatives([*PROTOCOL_NUMBERS, "a number 0..255"])
    if isinstance(value, str):
        known = _OTHER_PROTOCOLS.get(value.lower())
        near = nearest(value, PROTOCOL_NUMBERS)
        if known or near:
            _unfit(f"is not allowed: {known}" if known else f"is not allowed: {names}; did you mean {near}?")
    _unfit(f"is not allowed: {names}; leave the key out for all protocols")


def protocol_number(protocol: str | int) -> int:
    """The number of a canonical protocol, 0..255."""
    return PROTOCOL_NUMBERS[protocol] if isinstance(protocol, str) else protocol


def port_ranges(multiport: str) -> tuple[tuple[int, int], ...]:
    """A canonical `multiport` as ranges (low, high), both ends within, as written."""
    if multiport.isdecimal():
        port = int(multiport)
        return ((port, port),)
    ranges = []
    for part in multiport.split(","):
        low, _, high = part.partition("-")
        ranges.append((int(low), int(high or low)))
    return tuple(ranges)


def _port(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 20 else None


def _port_mistake(part: str) -> str | None:
    ends = [end.strip() for end in part.split("-")]
    numbers = [_port(end) for end in ends]
    if len(ends) > 2 or None in numbers:
        return f"{shown(part)} is no port or range low-high" if part else "an entry between commas is empty"
    for number in numbers:
        if not 1 <= (number or 0) <= PORT_MAX:
            return f"port {number} is out of range: 1..{PORT_MAX}"
    if (numbers[0] or 0) > (numbers[-1] or 0):
        return f"range {part} runs backwards: write {numbers[-1]}-{numbers[0]}"
    return None


def checked_multiport(value: object) -> str | None:
    if value is None:
        return None
    if type(value) is int:
        value = str(value)
    if type(value) is not str:
        _unfit('is not text: write ports and ranges as "22,80-82"')
    if value.isascii() and value.isdecimal() and value[0] != "0" and len(value) <= 5 and int(value) <= PORT_MAX:
        return value
    parts = [part.strip() for part in value.split(",")]
    if len(parts) > MULTIPORT_MAX:
        _unfit(f"has {len(parts)} ports and ranges: up to {MULTIPORT_MAX} are allowed")
    mistakes = [mistake for part in parts if (mistake := _port_mistake(part)) is not None]
    if mistakes:
        _unfit(f"is not allowed: {'; '.join(mistakes)}")
    return ",".join("-".join(str(int(end)) for end in part.split("-")) for part in parts)


def _icmp(names: frozenset[str], example: str) -> PlainValidator:
    def check(value: object) -> int | str | None:
        if value is None:
            return None
        if type(value) is str:
            text = value.lower()
            if text in names:
                return text
            if text.isascii() and text.isdecimal() and len(text) <= 3:
                value = int(text)
        if type(value) is int:
            if 0 <= value <= 255:
                return value
            _unfit("is out of range: 0..255")
        near = nearest(value, names)
        hint = f"; did you mean {near}?" if near else ""
        _unfit(f"is not allowed: a number 0..255 or a name such as {example}{hint}")

    return PlainValidator(check)


def _icmp_schema(names: frozenset[str]) -> WithJsonSchema:
    number = {"type": "integer", "minimum": 0, "maximum": 255}
    return WithJsonSchema({"anyOf": [number, {"enum": sorted(names)}, {"type": "null"}]})


# ---- small conversions ----


def _ethertype(value: object) -> object:
    return {"ipv4": "IPv4", "ipv6": "IPv6"}.get(value.lower(), value) if type(value) is str else value


def _interface(value: str) -> str:
    fits = 0 < len(value.encode(errors="replace")) <= 15 and value not in (".", "..")
    # The kernel takes none with a colon, and puts a number in the place of a percent sign.
    if not fits or any(c in "/:% " for c in value) or not value.isprintable():
        _unfit("is no interface name: 1 to 15 bytes without / : % and space are allowed")
    return value


def _namespace(value: str) -> str:
    if not value or value in (".", "..") or "/" in value or not value.isprintable() or len(value.encode()) > 255:
        _unfit("is no name of a network namespace: one that `ip netns add` takes is allowed")
    return value


def empty_as_tuple(value: object) -> object:
    """A section that is there with nothing below it is an empty one."""
    return () if value is None else value


def empty_as_mapping(value: object) -> object:
    """As `empty_as_tuple`, for a section that is a mapping."""
    return {} if value is None else value


def _text(example: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "examples": [example]})


# ---- the types ----

Id = Annotated[
    str,
    Field(min_length=1, max_length=255, pattern=r"^[^\s\x00-\x1f\x7f]([^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f])?$"),
]
Text = Annotated[str, Field(max_length=4096, pattern=r"^[\s\S]*$")]

Direction = Literal["ingress", "egress"]
Ethertype = Annotated[Literal["IPv4", "IPv6"], BeforeValidator(_ethertype)]
Action = Literal["allow", "deny"]
Priority = Annotated[int, Field(ge=1, le=100)]

Address = Annotated[str, PlainValidator(_address), _text("192.168.0.10")]
Prefix = Annotated[str, PlainValidator(checked_prefix), _text("192.168.0.0/24")]
AddressPair = Annotated[
    str | VirtualAddress,
    PlainValidator(_address_pair),
    PlainSerializer(_written_pair, return_type=object),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {
                    "type": "object",
                    "properties": {"ip": {"type": "string"}, "mac": {"type": "string"}},
                    "required": ["ip"],
                    "additionalProperties": False,
                },
            ],
            "examples": ["192.168.0.21", {"ip": "10.0.0.9", "mac": "00:00:5e:00:01:07"}],
        }
    ),
]
SetEntry = Annotated[str, PlainValidator(_set_entry), _text("10.0.0.1-10.0.0.9")]
Mac = Annotated[str, PlainValidator(_mac), _text("fa:16:3e:00:00:01")]
Interface = Annotated[str, AfterValidator(_interface)]
Namespace = Annotated[str, AfterValidator(_namespace)]
#: The bounds are those of the kernel's TAP driver.
Mtu = Annotated[int, Field(ge=68, le=65521)]

Protocol = Annotated[
    str | int | None,
    PlainValidator(_protocol),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": list(PROTOCOL_NUMBERS)},
                {"type": "integer", "minimum": 0, "maximum": 255},
                {"type": "string", "pattern": "^[0-9]{1,3}$"},
                {"type": "null"},
            ]
        }
    ),
]
Multiport = Annotated[
    str | None,
    PlainValidator(checked_multiport),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": "^[0-9, -]+$", "examples": ["22,25,27", "80-82"]},
                {"type": "integer", "minimum": 1, "maximum": PORT_MAX},
                {"type": "null"},
            ]
        }
    ),
]
IcmpType = Annotated[int | str | None, _icmp(TYPE_NAMES, "echo-request"), _icmp_schema(TYPE_NAMES)]
IcmpCode = Annotated[int | str | None, _icmp(CODE_NAMES, "port-unreachable"), _icmp_schema(CODE_NAMES)]

Seconds = Annotated[float, Field(gt=0, le=SECONDS_MAX, allow_inf_nan=False)]

#: Lists are tuples once read; pydantic takes no list for a tuple when it is strict.
AsTuple = Strict(False)
