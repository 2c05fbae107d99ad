"""The options that choose connections, which several commands of `dataplane ctl` have."""

from __future__ import annotations

import inspect
from enum import StrEnum
from functools import wraps
from typing import Annotated, Any

import typer

from dataplane.cli.completion import ids

#: The filters that are given, as a request has them.
Chosen = dict[str, Any]


class Origin(StrEnum):
    """Who opened a connection."""

    inbound = "inbound"
    outbound = "outbound"


#: The options by the names that requests have for them.
_OPTIONS: dict[str, Any] = {
    "protocol": Annotated[str | None, typer.Option("-p", "--proto", help="Protocol, by name or number.")],
    "source": Annotated[
        str | None, typer.Option("-s", "--src", help="Source of the first packet: an address or CIDR.")
    ],
    "destination": Annotated[
        str | None, typer.Option("-d", "--dst", help="Destination of the first packet: an address or CIDR.")
    ],
    "source_port": Annotated[
        int | None, typer.Option("--sport", min=1, max=65535, help="Source port of the first packet; needs -p.")
    ],
    "destination_port": Annotated[
        int | None, typer.Option("--dport", min=1, max=65535, help="Destination port of the first packet; needs -p.")
    ],
    "state": Annotated[str | None, typer.Option("--state", help="State: ESTABLISHED, SYN_SENT, UNREPLIED...")],
    "instance": Annotated[
        str | None,
        typer.Option("--instance", help="The connections of this instance.", autocompletion=ids("instances_by_id")),
    ],
    "origin": Annotated[Origin | None, typer.Option("--origin", help="inbound or outbound, seen from the instance.")],
}


def choosing(function: Any) -> Any:
    """A command with these options in the place of its parameter `chosen`, which gets their values."""
    signature = inspect.signature(function, eval_str=True)

    @wraps(function)
    def command(**arguments: Any) -> Any:
        given = {name: arguments.pop(name) for name in _OPTIONS}
        return function(**arguments, chosen={name: value for name, value in given.items() if value is not None})

    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        if parameter.name == "chosen":
            parameters += [parameter.replace(name=name, default=None, annotation=_OPTIONS[name]) for name in _OPTIONS]
        else:
            parameters.append(parameter)
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command
