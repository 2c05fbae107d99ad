"""`dataplane ctl rule list`, `group list` and their like: parts of the policy in force as tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Annotated, Any

import typer

from dataplane.cli.ctl.request import JsonOption, Output, OutputOption, connected, show
from dataplane.cli.output import refuse

_REMOTES = ("remote_ip_prefix", "remote_group_id", "remote_address_group_id")
#: What a document leaves out.
_DEFAULTS = {
    "ethertype": "IPv4",
    "protocol": None,
    "multiport": None,
    "action": "allow",
    "priority": 1,
    "enabled": True,
}


class Direction(StrEnum):
    """Which way a rule looks."""

    ingress = "ingress"
    egress = "egress"


class Action(StrEnum):
    """What a rule does."""

    allow = "allow"
    deny = "deny"


GroupOption = Annotated[str | None, typer.Option("--group", help="Only those of this security group.")]
DirectionOption = Annotated[Direction | None, typer.Option("--direction", help="ingress or egress.")]
ActionOption = Annotated[Action | None, typer.Option("--action", help="allow or deny.")]
InstanceOption = Annotated[str | None, typer.Option("--instance", help="Only those that this instance is in.")]


def rules(
    context: typer.Context,
    group: GroupOption = None,
    direction: DirectionOption = None,
    action: ActionOption = None,
    instance: InstanceOption = None,
    output: OutputOption = Output.text,
) -> None:
    """List the rules in force, of each security group in the order of the policy.

    \b
    Examples:
      dataplane ctl rule list --group web
      dataplane ctl rule list --direction ingress --action deny -o json
    """
    from dataplane.cli.ctl.policy_tables import print_rules

    with connected(context) as client:
        policy = client.call("policy")
        uses = {(use["rule"], use["security_group"]): use for use in client.call("rules")}
    _require("--group", "security group", group, policy.get("security_groups", ()))
    chosen = {"security_group": group, "direction": direction, "action": action}
    wanted = {name: value for name, value in chosen.items() if value is not None}
    groups = _groups_of(policy, instance)
    found = [
        rule
        for rule in _rules(policy, uses)
        if all(rule[name] == value for name, value in wanted.items())
        and (groups is None or rule["security_group"] in groups)
    ]
    show(found, output, print_rules)


def groups(context: typer.Context, instance: InstanceOption = None, output: OutputOption = Output.text) -> None:
    """List the security groups in force, with the instances in them.

    \b
    Examples:
      dataplane ctl group list
      dataplane ctl group list --instance web-1 -o json
    """
    from dataplane.cli.ctl.policy_tables import print_groups

    with connected(context) as client:
        policy = client.call("policy")
    chosen = _groups_of(policy, instance)
    found = [
        {
            "id": group["id"],
            "name": group.get("name"),
            "rules": len(group.get("security_group_rules", ())),
            "instances": [i["id"] for i in policy.get("instances", ()) if group["id"] in i.get("security_groups", ())],
        }
        for group in policy.get("security_groups", ())
        if chosen is None or group["id"] in chosen
    ]
    show(found, output, print_groups)


def instances(
    context: typer.Context,
    group: Annotated[str | None, typer.Option("--group", help="Only those in this security group.")] = None,
    output: OutputOption = Output.text,
) -> None:
    """List the instances in force: addresses, security groups in the order tried, and interface.

    \b
    Examples:
      dataplane ctl instance list
      dataplane ctl instance list --group web -o json
    """
    from dataplane.cli.ctl.policy_tables import print_instances

    with connected(context) as client:
        policy = client.call("policy")
    _require("--group", "security group", group, policy.get("security_groups", ()))
    found = [
        {
            "id": instance["id"],
            "name": instance.get("name"),
            "addresses": instance["addresses"],
            "allowed_address_pairs": instance.get("allowed_address_pairs", []),
            "mac": instance.get("mac"),
            "security_groups": instance["security_groups"],
            "interface": instance.get("interface"),
        }
        for instance in policy.get("instances", ())
        if group is None or group in instance["security_groups"]
    ]
    show(found, output, print_instances)


def address_groups(context: typer.Context, output: OutputOption = Output.text) -> None:
    """List the address groups in force, with their addresses and the rules that name them.

    \b
    Examples:
      dataplane ctl address-group list
      dataplane ctl address-group list -o json
    """
    from dataplane.cli.ctl.policy_tables import print_address_groups

    with connected(context) as client:
        policy = client.call("policy")
    named = [
        (rule.get("remote_address_group_id"), rule["id"])
        for group in policy.get("security_groups", ())
        for rule in group.get("security_group_rules", ())
    ]
    found = [
        {
            "id": group["id"],
            "name": group.get("name"),
            "ip_version": group["ip_version"],
            "ip_set": group["ip_set"],
            "rules": [rule for remote, rule in named if remote == group["id"]],
        }
        for group in policy.get("address_groups", ())
    ]
    show(found, output, print_address_groups)


def balancers(context: typer.Context, output: OutputOption = Output.text) -> None:
    """List the load balancers in force, with the instances behind them.

    \b
    Examples:
      dataplane ctl balancer list
      dataplane ctl balancer list -o json
    """
    from dataplane.cli.ctl.policy_tables import print_balancers

    with connected(context) as client:
        policy = client.call("policy")
    found = [
        {
            "id": balancer["id"],
            "name": balancer.get("name"),
            "addresses": balancer.get("addresses", []),
            "mac": balancer.get("mac"),
            "interface": balancer.get("interface"),
            "backends": balancer.get("backends", []),
            "transfer_client_ip": balancer.get("transfer_client_ip", False),
        }
        for balancer in policy.get("load_balancers", ())
    ]
    show(found, output, print_balancers)


def uses(
    context: typer.Context,
    unused: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only rules that are there for as long and were not hit since, as 30d."),
    ] = None,
    output: OutputOption = Output.text,
    as_json: JsonOption = False,
) -> None:
    """List the rules in force with when each was hit last, and since when it is there; over restarts too.

    \b
    Examples:
      dataplane ctl rules --unused 30d
      dataplane ctl rules --json
    """
    from dataplane.cli.ctl.policy_tables import print_uses
    from dataplane.cli.durations import seconds

    chosen = None if unused is None else seconds(unused)
    with connected(context) as client:
        found = client.call("rules", unused=chosen)
    show(found, Output.json if as_json else output, print_uses)


def _rules(policy: dict[str, Any], uses: dict[tuple[str, str], dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for group in policy.get("security_groups", ()):
        for rule in group.get("security_group_rules", ()):
            # What has come or gone between the two questions is not known of.
            use = uses.get((rule["id"], group["id"]), {})
            yield {
                "security_group": group["id"],
                **_DEFAULTS,
                **dict.fromkeys(_REMOTES),
                **rule,
                "since": use.get("since"),
                "last_hit": use.get("last_hit"),
            }


def _groups_of(policy: dict[str, Any], instance: str | None) -> set[str] | None:
    if instance is None:
        return None
    _require("--instance", "instance", instance, policy.get("instances", ()))
    return {
        group for each in policy.get("instances", ()) if each["id"] == instance for group in each["security_groups"]
    }


def _require(option: str, kind: str, wanted: str | None, items: Iterable[dict[str, Any]]) -> None:
    """Ends the command where none of the items has the id that is wanted."""
    from dataplane.policy.mistakes import shown, unknown

    known = {item["id"]: item for item in items}
    if wanted is not None and wanted not in known:
        refuse(f"{option}: {shown(wanted)} {unknown(kind, wanted, known)}")
