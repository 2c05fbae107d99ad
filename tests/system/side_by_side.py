"""One policy, told to the kernel and to the engine; packets judged by both, on one clock."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from dataplane import DataPlane, Policy, Verdict
from tests.property.frames import packed
from tests.property.policy_model import TIMEOUTS
from tests.support.differences import DIFFERENCES
from tests.support.segment import INSIDE, INSIDE6
from tests.system.kernel_filter import KernelFilter

ROUTER, ROUTER6 = "198.51.100.1", "2001:db8:1::1"


@dataclass(frozen=True)
class BothRules:
    """The same rules in two languages: for nftables those that send to the chain `new`, and those of a group."""

    nftables: str
    group: list[dict[str, Any]]


# A few services inside, everything outside.
SERVICES = BothRules(
    """
    oifname outside goto new
    oifname inside tcp dport 80 goto new
    oifname inside udp dport 53 goto new
    oifname inside meta l4proto { icmp, icmpv6, gre, esp, ah, udplite, sctp } goto new
    """,
    [
        {"id": f"{ethertype}-{number}", "ethertype": ethertype, "direction": "ingress", **fields}
        for ethertype, icmp in (("IPv4", "icmp"), ("IPv6", "icmpv6"))
        for number, fields in enumerate(
            [
                {"direction": "egress"},
                {"protocol": "tcp", "multiport": "80"},
                {"protocol": "udp", "multiport": "53"},
                *({"protocol": protocol} for protocol in (icmp, "gre", "50", "51", "136", "132")),
            ]
        )
    ],
)
# Everything may begin.
OPEN = BothRules(
    "goto new",
    [
        {"id": f"{direction}-{ethertype}", "direction": direction, "ethertype": ethertype}
        for direction in ("ingress", "egress")
        for ethertype in ("IPv4", "IPv6")
    ],
)


@dataclass(frozen=True)
class Outcome:
    """What both said: new, established, related, untracked or denied; and why the engine denied."""

    kernel: str
    engine: str
    cause: str = ""

    @property
    def agreed(self) -> bool:
        """Whether both said the same."""
        return self.kernel == self.engine

    def fits(self, expected: str) -> bool:
        """Whether this is the word that both should say, or the difference of this name."""
        return (self.kernel, self.engine) == DIFFERENCES.get(expected, (expected, expected))


class SideBySide:
    """The kernel and the engine, each with an empty connection table, in front of one instance."""

    def __init__(
        self,
        inside: tuple[str, ...] = (INSIDE, INSIDE6),
        rules: BothRules = SERVICES,
        timeouts: dict[str, int] = TIMEOUTS,
    ) -> None:
        document = {
            "security_groups": [{"id": "sg", "security_group_rules": rules.group}],
            "instances": [{"id": "inside", "addresses": list(inside), "security_groups": ["sg"]}],
            "conntrack": {"timeouts": timeouts},
        }
        self._inside = {packed(address) for address in inside}
        self._engine = DataPlane(Policy.parse(json.dumps(document)), seed=1)
        self._kernel = KernelFilter(inside, rules.nftables, timeouts)

    def __enter__(self) -> SideBySide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._kernel.close()

    def judge(self, *fragments: bytes) -> Outcome:
        """Sends one datagram, whole or in fragments, through both; it comes from inside if its source is there.

        The kernel forwards it when it is complete. The engine lets it through if it denies none of the fragments.
        """
        kernel = "denied"
        verdicts: list[Verdict] = []
        for packet in fragments:
            source = packet[8:24] if packet[0] >> 4 == 6 else packet[12:16]
            verdicts.append(self._engine.process(packet, time_ns=time.monotonic_ns(), link="raw"))
            said = self._kernel.process(packet, from_inside=source in self._inside)
            kernel = said if said != "denied" else kernel
        verdicts = [verdict for verdict in verdicts if verdict.checks]
        verdicts += [verdict for _, verdict in self._engine.resolved()]
        checks = [check for verdict in verdicts for check in verdict.checks]
        for check in checks:
            if check.verdict == "deny":
                return Outcome(kernel, "denied", check.cause or check.reason)
        return Outcome(kernel, checks[0].state if len(checks) == len(fragments) else "denied")
