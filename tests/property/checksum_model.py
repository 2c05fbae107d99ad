"""Checksums as RFC 1071 and RFC 9260 write them, one byte after the other (SPEC 2, `verify_checksums`).

Offloading is left out: the stories send no packets whose checksum a card would have completed.
"""

from __future__ import annotations

ICMP, TCP, UDP, DCCP, ICMPV6, SCTP, UDP_LITE = 1, 6, 17, 33, 58, 132, 136


def fits(data: bytes) -> bool:
    """Whether the ones' complement sum over data with its checksum in it is all ones."""
    total = 0
    for at in range(0, len(data), 2):
        total += data[at] * 256 + (data[at + 1] if at + 1 < len(data) else 0)
    while total > 0xFFFF:
        total = total % 0x10000 + total // 0x10000
    return total == 0xFFFF


def transport_fits(source: bytes, destination: bytes, protocol: int, body: bytes) -> bool:
    """Whether the checksum of a transport header and what follows it is right, where the protocol has one."""
    pseudo = source + destination + len(body).to_bytes(4, "big") + bytes([0, 0, 0, protocol])
    six = len(source) == 16
    if protocol == TCP or (protocol == ICMPV6 and six):
        return fits(pseudo + body)
    if protocol == ICMP and not six:
        return fits(body)
    if protocol == UDP:
        said = int.from_bytes(body[4:6], "big")
        pseudo = source + destination + said.to_bytes(4, "big") + bytes([0, 0, 0, UDP])
        return body[6:8] == b"\0\0" or fits(pseudo + body[:said])
    if protocol == UDP_LITE:
        return fits(pseudo + body[: int.from_bytes(body[4:6], "big") or len(body)])
    if protocol == DCCP:
        words = body[5] & 15
        return fits(pseudo + (body[: body[4] * 4 + (words - 1) * 4] if words else body))
    if protocol == SCTP:
        return body[8:12] in (bytes(4), _crc32c(body[:8] + bytes(4) + body[12:]).to_bytes(4, "little"))
    return True


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        for bit in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if (crc ^ byte >> bit) & 1 else 0)
    return crc ^ 0xFFFFFFFF
