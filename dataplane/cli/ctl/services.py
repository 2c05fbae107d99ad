"""Services by name on the command line of `dataplane ctl`: whom they are for, and the changes that open them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from dataplane.cli.completion import ids
from dataplane.cli.output import refuse

From = Annotated[str | None, typer.Option("--from", metavar="CIDR", help="The sources: an address or CIDR block.")]
FromGroup = Annotated[
    str | None,
    typer.Option(
        "--from-group",
        metavar="ID",
        help="The sources: the instances of a security group.",
        autocompletion=ids("groups_by_id"),
    ),
]
FromAddressGroup = Annotated[
    str | None,
    typer.Option(
        "--from-address-group",
        metavar="ID",
        help="The sources: an address group.",
        autocompletion=ids("address_groups_by_id"),
    ),
]
To = Annotated[str | None, typer.Option("--to", metavar="CIDR", help="In place of sources: the destinations.")]
ToGroup = Annotated[
    str | None,
    typer.Option(
        "--to-group", metavar="ID", help="Destinations: a security group.", autocompletion=ids("groups_by_id")
    ),
]
ToAddressGroup = Annotated[
    str | None,
    typer.Option(
        "--to-address-group",
        metavar="ID",
        help="Destinations: an address group.",
        autocompletion=ids("address_groups_by_id"),
    ),
]

_FIELDS = {
    "from_": "remote_ip_prefix",
    "from_group": "remote_group_id",
    "from_address_group": "remote_address_group_id",
}


@dataclass(frozen=True, slots=True)
class Remote:
    """The options that name the other side, of which one may be given."""

    from_: str | None = None
    from_group: str | None = None
    from_address_group: str | None = None
    to_: str | None = None
    to_group: str | None = None
    to_address_group: str | None = None

    @property
    def fields(self) -> dict[str, str]:
        """What is given, as the field of a rule; ends the program where that is more than one."""
        return {_FIELDS[name.replace("to_", "from_", 1)]: value for name, value in self._given().items()}

    @property
    def direction(self) -> str:
        """The direction of the rules."""
        return "egress" if any(name.startswith("to_") for name in self._given()) else "ingress"

    def _given(self) -> dict[str, str]:
        given = {name: value for name, value in asdict(self).items() if value is not None}
        if len(given) > 1:
            first, second = (name.rstrip("_").replace("_", "-") for name in list(given)[:2])
            refuse(f"--{first} and --{second} do not go together: give one of them")
        return given


def fast_add(group: str, services: str, remote: Remote, **more: Any) -> dict[str, Any]:
    """The change `fast_add_rules`; ends the program where no remote is given. Of `more`, None is left out."""
    if not remote.fields:
        refuse("no remote is given: give one of --from, --from-group, --from-address-group, or --to and its like")
    values: dict[str, Any] = {"security_group": group, "services": [word.strip() for word in services.split(",")]}
    given = {name: value for name, value in more.items() if value is not None}
    return {"fast_add_rules": values | {"direction": remote.direction} | remote.fields | given}


def with_preset(values: dict[str, Any], group: str, name: str, remote: Remote) -> dict[str, Any]:
    """The fields of a new group with the rules of a preset; ends the program where these cannot be told."""
    from dataplane.policy.services import BOTH, preset, preset_rules

    if "security_group_rules" in values:
        refuse("--preset and security_group_rules= do not go together: a preset is a list of rules")
    prefix = remote.fields.get("remote_ip_prefix")
    families = BOTH if prefix is None else ("IPv6" if ":" in prefix else "IPv4",)
    try:
        chosen = preset(name)
    except ValueError as error:
        refuse(f"--preset: {error}")
    try:
        return {**values, "security_group_rules": preset_rules(chosen, group, remote.fields or None, families)}
    except ValueError as error:
        refuse(f"--preset {name}: it {error}{'' if remote.fields else ', by --from or --from-group'}")
