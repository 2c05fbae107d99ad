"""What can be asked of a running firewall, and told it: the one place where live changes are made, one after the other.

Everything here runs in the control thread and answers with JSON values. A change is valid and in force, as a whole, or
refused and nothing has happened (SPEC 5.1, 5.6); the answer comes when it is in force.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataplane.atomic import is_replaceable
from dataplane.live import audit, state
from dataplane.live.audit import NOBODY, Asker
from dataplane.live.records import counters_record, disconnected_record, row_record
from dataplane.policy import Policy, PolicyError
from dataplane.policy.mistakes import Mistake
from dataplane.terminal import printable

if TYPE_CHECKING:
    from dataplane.enforcement import Disconnected
    from dataplane.live.firewall import Firewall
    from dataplane.live.ports import Changes, Port, Ports
    from dataplane.live.selection import Selection

log = logging.getLogger("dataplane")

_LISTED_AT_ONCE = 512

NO_CARRIER = "no carrier (nobody holds the TAP, or its other end is down)"


@dataclass(slots=True)
class Reloads:
    """What became of the policy file since the start."""

    succeeded: int = 0
    failed: int = 0
    seconds: float = 0.0
    loaded_at: float = field(default_factory=time.time)


class Operations:
    """A firewall, its ports and its policy file `policy_path`, with all that the control socket offers.

    `warnings` of an answer are sentences about what a policy says of interfaces and they did not, or would not, get.
    """

    def __init__(self, firewall: Firewall, ports: Ports, policy_path: Path, *, state_path: Path | None = None) -> None:
        self.firewall = firewall
        self.generation = 1
        self.reloads = Reloads()
        #: System calls that the kernel refuses to this process; none for a reason.
        self.refused_calls = 0
        self.unfiltered_because: str | None = None
        self._ports = ports
        self._policy_path = policy_path
        self._state_path = state_path
        self._started = time.time()
        self._unsaved = 0
        # Of each port, by its descriptors: the errno with which it fails, and how many times it began to.
        self._failures: dict[tuple[int, ...], tuple[int, int]] = {}
        self._without_carrier: dict[tuple[int, ...], str] = {}

    # ---- the policy ----

    def reload(self, *, dry_run: bool = False, asker: Asker = NOBODY) -> dict[str, Any]:
        """Reads the policy file again and puts it in force. On a PolicyError, with every mistake, the old one stays."""
        started = time.perf_counter()
        try:
            policy = self.firewall.changed({"apply_policy": self._read_policy()})
            answer = self._change_to(policy, asker, dry_run=dry_run)
        except Exception as error:
            if not dry_run:
                self.reloads.failed += 1
                reasons = error.mistakes if isinstance(error, PolicyError) else [error]
                for reason in reasons[: audit.SHOWN_MAX]:
                    audit.refused(
                        f"reload of {self._policy_path}, the policy before stays in force", str(reason), asker
                    )
            raise
        if not dry_run:
            self.reloads.succeeded += 1
            self.reloads.seconds = time.perf_counter() - started
            self.reloads.loaded_at = time.time()
            self._unsaved = 0
            audit.done(
                "policy reloaded" if answer["changed"] else "policy reloaded, nothing changed",
                asker,
                file=str(self._policy_path),
                disconnected=answer["disconnected"]["total"],
            )
        return {"policy": str(self._policy_path), **answer, "seconds": time.perf_counter() - started}

    def _read_policy(self) -> Policy:
        # A FIFO or a device may never end, and nothing else would be answered meanwhile.
        if not is_replaceable(self._policy_path):
            text = "it is no regular file: put the policy there"
            raise PolicyError([Mistake(printable(str(self._policy_path)), None, None, "", text)])
        return Policy.load(self._policy_path)

    def change(self, change: Mapping[str, Any], *, dry_run: bool = False, asker: Asker = NOBODY) -> dict[str, Any]:
        """Makes one change of SPEC 7 in memory: the policy file stays as it is. Raises ChangeError.

        `unsaved_changes` of the answer are those that the next reload takes back.
        """
        before = self.firewall.policy
        try:
            if "apply_policy" in change:
                raise ValueError("apply_policy is no change of a running firewall: use reload")
            policy = self.firewall.changed(change)
            answer = self._change_to(policy, asker, dry_run=dry_run)
        except Exception as error:
            if not dry_run:
                audit.refused(f"change {json.dumps(change)}", error, asker)
            raise
        if answer["changed"] and not dry_run:
            self._unsaved += 1
        elif not dry_run:
            audit.done(f"nothing changed by {json.dumps(change)}", asker)
        return answer | {
            "new_rules": sorted(policy.rules_by_id.keys() - before.rules_by_id.keys()),
            "unsaved_changes": self._unsaved,
            "policy_file": str(self._policy_path),
        }

    def _change_to(self, policy: Policy, asker: Asker, *, dry_run: bool) -> dict[str, Any]:
        changed = policy is not self.firewall.policy
        result, warnings = self._rehearse(policy) if dry_run else self._put_in_force(policy, asker)
        return {
            "changed": changed,
            "dry_run": dry_run,
            "generation": self.generation,
            "disconnected": disconnected_record(result),
            "warnings": list(warnings),
        }

    def _rehearse(self, policy: Policy) -> tuple[Disconnected, tuple[str, ...]]:
        warnings = self._ports.rehearse(policy)
        return self.firewall.rehearse(policy), warnings

    def _put_in_force(self, policy: Policy, asker: Asker) -> tuple[Disconnected, tuple[str, ...]]:
        """Interfaces that a policy newly names are opened before it is in force: where that fails, all stays."""
        before = self.firewall.policy
        ports = self._ports.update(policy)
        try:
            result = self.firewall.replace(policy, changed=ports.changed, closed=ports.removed)
        except BaseException:
            self._follow(ports)
            self._follow(self._ports.update(self.firewall.policy))
            raise
        self._follow(ports)
        if policy is not before:
            self.generation += 1
            audit.changed(before, policy, asker, generation=self.generation, disconnected=disconnected_record(result))
        return result, ports.warnings

    def refresh_ports(self) -> None:
        """Takes out ports whose interface is gone, and serves those whose interface is back."""
        self._follow(self._ports.refresh())
        self._tell_failures()
        self._tell_carriers()

    def _tell_failures(self) -> None:
        """Logs each port that began to fail since this was looked at last, and each that is well again."""
        now = {}
        for number, port in self.firewall.ports.items():
            counters = self.firewall.port_counters(number)
            failing, failures = self._failures.get(port.fds, (0, 0))
            now[port.fds] = (counters.error, counters.failures)
            if counters.failures != failures and not failing:
                why = os.strerror(counters.error) if counters.error else "for a moment"
                log.warning("interface %s fails (%s): it is tried again until it works", port.name, why)
            if not counters.error and (failing or counters.failures != failures):
                log.info("interface %s works again", port.name)
        self._failures = now

    def _tell_carriers(self) -> None:
        """Logs each port whose other end nobody holds any more since this was looked at last, and each that is held."""
        now = {port.fds: port.name for port in self.firewall.ports.values() if not port.has_carrier}
        open_ports = {port.fds for port in self.firewall.ports.values()}
        for fds in now.keys() - self._without_carrier.keys():
            log.warning("interface %s has %s: it is served as soon as there is one", now[fds], NO_CARRIER)
        for fds in self._without_carrier.keys() - now.keys() & open_ports:
            log.info("interface %s has a carrier again", self._without_carrier[fds])
        self._without_carrier = now

    def trouble(self, number: int, port: Port) -> str | None:
        """Why a port does not work now, None when it does."""
        error = self.firewall.port_counters(number).error
        if error:
            return os.strerror(error)
        return NO_CARRIER if port.fds in self._without_carrier else None

    @property
    def missing_interfaces(self) -> tuple[str, ...]:
        """Interfaces that the policy names and that are not there now."""
        return self._ports.missing

    def _follow(self, changes: Changes) -> None:
        """Makes the switch serve what is open. A port that comes may have the name of one that goes."""
        for port in changes.removed:
            self.firewall.remove_port(port)
            self._ports.release(port)
        for port in changes.added:
            self.firewall.add_port(port)

    # ---- connections ----

    def connections(self, selection: Selection) -> Iterator[list[dict[str, Any]]]:
        """The chosen connections, some at a time; the table goes on changing meanwhile."""
        for view in selection.views(self.firewall.connections):
            for rows in view.rows():
                now_ns = self.firewall.now()
                while batch := [row_record(row, now_ns) for row in islice(rows, _LISTED_AT_ONCE)]:
                    yield batch
        yield []

    def count(self, selection: Selection) -> dict[str, Any]:
        """How many of the chosen connections there are, in all and by state."""
        by_state: dict[str, int] = {}
        for view in selection.views(self.firewall.connections):
            for word, number in view.count_by_state().items():
                by_state[word] = by_state.get(word, 0) + number
        counters = self.firewall.counters()
        return {"count": sum(by_state.values()), "by_state": by_state, "limit": counters.max_entries}

    def delete(self, selection: Selection, *, asker: Asker = NOBODY) -> dict[str, Any]:
        """Takes the chosen connections out of the table; their next packets are new."""
        by_instance: Counter[str] = Counter()
        chosen = selection.model_dump(exclude_none=True)
        what = ", ".join(f"{name} {value}" for name, value in chosen.items()) or "all"
        try:
            views = selection.views(self.firewall.connections)
            for view in views:
                for (instance, _), number in view.census().items():
                    by_instance[instance] += number
            deleted = sum(view.flush() for view in views)
        except Exception as error:
            audit.refused(f"deletion of connections: {what}", error, asker)
            raise
        audit.done(f"connections deleted: {what}", asker, deleted=deleted, by_instance=dict(by_instance))
        return {"deleted": deleted}

    # ---- state ----

    def save(self) -> state.State:
        """The state to be written to the state file. Raises ValueError where no file was named at the start."""
        if self._state_path is None:
            raise ValueError("there is no state file: start the firewall with --state FILE")
        return state.taken(self.firewall)

    @property
    def state_path(self) -> Path | None:
        """The state file."""
        return self._state_path

    # ---- what it does ----

    def status(self) -> dict[str, Any]:
        """The firewall at a glance."""
        from dataplane import __version__

        policy, counters = self.firewall.policy, self.firewall.counters()
        io_uring, io_uring_error = self.firewall.io_uring()
        return {
            "version": __version__,
            "pid": os.getpid(),
            "started": self._started,
            "uptime": time.time() - self._started,
            "workers": self.firewall.workers,
            "io_uring": io_uring,
            "io_uring_error": io_uring_error,
            "busy_poll": self.firewall.busy_poll,
            "policy": str(self._policy_path),
            "generation": self.generation,
            "loaded": self.reloads.loaded_at,
            "unsaved_changes": self._unsaved,
            "refused_system_calls": self.refused_calls,
            "unfiltered_because": self.unfiltered_because,
            "state_file": str(self._state_path) if self._state_path else None,
            "security_groups": len(policy.security_groups),
            "rules": len(policy.rules_by_id),
            "instances": len(policy.instances),
            "connections": counters.entries,
            "connections_limit": counters.max_entries,
            "table_bytes": counters.table_bytes,
            "early_drops": counters.early_drops,
            "ports": [self._port_record(number, port) for number, port in self.firewall.ports.items()],
            "missing_interfaces": list(self.missing_interfaces),
        }

    def _port_record(self, number: int, port: Port) -> dict[str, Any]:
        return {
            "port": port.name,
            "kind": port.kind,
            "instance": port.instance.id if port.instance else None,
            "load_balancer": port.balancer.id if port.balancer else None,
            "made": port.made,
            "error": self.trouble(number, port),
        }

    def counters(self) -> dict[str, Any]:
        """All counters: by verdict and reason, rule, port, worker."""
        return counters_record(self.firewall)

    def stations(self) -> list[dict[str, Any]]:
        """The MACs that the switch knows."""
        return [
            {"mac": s.mac, "port": s.port, "vlan": s.vlan, "fixed": s.fixed, "age": s.age}
            for s in self.firewall.stations()
        ]
