"""Sets of rules like those of ClassBench (Taylor and Turner 2007), in the fields that a security group's rule has.

ClassBench's own seed files are not packaged anywhere. What is made here follows what they say of access lists of
routers: sources are prefixes of a tree whose branches are of very unequal weight, most of them long (24 to 32 bits),
some of 8 to 23, few of none, and many inside others; destination ports are mostly single and of few services, some are
ranges, and some are all; protocols are TCP, UDP, others and all. What a rule of five fields says of the destination's
address and the source's port is left out, and what is then the same as a rule before it. Packets ask about a rule's own
corner, rules by Pareto's law.
"""

from __future__ import annotations

import random
from array import array
from dataclasses import dataclass

#: Ports of services, the first the most frequent.
SERVICES = (80, 443, 53, 22, 25, 1521, 3306, 5432, 8080, 389, 123, 161, 110, 143, 445, 3389, 6379, 9092, 2049, 179)
#: Lengths of sources and how frequent they are.
LENGTHS = dict(
    zip((0, 8, 12, 14, *range(16, 33)), (2, 1, 1, 1, 6, 1, 2, 1, 3, 3, 4, 4, 21, 3, 4, 5, 8, 6, 6, 2, 18), strict=True)
)
#: Look-ups of a pass.
QUESTIONS = 1 << 20


@dataclass(frozen=True)
class RuleSet:
    """Rules in their order, and packets to ask about; arrays of 32-bit words.

    `rules` has five words a rule: address, bits, protocol or 256 for all, lowest and highest port. `questions` has two
    a packet: address, and protocol << 16 | port.
    """

    n: int
    rules: array[int]
    questions: array[int]


def _mask(bits: int) -> int:
    return 0xFFFFFFFF << (32 - bits) & 0xFFFFFFFF


def _ports(chance: random.Random, protocol: int) -> tuple[int, int]:
    if protocol not in (6, 17):
        return 0, 65535
    kind = chance.random()
    if kind < 0.72:
        if chance.random() < 0.75:
            port = SERVICES[min(int(chance.paretovariate(0.9)) - 1, len(SERVICES) - 1)]
        else:
            port = chance.randrange(1, 65536)
        return port, port
    if kind < 0.82:
        return 1024, 65535
    if kind < 0.9:
        low = chance.randrange(1, 65000)
        return low, min(65535, low + chance.choice((1, 2, 9, 99, 999)))
    return 0, 65535


def made(n: int, seed: int = 1) -> RuleSet:
    """A set of n different rules."""
    chance = random.Random(seed)
    lengths, weights = list(LENGTHS), list(LENGTHS.values())
    # Sites are what long prefixes crowd in.
    sites = [chance.getrandbits(32) & _mask(20) for _ in range(max(8, n // 40))]
    rules: dict[tuple[int, int, int, int, int], None] = {}
    while len(rules) < n:
        bits = chance.choices(lengths, weights)[0]
        site = sites[min(int(chance.paretovariate(0.7)) - 1, len(sites) - 1)]
        address = (site | chance.getrandbits(12)) & _mask(bits)
        protocol = chance.choices((6, 17, 1, 47, 256), (68, 20, 3, 1, 8))[0]
        rules[address, bits, protocol, *_ports(chance, protocol)] = None
    # What is special comes before what is general, as in lists that people write.
    ordered = sorted(rules, key=lambda rule: (-(rule[1] // 8), rule[4] - rule[3] > 0, chance.random()))
    questions = array("I")
    for _ in range(min(QUESTIONS, 64 * n)):
        rule = ordered[min(int(chance.paretovariate(0.6) * n / 50), n - 1)]
        address, bits, protocol, low, high = rule
        questions.append(address | chance.getrandbits(32) & ~_mask(bits) & 0xFFFFFFFF)
        protocol = chance.choice((6, 17)) if protocol == 256 else protocol
        port = chance.randint(low, high) if protocol in (6, 17) else 0
        questions.append(protocol << 16 | port)
    return RuleSet(n, array("I", [word for rule in ordered for word in rule]), questions)
