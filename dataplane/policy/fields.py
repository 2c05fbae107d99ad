"""How single values are written in a policy document: ids, protocols, ports, ICMP types, names of interfaces.

Each type below is what pydantic checks one field with. Values are kept in one canonical form, so that two ways of
writing the same thing compare equal: protocols by name where they have one, addresses as in addresses.py. What is not
allowed raises a PydanticCustomError (value_mistakes.py).
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, PlainValidator, Strict, WithJsonSchema

from dataplane.policy import addresses
from dataplane.policy.icmp import CODE_NAMES, TYPE_NAMES
from dataplane.policy.mistakes import alternatives, nearest, shown
from dataplane.policy.value_mistakes import unfit

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
        unfit("is out of range: 0..255")
    names = alternatives([*PROTOCOL_NUMBERS, "a number 0..255"])
    if isinstance(value, str):
        known = _OTHER_PROTOCOLS.get(value.lower())
        near = nearest(value, PROTOCOL_NUMBERS)
        if known or near:
            unfit(f"is not allowed: {known}" if known else f"is not allowed: {names}; did you mean {near}?")
    unfit(f"is not allowed: {names}; leave the key out for all protocols")


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
        unfit('is not text: write ports and ranges as "22,80-82"')
    if value.isascii() and value.isdecimal() and value[0] != "0" and len(value) <= 5 and int(value) <= PORT_MAX:
        return value
    parts = [part.strip() for part in value.split(",")]
    if len(parts) > MULTIPORT_MAX:
        unfit(f"has {len(parts)} ports and ranges: up to {MULTIPORT_MAX} are allowed")
    mistakes = [mistake for part in parts if (mistake := _port_mistake(part)) is not None]
    if mistakes:
        unfit(f"is not allowed: {'; '.join(mistakes)}")
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
            unfit("is out of range: 0..255")
        near = nearest(value, names)
        hint = f"; did you mean {near}?" if near else ""
        unfit(f"is not allowed: a number 0..255 or a name such as {example}{hint}")

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
        unfit("is no interface name: 1 to 15 bytes without / : % and space are allowed")
    return value


def _namespace(value: str) -> str:
    if not value or value in (".", "..") or "/" in value or not value.isprintable() or len(value.encode()) > 255:
        unfit("is no name of a network namespace: one that `ip netns add` takes is allowed")
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

Address = Annotated[str, PlainValidator(addresses.checked_address), _text("192.168.0.10")]
Prefix = Annotated[str, PlainValidator(addresses.checked_prefix), _text("192.168.0.0/24")]
AddressPair = Annotated[
    str | addresses.VirtualAddress,
    PlainValidator(addresses.checked_address_pair),
    PlainSerializer(addresses.written_pair, return_type=object),
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
SetEntry = Annotated[str, PlainValidator(addresses.checked_set_entry), _text("10.0.0.1-10.0.0.9")]
Mac = Annotated[str, PlainValidator(addresses.checked_mac), _text("fa:16:3e:00:00:01")]
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
