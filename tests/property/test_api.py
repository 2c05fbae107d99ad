"""Random calls of the cloud's API, over a real uvicorn, against the reference model of policies and changes.

Each call is tried as a dry run first, where it has one: it must be refused, or carried out, as the call itself is then.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from dataplane.policy.write import document
from dataplane.store.sqlite import SqliteStore
from tests.property.policy_model import RULE_DEFAULTS, Difference, Document, _values, edit, find, members, rules, settle
from tests.unit.live.scene import POLICY, filled
from tests.unit.rest.served import Answer, Served, serving

GONE = "gone"
#: What a rule may say; the remotes are drawn from what there is, and from what is not.
FIELDS = st.fixed_dictionaries(
    {"direction": st.sampled_from(["ingress", "egress"])},
    optional={
        "ethertype": st.sampled_from(["IPv4", "IPv6"]),
        "action": st.sampled_from(["allow", "deny"]),
        "priority": st.integers(1, 3),
        "enabled": st.booleans(),
        "description": st.sampled_from(["", "a b", "网络"]),
    },
)
PORTS = st.sampled_from(
    [{}, {"protocol": "udp"}, {"protocol": "tcp"}, *({"protocol": "tcp", "multiport": p} for p in ("22", "22,80"))]
)
ENTRIES = {4: ["192.0.2.0/25", "192.0.2.200", "198.51.100.1-198.51.100.9"], 6: ["2001:db8::/32", "fd00::1"]}
#: The inbound connections that there are at the beginning.
ALIVE = {"a": 2, "b": 1}


class _RefusedError(Exception):
    """The API refuses it, with this status and code."""


class Calls(RuleBasedStateMachine):
    """The API beside the model."""

    served: Served
    store: SqliteStore

    @initialize()
    def begin(self) -> None:
        self.is_kept = False
        self.served.begin_again()
        self.model = settle(_yaml(POLICY))
        self.alive = dict(ALIVE)

    def teardown(self) -> None:
        """What the store has kept, change by change, is the policy in force."""
        if getattr(self, "is_kept", False):
            assert document(self.store.load()) == document(self.served.firewall.policy)

    # ---- what is called ----

    @rule(name=st.sampled_from(["web", "网络", "a.b-c_d"]), description=st.none() | st.just("text"))
    def create_group(self, name: str, description: str | None) -> None:
        body = {"security_group": {"name": name} | ({"description": description} if description else {})}
        answer = self._dry("POST", "/vpc/security-groups", body, [])
        assert answer.status == 202
        made = self.served.call("POST", "/vpc/security-groups", body).body["security_group"]
        first = [
            {"direction": d, "ethertype": e, "priority": 100}
            | ({"remote_group_id": made["id"]} if d == "ingress" else {"remote_ip_prefix": a})
            for d in ("ingress", "egress")
            for e, a in (("IPv4", "0.0.0.0/0"), ("IPv6", "::/0"))
        ]
        ids = [rule["id"] for rule in made["security_group_rules"]]
        given = [{"id": i, **fields} for i, fields in zip(ids, first, strict=True)]
        self._done({"create_group": {"id": made["id"], "name": name, "security_group_rules": given}})

    @rule(data=st.data())
    def delete_group(self, data: st.DataObject) -> None:
        group = self._draw_group(data)

        def expected() -> list[dict[str, Any]]:
            self._there(group)
            named = any(r["remote_group_id"] == group and g["id"] != group for g, r in rules(self.model))
            if named or members(self.model, group):
                raise _RefusedError(409, "VPC.9902")
            return [{"delete_group": {"id": group}}]

        self._call("DELETE", f"/vpc/security-groups/{group}", None, expected, 204)

    @rule(data=st.data())
    def create_rule(self, data: st.DataObject) -> None:
        group = self._draw_group(data)
        fields = self._draw_rule(data)
        body = {"security_group_rule": {"security_group_id": group, **fields}}

        def expected() -> list[dict[str, Any]]:
            self._fits(group, fields, self._there(group)["security_group_rules"])
            return []

        answer = self._call("POST", "/vpc/security-group-rules", body, expected, 201, dry=True)
        if answer.status == 201:
            made = answer.body["security_group_rule"]
            assert {**RULE_DEFAULTS, **fields}.items() >= {k: v for k, v in made.items() if k in RULE_DEFAULTS}.items()
            self._done({"add_rule": {"security_group": group, "rule": {"id": made["id"], **fields}}})

    @rule(data=st.data(), ignore=st.booleans())
    def create_rules(self, data: st.DataObject, ignore: bool) -> None:
        group = self._draw_group(data)
        many = [self._draw_rule(data) for _ in range(data.draw(st.integers(1, 3)))]
        new: list[dict[str, Any]] = []

        def expected() -> list[dict[str, Any]]:
            there = list(self._there(group)["security_group_rules"])
            for fields in many:
                try:
                    self._fits(group, fields, there)
                except _RefusedError as refused:
                    if not (ignore and refused.args == (409, "VPC.9902")):
                        raise
                    continue
                there.append({**RULE_DEFAULTS, **fields})
                new.append(fields)
            return []

        body = {"security_group_rules": many, "ignore_duplicate": ignore}
        path = f"/vpc/security-groups/{group}/security-group-rules/batch-create"
        answer = self._call("POST", path, body, expected, 201)
        if answer.status == 201:
            made = [rule["id"] for rule in answer.body["security_group_rules"]]
            changes = [
                {"add_rule": {"security_group": group, "rule": {"id": i, **fields}}}
                for i, fields in zip(made, new, strict=True)
            ]
            self._done(*changes)

    @rule(data=st.data())
    def update_rule(self, data: st.DataObject) -> None:
        named = self._draw_of(data, [found["id"] for _, found in rules(self.model)])
        fields = data.draw(
            st.fixed_dictionaries({}, optional={"priority": st.integers(1, 3), "enabled": st.booleans()})
        )

        def expected() -> list[dict[str, Any]]:
            for group, found in rules(self.model):
                if found["id"] == named:
                    updated = {**found, **fields}
                    others = [r for r in group["security_group_rules"] if r["id"] != named]
                    if any(_values(other) == _values(updated) for other in others):
                        raise _RefusedError(409, "VPC.9902")
                    return [{"update_rule": {"id": named, **fields}}]
            raise _RefusedError(404, "VPC.9904")

        self._call(
            "PUT", f"/vpc/security-group-rules/{named}", {"security_group_rule": fields}, expected, 200, dry=True
        )

    @rule(data=st.data())
    def delete_rule(self, data: st.DataObject) -> None:
        named = self._draw_of(data, [found["id"] for _, found in rules(self.model)])

        def expected() -> list[dict[str, Any]]:
            if named not in {found["id"] for _, found in rules(self.model)}:
                raise _RefusedError(404, "VPC.9904")
            return [{"delete_rule": {"id": named}}]

        self._call("DELETE", f"/vpc/security-group-rules/{named}", None, expected, 204)

    @rule(data=st.data(), version=st.sampled_from([4, 6]))
    def create_address_group(self, data: st.DataObject, version: int) -> None:
        entries = data.draw(st.lists(st.sampled_from(ENTRIES[version]), max_size=3))
        body = {"address_group": {"name": "set", "ip_version": version, "ip_set": entries}}

        def expected() -> list[dict[str, Any]]:
            if len(set(entries)) < len(entries):
                raise _RefusedError(400, "VPC.9901")
            return []

        answer = self._call("POST", "/vpc/address-groups", body, expected, 201, dry=True)
        if answer.status == 201:
            made = answer.body["address_group"]
            self._done({"create_address_group": {"id": made["id"], "ip_version": version, "ip_set": entries}})

    @rule(data=st.data())
    def update_address_group(self, data: st.DataObject) -> None:
        named = self._draw_of(data, [group["id"] for group in self.model["address_groups"]])
        entries = data.draw(st.lists(st.sampled_from(ENTRIES[4]), max_size=3, unique=True))

        def expected() -> list[dict[str, Any]]:
            group = self._there(named, "address_groups")
            if group["ip_version"] == 6 and entries:
                raise _RefusedError(400, "VPC.9901")
            return [{"update_address_group": {"id": named, "ip_set": entries}}]

        self._call(
            "PUT", f"/vpc/address-groups/{named}", {"address_group": {"ip_set": entries}}, expected, 200, dry=True
        )

    @rule(data=st.data(), force=st.booleans())
    def delete_address_group(self, data: st.DataObject, force: bool) -> None:
        named = self._draw_of(data, [group["id"] for group in self.model["address_groups"]])

        def expected() -> list[dict[str, Any]]:
            self._there(named, "address_groups")
            using = [found["id"] for _, found in rules(self.model) if found["remote_address_group_id"] == named]
            if using and not force:
                raise _RefusedError(409, "VPC.9907")
            return [*({"delete_rule": {"id": i}} for i in using), {"delete_address_group": {"id": named}}]

        path = f"/vpc/address-groups/{named}" + ("/force" if force else "")
        self._call("DELETE", path, None, expected, 204)

    @rule(data=st.data(), port=st.sampled_from(["a", "b"]), index=st.none() | st.integers(0, 3))
    def insert(self, data: st.DataObject, port: str, index: int | None) -> None:
        joined = find(self.model["instances"], port)["security_groups"]
        groups = self._draw_groups(data, [name for name in self._groups() if name not in joined])

        def expected() -> list[dict[str, Any]]:
            has = list(find(self.model["instances"], port)["security_groups"])
            for name in groups:
                self._there(name)
                if name in has:
                    raise _RefusedError(400, "VPC.9901")
            at = len(has) if index is None else index
            return [{"update_instance": {"id": port, "security_groups": has[:at] + groups + has[at:]}}]

        body = {"port": {"security_groups": groups, "index": index}}
        self._call("PUT", f"/ports/{port}/insert-security-groups", body, expected, 200, dry=True)

    @rule(data=st.data(), port=st.sampled_from(["a", "b"]))
    def remove(self, data: st.DataObject, port: str) -> None:
        groups = self._draw_groups(data, find(self.model["instances"], port)["security_groups"])

        def expected() -> list[dict[str, Any]]:
            has = find(self.model["instances"], port)["security_groups"]
            for name in groups:
                self._there(name)
                if name not in has:
                    raise _RefusedError(400, "VPC.9901")
            left = [name for name in has if name not in groups]
            if not left:
                raise _RefusedError(400, "VPC.0607")
            return [{"update_instance": {"id": port, "security_groups": left}}]

        body = {"port": {"security_groups": groups}}
        self._call("PUT", f"/ports/{port}/remove-security-groups", body, expected, 200, dry=True)

    # ---- what holds after each ----

    @invariant()
    def the_policy_in_force_is_that_of_the_model(self) -> None:
        if hasattr(self, "model"):
            assert _shape(settle(document(self.served.firewall.policy))) == _shape(self.model)

    @rule(limit=st.integers(1, 7))
    def lists_have_each_item_once(self, limit: int) -> None:
        """In pages of any size."""
        for path, key, wanted in (
            ("/vpc/security-groups", "security_groups", [g["id"] for g in self.model["security_groups"]]),
            ("/vpc/security-group-rules", "security_group_rules", [r["id"] for _, r in rules(self.model)]),
            ("/vpc/address-groups", "address_groups", [g["id"] for g in self.model["address_groups"]]),
        ):
            found: list[str] = []
            marker = ""
            for _ in range(len(wanted) + 1):
                page = self.served.call("GET", f"{path}?limit={limit}{marker}").body
                found += [item["id"] for item in page[key]]
                if "next_marker" not in page["page_info"]:
                    break
                marker = f"&marker={page['page_info']['next_marker']}"
            assert found == sorted(wanted)

    # ---- how ----

    def _groups(self) -> list[str]:
        return [*(group["id"] for group in self.model["security_groups"]), GONE]

    def _draw_groups(self, data: st.DataObject, most: list[str]) -> list[str]:
        """Groups that a call can be meant for, most of the time; any now and then."""
        likely = [name for name in most if name != GONE]
        choice = likely if likely and data.draw(st.integers(0, 4)) else self._groups()
        return list(data.draw(st.lists(st.sampled_from(choice), min_size=1, max_size=2, unique=True)))

    def _draw_group(self, data: st.DataObject) -> str:
        return self._draw_of(data, self._groups()[:-1])

    def _draw_of(self, data: st.DataObject, ids: list[str]) -> str:
        return str(data.draw(st.sampled_from([*ids, *ids, *ids, GONE])))

    def _draw_rule(self, data: st.DataObject) -> dict[str, Any]:
        fields = data.draw(FIELDS) | data.draw(PORTS)
        remotes: list[dict[str, str]] = [
            {},
            {"remote_ip_prefix": "192.0.2.0/24"},
            {"remote_ip_prefix": "2001:db8::/32"},
        ]
        if not data.draw(st.integers(0, 2)):
            return {**fields, **data.draw(st.sampled_from(remotes))}
        remotes += [{"remote_group_id": group} for group in self._groups()]
        names = [*(group["id"] for group in self.model["address_groups"]), GONE]
        remotes += [{"remote_address_group_id": name} for name in names]
        return {**fields, **data.draw(st.sampled_from(remotes))}

    def _there(self, named: str, section: str = "security_groups") -> dict[str, Any]:
        for item in self.model[section]:
            if item["id"] == named:
                return dict(item)
        raise _RefusedError(404, "VPC.9904")

    def _fits(self, group: str, fields: Mapping[str, Any], there: list[dict[str, Any]]) -> None:
        """Raises _RefusedError for a rule that a group, with the rules that are there, cannot have."""
        self._there(group)
        made = {**RULE_DEFAULTS, **fields}
        if made["remote_group_id"]:
            self._there(made["remote_group_id"])
        if made["remote_address_group_id"]:
            version = self._there(made["remote_address_group_id"], "address_groups")["ip_version"]
            if made["ethertype"] != f"IPv{version}":
                raise _RefusedError(400, "VPC.9901")
        if made["remote_ip_prefix"] and (":" in made["remote_ip_prefix"]) != (made["ethertype"] == "IPv6"):
            raise _RefusedError(400, "VPC.9901")
        if any(_values(other) == _values(made) for other in there):
            raise _RefusedError(409, "VPC.9902")

    def _call(self, method: str, path: str, body: Any, expected: Any, status: int, *, dry: bool = False) -> Answer:
        why: tuple[int, str] | None = None
        try:
            changes = expected()
        except _RefusedError as refused:
            why, changes = refused.args, []
        if why:
            for asked in [{**body, "dry_run": True}, body] if dry else [body]:
                answer = self.served.call(method, path, asked)
                assert (answer.status, answer.code) == why, answer.body
            return answer
        if dry:
            assert self._dry(method, path, body, changes).status == 202
        answer = self.served.call(method, path, body)
        assert answer.status == status, answer.body
        if changes:
            self._done(*changes)
        return answer

    def _dry(self, method: str, path: str, body: Any, changes: list[dict[str, Any]]) -> Answer:
        """A dry run; where it is known what it would do, what it would cut is that of SPEC 5."""
        answer = self.served.call(method, path, {**body, "dry_run": True})
        if changes:
            new: Document = self.model
            for change in changes:
                new = edit(new, change)
            cut = Difference.between(self.model, new).instances
            wanted = {name: number for name, number in self.alive.items() if name in cut}
            assert answer.body["disconnected"]["by_instance"] == wanted
        return answer

    def _done(self, *changes: dict[str, Any]) -> None:
        self.is_kept = True
        before: Document = copy.deepcopy(self.model)
        for change in changes:
            self.model = edit(self.model, change)
        for name in Difference.between(before, self.model).instances:
            self.alive.pop(name, None)


def _yaml(text: str) -> Document:
    import yaml

    found: Document = json.loads(json.dumps(yaml.safe_load(text)))
    return found


def _shape(policy: Document) -> dict[str, Any]:
    """What is compared: rules by group and id, who is in which groups, sets of addresses."""
    return {
        "groups": {
            g["id"]: {r["id"]: _values(r) for r in g["security_group_rules"]} for g in policy["security_groups"]
        },
        "instances": {i["id"]: i["security_groups"] for i in policy["instances"]},
        "sets": {g["id"]: (g["ip_version"], g["ip_set"]) for g in policy["address_groups"]},
    }


def test_random_calls(tmp_path: Path) -> None:
    """One server for all examples."""
    Calls.store = SqliteStore(tmp_path / "policy.db")
    with closing(Calls.store), serving(tmp_path, filled(), keys=None, store=Calls.store) as served:
        Calls.served = served
        run_state_machine_as_test(
            Calls, settings=settings(max_examples=25, stateful_step_count=30, deadline=None, derandomize=True)
        )
