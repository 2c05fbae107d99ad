"""Services by name, and the rules that a group begins with by its purpose: the one table of both.

The source's console offers common protocols and ports to be added at once ("Fast-Adding Security Group Rules", for
remote login and ping, web services and databases) and rules that a new group begins with ("preset rules"). Who may
reach a service of a preset follows from what it is for, as the source recommends: the web everybody, remote login the
addresses that are named, a database the group that works with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from dataplane.policy import fields
from dataplane.policy.mistakes import nearest, shown
from dataplane.policy.value_mistakes import UNFIT, unfit

#: What services are for.
LOGIN, WEB, DATABASES, MAIL, NAMES = "Remote login and ping", "Web services", "Databases", "Files and mail", "Names"

#: Fields of a rule.
Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Service:
    """What is known by a name: `selections` are what its packets are selected by, as fields of an IPv4 rule each."""

    name: str
    title: str
    purpose: str
    selections: tuple[Fields, ...]

    @property
    def ports(self) -> str:
        """What it selects, in words."""
        return ", ".join(map(_selection_words, self.selections))


def _ported(protocol: str, ports: str | None) -> Fields:
    return {"protocol": protocol, "multiport": ports}


_tcp, _udp = partial(_ported, "tcp"), partial(_ported, "udp")


SERVICES: dict[str, Service] = {
    name: Service(name, title, purpose, selections)
    for purpose, services in {
        LOGIN: (
            ("ssh", "SSH", (_tcp("22"),)),
            ("rdp", "RDP", (_tcp("3389"), _udp("3389"))),
            ("telnet", "Telnet", (_tcp("23"),)),
            ("vnc", "VNC", (_tcp("5900-5909"),)),
            ("winrm", "WinRM", (_tcp("5985-5986"),)),
            ("ping", "ping", ({"protocol": "icmp", "icmp_type": "echo-request"},)),
            ("icmp", "all of ICMP", ({"protocol": "icmp"},)),
        ),
        WEB: (
            ("http", "HTTP", (_tcp("80"),)),
            ("https", "HTTPS", (_tcp("443"),)),
            ("http3", "HTTP/3", (_udp("443"),)),
            ("http-alt", "HTTP on 8080", (_tcp("8080"),)),
            ("https-alt", "HTTPS on 8443", (_tcp("8443"),)),
        ),
        DATABASES: (
            ("mysql", "MySQL", (_tcp("3306"),)),
            ("postgresql", "PostgreSQL", (_tcp("5432"),)),
            ("sqlserver", "SQL Server", (_tcp("1433"),)),
            ("oracle", "Oracle", (_tcp("1521"),)),
            ("redis", "Redis", (_tcp("6379"),)),
            ("mongodb", "MongoDB", (_tcp("27017"),)),
            ("cassandra", "Cassandra", (_tcp("9042"),)),
            ("elasticsearch", "Elasticsearch", (_tcp("9200"),)),
            ("memcached", "memcached", (_tcp("11211"),)),
            ("etcd", "etcd", (_tcp("2379"),)),
        ),
        MAIL: (
            ("ftp", "FTP", (_tcp("20-21"),)),
            ("nfs", "NFS", (_tcp("2049"),)),
            ("smb", "SMB", (_tcp("445"),)),
            ("smtp", "SMTP", (_tcp("25"),)),
            ("submission", "mail submission", (_tcp("465"), _tcp("587"))),
            ("imaps", "IMAP over TLS", (_tcp("993"),)),
        ),
        NAMES: (
            ("dns", "DNS", (_udp("53"), _tcp("53"))),
            ("ntp", "NTP", (_udp("123"),)),
            ("ldap", "LDAP", (_tcp("389"),)),
            ("ldaps", "LDAP over TLS", (_tcp("636"),)),
        ),
    }.items()
    for name, title, selections in services
}


def service(word: str) -> Service:
    """A service by its name, or of a protocol and ports: ``tcp/8000-8010``, ``gre``. Raises ValueError."""
    text = word.strip()
    if found := SERVICES.get(text.lower()):
        return found
    protocol, slash, ports = text.partition("/")
    if not slash and protocol not in fields.PROTOCOL_NUMBERS:
        near = nearest(text.lower(), SERVICES)
        hint = f"did you mean {near}?" if near else "write a service such as ssh, or a protocol and ports, tcp/8080"
        raise ValueError(f"is not known: {hint}")
    if protocol not in fields.PROTOCOL_NUMBERS:
        raise ValueError(f"has no protocol before the slash: write one of {', '.join(fields.PROTOCOLS_WITH_PORTS)}")
    if not slash:
        return Service(text, "", "", ({"protocol": protocol},))
    if protocol not in fields.PROTOCOLS_WITH_PORTS:
        raise ValueError(f"has ports, and {protocol} has none: write {protocol} alone")
    multiport = fields.checked_multiport(ports)
    return Service(f"{protocol}/{multiport}", "", "", (_ported(protocol, multiport),))


def _checked(value: object) -> str:
    if type(value) is not str:
        unfit('is not text: write a service such as ssh, or "tcp/8080"')
    try:
        return service(value).name
    except PydanticCustomError:
        raise
    except ValueError as error:
        raise PydanticCustomError(UNFIT, str(error)) from None


#: A field of a document that names a service.
ServiceName = Annotated[
    str, PlainValidator(_checked), WithJsonSchema({"type": "string", "examples": [*SERVICES, "tcp/8000-8010"]})
]


def _selection_words(selection: Fields) -> str:
    more = selection.get("multiport") or selection.get("icmp_type")
    return f"{selection['protocol']} {more}" if more else str(selection["protocol"])


# ---- rules ----


def service_rules(
    services: Iterable[Service], remote: Fields, ethertypes: Iterable[str], **more: Any
) -> Iterator[dict[str, Any]]:
    """A rule for each selection of each service and each family, with the fields in `remote` and `more`."""
    chosen = list(services)
    for ethertype in ethertypes:
        for named in chosen:
            told = {"description": named.title} if named.title else {}
            for selection in named.selections:
                if (fitting := _of_family(selection, ethertype)) is not None:
                    yield {**told, "ethertype": ethertype, **fitting, **remote, **more}


def _of_family(selection: Fields, ethertype: str) -> Fields | None:
    """A selection as a rule of a family has it; None where the family does not have it."""
    if ethertype == "IPv6" and selection["protocol"] == "icmp":
        return {**selection, "protocol": "icmpv6"}
    return None if ethertype == "IPv4" and selection["protocol"] == "icmpv6" else selection


# ---- presets ----


@dataclass(frozen=True, slots=True)
class Preset:
    """What a group begins with: services for everybody, and those for whom the author names."""

    name: str
    title: str
    everybody: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    #: Every packet from everybody.
    all_open: bool = False


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset("default", "the rules of the group `default`: ingress from the group itself, egress to everybody"),
        Preset("web", "a web server", everybody=("http", "https", "ping")),
        Preset("ssh", "remote login by SSH", named=("ssh", "ping")),
        Preset("windows", "remote login to Windows", named=("rdp", "winrm", "ping")),
        Preset("database", "a database server", named=("mysql", "postgresql")),
        Preset("redis", "a Redis server", named=("redis",)),
        Preset("mongodb", "a MongoDB server", named=("mongodb",)),
        Preset("dns", "a name server", everybody=("dns", "ping")),
        Preset("mail", "a mail server", everybody=("smtp", "submission", "imaps", "ping")),
        Preset(
            "general-web",
            "the cloud's general-purpose web server: remote login too is open to everybody, better is web",
            everybody=("ssh", "rdp", "http", "https", "icmp"),
        ),
        Preset("all-open", "every packet from everybody", all_open=True),
    )
}


def preset(name: str) -> Preset:
    """A preset by its name. Raises ValueError with a sentence for one that is not known."""
    if found := PRESETS.get(name):
        return found
    near = nearest(name, PRESETS)
    hint = f"did you mean {near}?" if near else f"there are {', '.join(PRESETS)}"
    raise ValueError(f"preset {shown(name)} is not known: {hint}")


BOTH = ("IPv4", "IPv6")


def preset_rules(
    chosen: Preset, group: str, remote: Fields | None = None, families: Iterable[str] = BOTH, *, narrow: bool = True
) -> list[dict[str, Any]]:
    """The rules of a group of a preset, without ids, as mappings of the document.

    `remote` is the other side of its services, as one field of a rule, and `families` are those that it has; without
    `narrow` it is that of the services for whom the author names only. Raises ValueError, whose text goes on after the
    preset's name, where a remote is needed or none can be taken.
    """
    rules: list[dict[str, Any]] = []
    if remote is None:
        if chosen.named:
            raise ValueError(f"opens {', '.join(chosen.named)}: say to whom")
    elif not (chosen.named or chosen.everybody or chosen.all_open):
        raise ValueError("opens no service: it takes no sources")
    wide: tuple[Fields, Iterable[str]] = (remote, families) if remote and narrow else ({}, BOTH)
    ingress: dict[str, Any] = {"direction": "ingress"}
    if chosen.all_open:
        rules += ({"description": "every packet", "ethertype": e, **wide[0], **ingress} for e in wide[1])
    rules += service_rules(map(service, chosen.everybody), *wide, **ingress)
    rules += service_rules(map(service, chosen.named), remote or {}, families, **ingress)
    if not (chosen.all_open and not wide[0]):
        told = {"description": "from the group itself", "remote_group_id": group}
        rules += ({"ethertype": e, **told, **ingress} for e in BOTH)
    rules += ({"description": "to everybody", "ethertype": e, "direction": "egress"} for e in BOTH)
    return rules
