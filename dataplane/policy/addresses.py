"""How a policy document writes addresses, prefixes, ranges and MACs, each in one canonical form.

Addresses are as inet_ntop writes them, prefixes with their length, MACs in lower case with colons, so that two ways of
writing the same compare equal. What `checked_` functions do not allow raises PydanticCustomError (value_mistakes.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from struct import Struct

from pydantic_core import PydanticCustomError

from dataplane.policy.mistakes import shown
from dataplane.policy.value_mistakes import not_text, unfit


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
        unfit(f"is no {what}")


def checked_address(value: object) -> str:
    if type(value) is not str:
        not_text(value, '"192.168.0.10"')
    if "/" in value:
        unfit("is a prefix: an address without a length is needed here")
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
        not_text(value, '"192.168.0.0/24"')
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
        unfit(f"has a bad prefix length: a number 0..{size} is allowed after the slash")
    number, host = int.from_bytes(packed, "big"), _HOST_MASKS[size - bits]
    if number & host:
        network = address_text((number & ~host).to_bytes(len(packed), "big"))
        unfit(f"has host bits set: write {shown(f'{network}/{bits}')}")
    return f"{_canonical(text, packed)}/{bits}"


def _pair(value: object) -> str:
    """A prefix with its length, or an address, also where it was written with its full length."""
    if not isinstance(value, str) or "/" not in value:
        return checked_address(value)
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


def checked_address_pair(value: object) -> str | VirtualAddress:
    """A virtual IP, or a mapping of it and its MAC; without a MAC it is the same as the virtual IP alone."""
    if isinstance(value, VirtualAddress):
        value = {"ip": value.ip, "mac": value.mac}
    if not isinstance(value, dict):
        return _pair(value)
    # One of several is named, the same whatever their order.
    for key in sorted(value.keys() - {"ip", "mac"}):
        meant = {"ip_address": "ip", "mac_address": "mac"}.get(key)
        unfit(f"has key {shown(key)}, which is not known: " + (f"write {meant}" if meant else "allowed are ip, mac"))
    if value.get("ip") is None:
        unfit('has no ip: write {ip: 10.0.0.9, mac: "00:00:5e:00:01:07"}')
    ip = _key_of_pair("ip", value["ip"], _pair)
    if "mac" not in value:
        return ip
    mac = _key_of_pair("mac", value["mac"], checked_mac)
    if int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
        unfit(f"has mac {shown(mac)}, which no interface can have: the MAC of one station is needed")
    return VirtualAddress(ip, mac)


def written_pair(pair: str | VirtualAddress) -> object:
    return pair if isinstance(pair, str) else {"ip": pair.ip, "mac": pair.mac}


def _key_of_pair(key: str, value: object, read: Callable[[object], str]) -> str:
    try:
        return read(value)
    except PydanticCustomError as error:
        unfit(f"has {key} {shown(value)}, which {error.message_template}")


def checked_set_entry(value: object) -> str:
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
        unfit("mixes IPv4 and IPv6")
    if first > last:
        unfit("runs backwards: the first address must not be above the last")
    return f"{address_text(first)}-{address_text(last)}"


_HEX = frozenset("0123456789abcdef")


def checked_mac(value: object) -> str:
    if type(value) is not str:
        not_text(value, '"fa:16:3e:00:00:01"')
    text = value.lower()
    separator = next((mark for mark in ":-." if mark in text), None)
    parts = text.split(separator) if separator else [text]
    width = {None: 12, ".": 4}.get(separator, 2)
    digits = "".join(parts)
    if any(len(part) != width for part in parts) or len(digits) != 12 or not _HEX.issuperset(digits):
        unfit('is no MAC: six bytes are allowed, as "fa:16:3e:00:00:01"')
    return ":".join(digits[i : i + 2] for i in range(0, 12, 2))
