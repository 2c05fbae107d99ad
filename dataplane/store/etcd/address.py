"""The address of an etcd store: ``etcd://HOST:PORT,HOST:PORT/prefix?option=value``."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlencode

from dataplane.store import StoreError
from dataplane.terminal import host_port, printable

SCHEME = "etcd://"
_PORT = 2379
_MEMBER = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:/?#\[\],@]+)(?::(\d{1,5}))?")
_OPTIONS = ("ca", "cert", "key", "user", "password", "password-file", "host", "copy", "tls", "name")
_EXAMPLE = "an address such as etcd://10.0.0.1,10.0.0.2,10.0.0.3/dataplane is needed"


@dataclass(frozen=True, slots=True)
class Address:
    """Where the cluster is, and how it is spoken to.

    `members` are hosts and ports; `prefix` ends with a slash. `ca`, `cert` and `key` are files in PEM. `host` names the
    host whose part of the policy is kept; None keeps all of it. `label` is what this host is called in the fleet.
    `copy` is the file of the last good copy.
    """

    members: tuple[tuple[str, int], ...]
    prefix: str
    tls: bool = False
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    user: str | None = None
    password: str | None = None
    host: str | None = None
    label: str = ""
    copy: Path | None = None

    @property
    def name(self) -> str:
        """The address as people are told it: without how it is spoken to."""
        members = ",".join(host_port(host, port) for host, port in self.members)
        query = f"?{urlencode({'host': self.host})}" if self.host else ""
        return printable(f"{SCHEME}{members}/{self.prefix.rstrip('/')}{query}")


def parsed(url: str) -> Address:
    """The parts of an address. Raises StoreError, in a sentence that does not show a password."""
    text, _, query = url.removeprefix(SCHEME).partition("?")
    members, _, prefix = text.partition("/")
    shown = printable(f"{SCHEME}{text}")
    if not url.startswith(SCHEME) or not members:
        raise StoreError(f"{shown}: {_EXAMPLE}")
    found = tuple(_member(member, shown) for member in members.split(","))
    options: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _OPTIONS:
            raise StoreError(f"{shown}: there is no option {printable(name)}: {', '.join(_OPTIONS)} are possible")
        if name in options:
            raise StoreError(f"{shown}: {name} is given twice")
        if not value:
            raise StoreError(f"{shown}: {name} has no value")
        options[name] = value
    files = {name: Path(options[name]) for name in ("ca", "cert", "key") if name in options}
    if "key" in options and "cert" not in options:
        raise StoreError(f"{shown}: key is for a cert: give both")
    for name, path in files.items():
        if not path.is_file():
            raise StoreError(f"{shown}: {name}: there is no file {printable(str(path))}")
    if options.get("tls", "1") not in ("0", "1") or (files and options.get("tls") == "0"):
        raise StoreError(f"{shown}: tls is 1, or 0 where no certificate is given")
    password = _password(options, shown)
    if (password is None) != ("user" not in options):
        raise StoreError(f"{shown}: user and password (or password-file) are given together, or neither")
    host = options.get("host")
    return Address(
        members=found,
        prefix=unquote(prefix).strip("/") + "/" if prefix.strip("/") else "dataplane/",
        tls=bool(files) or options.get("tls") == "1",
        ca=files.get("ca"),
        cert=files.get("cert"),
        key=files.get("key"),
        user=options.get("user"),
        password=password,
        host=host,
        label=options.get("name") or host or socket.gethostname(),
        copy=Path(options["copy"]) if "copy" in options else None,
    )


def _member(text: str, shown: str) -> tuple[str, int]:
    found = _MEMBER.fullmatch(text)
    port = int(found[2] or _PORT) if found else 0
    if not found or not 0 < port < 65536:
        raise StoreError(f"{shown}: {printable(text) or 'nothing'} is no HOST or HOST:PORT: {_EXAMPLE}")
    return found[1].strip("[]"), port


def _password(options: dict[str, str], shown: str) -> str | None:
    if "password-file" not in options:
        return options.get("password")
    if "password" in options:
        raise StoreError(f"{shown}: password and password-file are one too many")
    path = Path(options["password-file"])
    try:
        return path.read_text(encoding="utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise StoreError(f"{shown}: password-file {printable(str(path))}: {reason}") from None
