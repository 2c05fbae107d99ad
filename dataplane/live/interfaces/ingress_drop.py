"""What comes by an interface, kept from the host's own stack: nftables drops all of it at the interface's ingress.

AF_PACKET sees frames before that. Dropped are IPv4, IPv6, ARP and all else, tagged or not, before a bridge, a VLAN
interface or a socket of the host could take it, whoever it is from. The table belongs to the socket that made it (Linux
5.12): it goes with that, also where a firewall is killed, so that there is nothing to put back.

Raises OSError where the kernel has no nftables, or an older one.
"""

from __future__ import annotations

import os
import secrets
import socket
import struct
from typing import Any

_NETLINK_NETFILTER, _NFTABLES = 12, 10
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NFPROTO_NETDEV = 5
_NF_INGRESS, _NF_DROP = 0, 0
#: Before all that others have there.
_PRIORITY = -(1 << 31)
_TABLE_OWNER = 2
_ANSWER_SECONDS = 5.0
_HEADER, _ERROR = struct.Struct("=IHHII"), struct.Struct("=i")
_NLMSG_ERROR = 2


class IngressDrop:
    """Begins when it is made, for an interface of this thread's network namespace, and ends with `close`."""

    def __init__(self, name: str) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        self._owner = socket.socket(socket.AF_NETLINK, kind, _NETLINK_NETFILTER)
        try:
            self._owner.bind((0, 0))
            self._owner.settimeout(_ANSWER_SECONDS)
            # One that is given up, of this process or another, may still be there.
            messages = _messages(name, f"dataplane-{name}-{secrets.token_hex(4)}")
            self._owner.send(b"".join(messages))
            # Neither is there unless both are.
            for _ in range(len(messages) - 2):
                self._take_answer()
        except BaseException:
            self._owner.close()
            raise

    def close(self) -> None:
        """The host takes what comes by the interface again; can be called from any namespace."""
        self._owner.close()

    def _take_answer(self) -> None:
        answer = self._owner.recv(4096)
        _, kind, *_ = _HEADER.unpack_from(answer)
        error = -_ERROR.unpack_from(answer, _HEADER.size)[0] if kind == _NLMSG_ERROR else 0
        if error:
            raise OSError(error, os.strerror(error))


def _messages(name: str, table: str) -> list[bytes]:
    """A table with one chain, without rules, that drops: the messages of one batch."""
    from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST
    from pyroute2.netlink.nfnetlink import nfgen_msg
    from pyroute2.netlink.nfnetlink.nftsocket import NFT_MSG_NEWCHAIN, NFT_MSG_NEWTABLE, nft_chain_msg, nft_table_msg

    hook = [
        ("NFTA_HOOK_HOOKNUM", _NF_INGRESS),
        ("NFTA_HOOK_PRIORITY", _PRIORITY),
        ("NFTA_HOOK_DEV", name),
    ]
    new_table, new_chain = nft_table_msg(), nft_chain_msg()
    new_table["attrs"] = [("NFTA_TABLE_NAME", table), ("NFTA_TABLE_FLAGS", _TABLE_OWNER)]
    new_chain["attrs"] = [
        ("NFTA_CHAIN_TABLE", table),
        ("NFTA_CHAIN_NAME", "ingress"),
        ("NFTA_CHAIN_TYPE", "filter"),
        ("NFTA_CHAIN_HOOK", {"attrs": hook}),
        ("NFTA_CHAIN_POLICY", _NF_DROP),
    ]
    asked, making = NLM_F_REQUEST, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL
    return [
        _encoded(nfgen_msg(), _BATCH_BEGIN, asked),
        _encoded(new_table, _NFTABLES << 8 | NFT_MSG_NEWTABLE, making),
        _encoded(new_chain, _NFTABLES << 8 | NFT_MSG_NEWCHAIN, making),
        _encoded(nfgen_msg(), _BATCH_END, asked),
    ]


def _encoded(message: Any, kind: int, flags: int) -> bytes:
    message["header"]["type"], message["header"]["flags"] = kind, flags
    message["nfgen_family"], message["res_id"] = _NFPROTO_NETDEV, _NFTABLES
    message.encode()
    return bytes(message.data)
