"""Packets as cases of `dataplane test` write them, one a line (SPEC 8.6).

A line is a time in seconds since the first packet (left out: a millisecond after the line before), a packet as SPEC 8
writes it, and behind ``=>`` what is expected of it; ``#`` begins a comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from dataplane.conntrack import NANOSECONDS
from dataplane.insight.conversations import Conversations
from dataplane.insight.packet_text import Packet, PacketTextError, parse_packet
from dataplane.policy.mistakes import Mistake, PolicyError, shown
from dataplane.policy.reading.load import diagnose
from dataplane.replay.expectation import EXPECTABLE, Expectation

#: Between two packets whose lines say no time.
_STEP_NS = 1_000_000
#: A time before a packet: the packet's own first word may be a number too, and then an address and ">" follow.
_TIME = re.compile(r"\s*(\d+(?:\.\d+)?)\s+(?=[^\s>]+\s+[^\s>]+\s*>)")
_COMMENT = re.compile(r"(?:^|\s)#.*")


@dataclass(frozen=True)
class Line:
    """A line of packets, and the place of its mistakes."""

    text: str
    at: Mistake

    @property
    def place(self) -> str:
        """What the line stands as in messages, as file:line."""
        return f"{self.at.file}:{self.at.line}"

    def mistake(self, message: str) -> Mistake:
        """What is wrong with the line."""
        return replace(self.at, message=message)

    @classmethod
    def of_text(cls, text: str, name: str) -> Iterator[Line]:
        """The lines of a file."""
        for number, line in enumerate(text.splitlines(), 1):
            yield cls(line, Mistake(name, number, 1, "", ""))


def packets_of(lines: Iterable[Line]) -> tuple[list[Packet], list[int], list[tuple[str, Expectation]]]:
    """The packets, their times in nanoseconds, and what is expected of some, with its place. Raises PolicyError."""
    packets: list[Packet] = []
    times: list[int] = []
    conversations = Conversations()
    expected: list[tuple[str, Expectation]] = []
    mistakes: list[Mistake] = []
    for line in lines:
        text, arrow, outcome = _COMMENT.sub("", line.text).partition("=>")
        if not text.strip() and not arrow:
            continue
        try:
            time, packet = _timed(text, times)
            packets.append(conversations.numbered(packet))
            times.append(time)
            if arrow:
                expected.append((line.place, _expected(outcome, len(packets))))
        except (PacketTextError, ValueError) as error:
            mistakes.append(line.mistake(f"{line.text.strip()}: {error}"))
    if mistakes:
        raise PolicyError(mistakes)
    return packets, times, expected


def _timed(text: str, times: Sequence[int]) -> tuple[int, Packet]:
    time = times[-1] + _STEP_NS if times else 0
    if match := _TIME.match(text):
        time = round(float(match[1]) * NANOSECONDS)
        text = text[match.end() :]
    if times and time < times[-1]:
        raise ValueError("its time is before that of the packet before it: write packets in order of time")
    return time, parse_packet(text)


def _expected(text: str, packet: int) -> Expectation:
    """What stands behind ``=>``: a verdict, and fields of an expectation."""
    words = text.split()
    values: dict[str, Any] = {"packet": packet}
    for number, word in enumerate(words):
        key, equals, value = word.partition("=")
        if not equals:
            key, value = ("verdict" if number == 0 else "", word)
        if key not in (*EXPECTABLE, "direction", "instance"):
            raise ValueError(
                f"{shown(word)} is not allowed behind =>: write VERDICT, then FIELD=VALUE such as rule=A01"
            )
        values[key] = None if value == "null" else value
    try:
        return Expectation.model_validate(values)
    except ValidationError as error:
        raise ValueError("; ".join(c.message for c in diagnose(Expectation, values, error))) from None
