"""Expectations: what must hold for the packets of a replay (``dataplane replay --expect FILE``, SPEC 7).

The file is a YAML list. Each item selects packets and says what must hold for every one of them::

    - {packet: 3, verdict: allow, reason: rule, rule: A01}
    - {packet: 4-7, verdict: allow, state: established, connection: inbound}
    - {address: 172.16.0.5, port: 22, protocol: tcp, direction: ingress, verdict: deny, reason: no-rule-matched}
    - {address: 10.0.0.0/8, verdict: deny, count: 0}

Selectors, joined by "and"; an item without any selects every packet:

``packet``
    A number, a range ``3-7``, or a list of both; numbers are those of the verdict records. Each packet named must be in
    the captures and meet the item's other selectors, or the expectation fails.
``address``, ``port``, ``protocol``
    An address or prefix, and a port, of either side; a protocol's name or number.
``direction``, ``instance``
    The packet has a check in that direction, at that instance; this check is then the one looked at.

What can be expected: ``verdict``, ``state``, ``reason``, ``rule``, ``security_group``, ``connection`` in the words of the
verdict records, the last three also ``null`` for none; and ``count``, how many packets are selected. Without ``count``
an item that selects no packet fails. Without ``direction`` and ``instance``, ``verdict`` is the packet's and the rest
is compared with the check that decided: the one that denied, else the last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from rich.console import Console
from rich.text import Text

from dataplane._core import ffi, lib
from dataplane.verdict import (
    DIRECTION_WORDS,
    ORIGIN_WORDS,
    REASON_WORDS,
    STATE_WORDS,
    VERDICT_WORDS,
    Check,
    Names,
    Verdict,
    verdict_of,
)
