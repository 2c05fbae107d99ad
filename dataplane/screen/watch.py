"""What the screen knows of a firewall: its last answers, and how fast each counter grew in the last readings."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: Readings that are kept for each rate.
HISTORY = 60
_BARS = " ▁▂▃▄▅▆▇█"


@dataclass(slots=True)
class Rate:
    """A counter that grows: its value, and how much a second it grew by in the last readings, the latest last."""

    total: int = 0
    history: deque[float] = field(default_factory=lambda: deque(maxlen=HISTORY))

    @property
    def now(self) -> float:
        """A second, between the last two readings."""
        return self.history[-1] if self.history else 0.0


class Rates:
    """The rates of many counters, by keys of any kind."""

    def __init__(self) -> None:
        self._rates: dict[Hashable, Rate] = {}

    def read(self, totals: Mapping[Hashable, int], seconds: float | None) -> None:
        """Takes a reading, so many seconds after the one before; None where that one is of no use.

        A counter that was not there counts from 0 on, one that is gone is forgotten.
        """
        before, self._rates = self._rates, {}
        for key, total in totals.items():
            rate = self._rates[key] = before.get(key) or Rate()
            if seconds is not None:
                # One that fell began anew.
                grown = total - rate.total if total >= rate.total else total
                rate.history.append(grown / seconds)
            rate.total = total

    def __getitem__(self, key: Hashable) -> Rate:
        return self._rates.get(key) or Rate()

    def keys(self) -> Iterator[Any]:
        """The keys of the last reading, in its order."""
        return iter(self._rates)


class Watch:
    """A firewall as it was read last: `status` and `counters` as the control socket has them, and rates."""

    def __init__(self) -> None:
        self.status: dict[str, Any] = {}
        self.counters: dict[str, Any] = {}
        self.rates = Rates()
        self._read_at: float | None = None
        self._of: tuple[Any, ...] = ()

    def read(self, status: dict[str, Any], counters: dict[str, Any], at: float) -> None:
        """Takes a reading made at a time of any clock that never goes back; one of another process begins anew."""
        of = status["pid"], status["started"]
        seconds = None if self._read_at is None or of != self._of else max(at - self._read_at, 1e-3)
        if of != self._of:
            self.rates = Rates()
        self.status, self.counters = status, counters
        self._read_at, self._of = at, of
        self.rates.read(dict(_totals(counters)), seconds)

    @property
    def ports(self) -> list[str]:
        """The ports by name."""
        return [port["port"] for port in self.counters.get("ports", ())]

    @property
    def reasons(self) -> list[tuple[str, str]]:
        """Verdicts and reasons that there are: what is denied first."""
        found = ((check["verdict"], check["reason"]) for check in self.counters.get("checks", ()))
        return sorted(found, key=lambda pair: (pair[0] != "deny", *pair))


def _totals(counters: Mapping[str, Any]) -> Iterator[tuple[Hashable, int]]:
    """Each counter that a rate is shown of."""
    for port in counters["ports"]:
        name = port["port"]
        for way in ("received", "sent"):
            yield ("port", name, way), port[way]["packets"]
            yield ("bytes", name, way), port[way]["bytes"]
        denied = sum(check["packets"] for check in port["checks"] if check["verdict"] == "deny")
        yield ("port", name, "denied"), denied
    for verdict in ("allow", "deny", "bypass"):
        yield ("verdict", verdict), counters["verdicts"][verdict]["packets"]
    for check in counters["checks"]:
        yield ("reason", check["verdict"], check["reason"]), check["packets"]
    for rule in counters["rules"]:
        yield ("rule", rule["rule"], rule["security_group"]), rule["packets"]
    for word in ("opened", "disconnected"):
        yield ("connections", word), counters["connections"][word]


def sparkline(history: Sequence[float], width: int) -> str:
    """The last values as bars of eight heights, as many as there is room for; the highest of them is full."""
    shown = list(history)[-width:]
    highest = max(shown, default=0.0)
    bars = "".join(_BARS[0 if value <= 0 else max(1, round(value / highest * 8))] for value in shown)
    return bars.rjust(width)


def figure(value: float) -> str:
    """A rate in at most six characters: 0, 0.4, 12, 1,234, 56.7k, 8.9M."""
    if value == 0:
        return "0"
    if value < 9.95:
        return f"{value:.1f}"
    if value < 9999.5:
        return f"{value:,.0f}"
    for unit in "kMG":
        value /= 1000
        if value < 99.95:
            return f"{value:.1f}{unit}"
        if value < 999.5 or unit == "G":
            return f"{value:.0f}{unit}"
    raise AssertionError
