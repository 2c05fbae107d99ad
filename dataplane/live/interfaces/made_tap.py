"""TAPs that were made here: what a policy says of them, given when they are made and when the policy changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dataplane.live.interfaces import links, tap
from dataplane.live.interfaces.links import PortError
from dataplane.live.interfaces.required import user_number

if TYPE_CHECKING:
    from dataplane.live.interfaces.ioctl import Access
    from dataplane.live.interfaces.port import Port
    from dataplane.live.interfaces.required import Required


def dress(port: Port, want: Required, *, on_its_way: str | None = None) -> int | None:
    """Gives a TAP made by us what the policy says of it; one that has another name yet goes where it belongs.

    Returns its index, or None where that is not known.
    """
    try:
        _give(port, want)
    except OSError as error:
        raise links.refusal(f"setting up TAP {port.name}", error) from None
    mac = want.instance.mac if want.instance else None
    if on_its_way:
        return links.configure(on_its_way, mac=mac, mtu=want.mtu, rename=port.name, namespace=port.namespace)
    return links.configure(port.name, mac=mac, mtu=want.mtu)


def _give(port: Port, want: Required) -> None:
    """What a descriptor of a TAP is enough for."""
    if want.tap and want.tap.owner:
        tap.give(port.fds[0], user_number(want.tap.owner))
    tap.keep(port.fds[0], bool(want.tap and want.tap.persistent))


def refit(
    port: Port, before: Required, want: Required, access: Access | None, index: int | None, *, dry_run: bool = False
) -> Iterator[str]:
    """Gives a TAP made by us what a changed policy says of it, unless `dry_run`; says what it cannot be given.

    `access` is to the namespace that it was made in, None where that could not be entered; `index` is the TAP's there,
    None where that is not known.
    """
    mac = want.instance.mac if want.instance else None
    has_new_mac = mac is not None and mac != (before.instance.mac if before.instance else None)
    if not port.made or (want.tap == before.tap and not has_new_mac):
        return
    if before.tap and before.tap.owner and not (want.tap and want.tap.owner):
        yield f"TAP {port.name} keeps its owner: the kernel lets it have another one, but not none; restart dataplane"
    try:
        if want.tap and want.tap.owner:
            user_number(want.tap.owner)
        if not dry_run:
            _give(port, want)
        if want.mtu == before.mtu and not has_new_mac:
            return
        if access is None:
            yield (
                f"TAP {port.name} keeps its mtu and MAC: dataplane may not enter the network namespace"
                f" {port.namespace} any more; set them there (ip -n {port.namespace} link set {port.name} mtu"
                f" {want.mtu}), or restart dataplane"
            )
        elif index is None or access.index(port.name) != index:
            yield f"TAP {port.name} keeps its mtu and MAC: it has another name, or is in another network namespace"
        elif not dry_run:
            access.set_mtu(port.name, want.mtu)
            if mac is not None and has_new_mac:
                access.set_mac(port.name, mac)
    except OSError as error:
        yield f"{links.refusal(f'setting up TAP {port.name}', error)}: it keeps its settings"
    except PortError as error:
        yield f"{error}: TAP {port.name} keeps its settings"
