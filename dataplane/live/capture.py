"""Frames of the feed as a pcapng file: an interface for each port, and the verdict as a comment.

The file begins with a section; an interface is described when its first frame comes, and the end says how many frames
were lost.
"""

from __future__ import annotations

import time
from typing import Any

from dataplane import pcapng
from dataplane._core import lib
from dataplane.live.feed import FRAMES, Subscription, frame_of
from dataplane.verdict import comment_of, verdict_of


class Capture(Subscription):
    """Frames with their verdicts as pcapng blocks, from the beginning of the file on."""

    kinds = FRAMES

    def __init__(self, *arguments: Any, port: int = -1) -> None:
        super().__init__(*arguments, port=port)
        self._interfaces: dict[int, int] = {}
        from dataplane import __version__

        self.put(pcapng.section(f"dataplane {__version__}"))

    def convert(self, item: Any) -> bytes:
        blocks = b""
        number = self._interfaces.get(item.port)
        if number is None:
            number = self._interfaces[item.port] = len(self._interfaces)
            blocks = pcapng.interface(self.port_name(item.port), self._behind(item.port))
        verdict = verdict_of(item.record, self._firewall.names)
        time_ns = self.wall_ns(item.time_ns)
        comment = comment_of(verdict)
        return blocks + pcapng.packet(
            number,
            time_ns,
            frame_of(item),
            verdict.length,
            sent=bool(item.sent),
            comment=comment,
            offloaded=bool(item.flags & lib.DP_FRAME_CHECKSUM_OFFLOADED),
        )

    def _behind(self, number: int) -> str:
        """What stands behind a port, in words: a replay knows an uplink by them that its policy does not name."""
        port = self._firewall.ports.get(number)
        if port is None:
            return "gone"
        if port.instance:
            return f"instance {port.instance.id}"
        return f"load balancer {port.balancer.id}" if port.balancer else "uplink"

    def ending(self) -> bytes:
        """The last blocks: what was lost, on all interfaces together, counted at the first."""
        return pcapng.statistics(0, time.time_ns(), self.lost) if self._interfaces else b""
