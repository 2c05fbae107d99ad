"""`dataplane import` and `dataplane export`: policies of other systems, and ours for them (SPEC 8.8)."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from enum import StrEnum
from typing import Annotated

import typer

from dataplane.cli.output import refuse, say
from dataplane.interchange import Format

EXIT_LEFT_OUT, EXIT_USAGE = 1, 2

_Output = Annotated[
    str | None, typer.Option("--output", "-o", metavar="FILE", help="Write it there; standard output if left out.")
]
_Force = Annotated[bool, typer.Option("--force", help="Overwrite a file that is a policy or a capture.")]
_Json = Annotated[
    bool, typer.Option("--json", help="Print a JSON object: the document as `document`, and a list `left_out`.")
]


class Target(StrEnum):
    """What a policy can be written for."""

    nftables = "nftables"


def import_(
    format_name: Annotated[Format, typer.Argument(metavar="FORMAT", help="huawei, aws, openstack or terraform.")],
    file: Annotated[str, typer.Argument(metavar="FILE", help="The JSON document; - is standard input.")],
    output: _Output = None,
    as_json: _Json = False,
    force: _Force = False,
) -> None:
    """Make a policy of another system's document; exit status 1 when something in it cannot be expressed.

    huawei: answers of the VPC v3 API. aws: describe-security-groups. openstack: security group rule list -f json.
    terraform: a state file, or terraform show -json.

    \b
    Examples:
      aws ec2 describe-security-groups | dataplane import aws - -o policy.yaml
      dataplane import terraform terraform.tfstate -o policy.yaml
    """
    from dataplane.interchange.draft import FormatError
    from dataplane.interchange.reading import imported
    from dataplane.policy.reading.source import document_bytes

    _check_output(output, file, force=force)
    try:
        data = document_bytes(file)
    except OSError as error:
        refuse(f"{file}: it cannot be read: {error.strerror}")
    try:
        text, left_out = imported(format_name, data)
    except FormatError as error:
        refuse(f"{'<stdin>' if file == '-' else file}: {error}")
    if "security_groups:" not in text:
        say("no security group is in it: the policy is empty", err=True)
    _give(text, left_out, output, as_json=as_json)


def export(
    target: Annotated[Target, typer.Argument(metavar="TARGET", help="nftables.")],
    policy: Annotated[str, typer.Argument(metavar="POLICY", help="The policy document; - is standard input.")],
    output: _Output = None,
    as_json: _Json = False,
    force: _Force = False,
) -> None:
    """Write a policy for another packet filter; exit status 1 when something in it cannot be expressed there.

    \b
    Examples:
      dataplane export nftables policy.yaml -o firewall.nft
      dataplane export nftables policy.yaml | nft -c -f -
    """
    from dataplane.interchange.nftables import exported
    from dataplane.policy import Policy, PolicyError
    from dataplane.policy.expiry import without_expired

    _check_output(output, policy, force=force)
    try:
        loaded = Policy.load(policy)
    except PolicyError as error:
        for mistake in error.mistakes:
            say(str(mistake), err=True)
        raise typer.Exit(EXIT_USAGE) from None
    # Rules whose time is over are not in force.
    text, left_out = exported(without_expired(loaded, time.time_ns()))
    _give(text, left_out, output, as_json=as_json)


def _check_output(output: str | None, source: str, *, force: bool) -> None:
    from dataplane.outputs import OutputError, check_outputs

    try:
        check_outputs({"--output": output}, [source], force=force)
    except OutputError as error:
        refuse(str(error))


def _give(text: str, left_out: list[str], output: str | None, *, as_json: bool) -> None:
    from dataplane.outputs import OutputFile

    for sentence in left_out:
        say(f"left out: {sentence}", err=True)
    if as_json:
        text = json.dumps({"document": text, "left_out": left_out}, indent=2) + "\n"
    if output in (None, "-"):
        typer.echo(text, nl=False)
    else:
        try:
            made = OutputFile(output)
            with suppress(FileNotFoundError), made.open() as file:
                file.write(text.encode())
            made.keep()
        except OSError as error:
            refuse(f"{output}: it cannot be written: {error.strerror}")
    if left_out:
        raise typer.Exit(EXIT_LEFT_OUT)
