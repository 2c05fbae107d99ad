"""A rule of a security group (SPEC 2, 3).

Rules are many: one is a dataclass with slots, which pydantic checks as it does a model, in a tenth of a model's memory.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import ConfigDict, Field, GetCoreSchemaHandler
from pydantic.dataclasses import dataclass
from pydantic_core import CoreSchema, SchemaSerializer, SchemaValidator

from dataplane.policy import fields, icmp
from dataplane.policy.addresses import family, packed_prefix
from dataplane.policy.base import BAD, fields_of, refuse_any, without_default
from dataplane.policy.mistakes import Conflict, alternatives, shown
from dataplane.policy.selectors import Selector, selectors
from dataplane.policy.times import Instant

PackedPrefix = tuple[bytes, int]

REMOTES = ("remote_ip_prefix", "remote_group_id", "remote_address_group_id")


class GeneratedId(str):
    """The id of a rule that its author gave none."""

    __slots__ = ()


@dataclass(frozen=True, kw_only=True, slots=True, config=ConfigDict(extra="forbid", strict=True, defer_build=True))
class SecurityGroupRule:
    """One rule of a security group (SPEC 2, 3)."""

    if TYPE_CHECKING:
        __pydantic_validator__: ClassVar[SchemaValidator]
        __pydantic_serializer__: ClassVar[SchemaSerializer]

    id: fields.Id = Field(
        default="", description="Unique within the document; generated when absent.", json_schema_extra=without_default
    )
    name: fields.Text | None = Field(default=None, description="Text for people.")
    description: fields.Text | None = Field(default=None, description="Text for people.")
    direction: fields.Direction = Field(description="ingress: traffic to the group's instances; egress: from them.")
    ethertype: fields.Ethertype = Field(default="IPv4", description="IPv4 (the default) or IPv6.")
    protocol: fields.Protocol = Field(
        default=None, description="tcp, udp, icmp, icmpv6, gre, sctp, dccp, udplite or a number 0..255; absent: all."
    )
    multiport: fields.Multiport = Field(
        default=None,
        description="Destination ports, with tcp, udp, sctp, dccp and udplite only: up to 20 ports and ranges,"
        ' "22,80-82"; absent: all.',
    )
    icmp_type: fields.IcmpType = Field(
        default=None, description="Type of message, with icmp and icmpv6 only: a number or a name; absent: all types."
    )
    icmp_code: fields.IcmpCode = Field(
        default=None, description="Code of the icmp_type: a number or a name; absent: all codes."
    )
    remote_ip_prefix: fields.Prefix | None = Field(
        default=None,
        description="The other side: an address or CIDR block. At most one of the three remotes; none: any address.",
    )
    remote_group_id: fields.Id | None = Field(
        default=None, description="The other side as the addresses of all instances now in this security group."
    )
    remote_address_group_id: fields.Id | None = Field(
        default=None, description="The other side as the addresses in this address group."
    )
    action: fields.Action = Field(default="allow", description="allow (the default) or deny.")
    priority: fields.Priority = Field(
        default=1,
        description="1 (the default) to 100; a smaller one is matched first, and at the same one deny before allow.",
    )
    enabled: bool = Field(default=True, description="false: the rule is kept and not matched.")
    expires_at: Instant | None = Field(
        default=None,
        description="When the rule ends by itself, an RFC 3339 time such as 2026-01-31T12:00:00Z; absent: never.",
    )

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        # Strict are the fields: a strict dataclass would not be made from a mapping.
        whole: dict[str, Any] = handler.resolve_ref_schema(schema)  # type: ignore[assignment]
        whole["strict"] = False
        return schema

    def __post_init__(self) -> None:
        if conflicts := _conflicts(self):
            refuse_any(type(self), conflicts)

    @classmethod
    def model_validate(cls, value: object) -> Self:
        """A rule from a mapping, as models are made. Raises pydantic's ValidationError."""
        made: Self = cls.__pydantic_validator__.validate_python(value)
        return made

    @classmethod
    def model_construct(cls, **values: Any) -> Self:
        """A rule from values that are not checked, as models are made."""
        made = cls.__new__(cls)
        for name, field in fields_of(cls).items():
            object.__setattr__(made, name, values.get(name, field.default))
        return made

    def model_copy(self, *, update: Mapping[str, Any]) -> Self:
        """A copy with some fields replaced by values that are known to be valid, as models are copied."""
        copied = type(self).__new__(type(self))
        for name in fields_of(type(self)):
            object.__setattr__(copied, name, update[name] if name in update else getattr(self, name))
        return copied

    def model_dump(self, **options: Any) -> dict[str, Any]:
        """The fields by name, with the options that models take."""
        values: dict[str, Any] = self.__pydantic_serializer__.to_python(self, **options)
        return values

    def conflicts(self) -> Iterable[Conflict]:
        """What in here does not go together; also asked of a rule with mistakes, where these are `BAD`."""
        return _conflicts(self)

    @property
    def has_generated_id(self) -> bool:
        """Whether the document gives the rule no id: the one that it has tells where it stood."""
        return not self.id or isinstance(self.id, GeneratedId)

    @property
    def uses_quota(self) -> bool:
        """Whether it counts: it has a remote group, a remote address group or a `multiport` with a comma (SPEC 6)."""
        return (
            self.remote_group_id is not None
            or self.remote_address_group_id is not None
            or (isinstance(self.multiport, str) and "," in self.multiport)
        )

    @property
    def effect(self) -> tuple[object, ...]:
        """What of the rule can decide about a packet while it is in force.

        Its id, name and description cannot, nor when it ends (SPEC 5.5).
        """
        return (
            self.direction,
            self.ethertype,
            self.selectors,
            self.remote_prefix,
            self.remote_group_id,
            self.remote_address_group_id,
            self.action,
            self.priority,
            self.enabled,
        )

    @property
    def protocol_number(self) -> int | None:
        """The protocol's number, 0..255; None for all protocols."""
        return None if self.protocol is None else fields.protocol_number(self.protocol)

    @property
    def selectors(self) -> tuple[Selector, ...]:
        """Protocol and ports, or ICMP type and code, as ranges with both ends within."""
        return selectors(self.protocol, self.multiport, self.icmp_type, self.icmp_code)

    @property
    def remote_prefix(self) -> PackedPrefix | None:
        """`remote_ip_prefix` as (4 or 16 bytes in network order, bits)."""
        return None if self.remote_ip_prefix is None else packed_prefix(self.remote_ip_prefix)


def _conflicts(rule: SecurityGroupRule) -> list[Conflict]:
    """The fields of one rule against each other."""
    found: list[Conflict] = []
    protocol, ethertype, prefix = rule.protocol, rule.ethertype, rule.remote_ip_prefix
    if rule.multiport is not None and protocol is not BAD and protocol not in fields.PROTOCOLS_WITH_PORTS:
        found.append(_needs_protocol(rule, "multiport", alternatives(fields.PROTOCOLS_WITH_PORTS)))
    if rule.icmp_type is not None or rule.icmp_code is not None:
        found.extend(_icmp_conflicts(rule))
    if protocol == "icmp" and ethertype == "IPv6":
        found.append(Conflict(("protocol",), "protocol icmp belongs to IPv4: write icmpv6 in an IPv6 rule"))
    elif protocol == "icmpv6" and ethertype == "IPv4":
        found.append(Conflict(("protocol",), 'protocol icmpv6 belongs to IPv6: write icmp, or "ethertype: IPv6"'))
    if prefix is not None and (":" in prefix) != (ethertype == "IPv6") and BAD not in (prefix, ethertype):
        version = family(prefix)
        text = f"remote_ip_prefix {shown(prefix)} is IPv{version} and the ethertype of the rule is {ethertype}"
        found.append(Conflict(("remote_ip_prefix",), text))
    remotes = (prefix is not None) + (rule.remote_group_id is not None) + (rule.remote_address_group_id is not None)
    if remotes > 1:
        given = [name for name in REMOTES if getattr(rule, name) is not None]
        text = f"{' and '.join(given)} are given together: at most one of them is allowed"
        found.append(Conflict((given[-1],), text, at_key=True))
    return found


def _needs_protocol(rule: SecurityGroupRule, name: str, protocols: str) -> Conflict:
    found = "the rule has none" if rule.protocol is None else f"the rule has protocol {rule.protocol}"
    return Conflict((name,), f"{name} is allowed with protocol {protocols} only: {found}", at_key=True)


def _icmp_conflicts(rule: SecurityGroupRule) -> Iterator[Conflict]:
    kind, code, protocol = rule.icmp_type, rule.icmp_code, rule.protocol
    if code is not None and kind is None:
        yield Conflict(("icmp_code",), "icmp_code is allowed with an icmp_type only", at_key=True)
    if protocol not in ("icmp", "icmpv6"):
        if protocol is not BAD:
            for name, value in (("icmp_type", kind), ("icmp_code", code)):
                if value is not None:
                    yield _needs_protocol(rule, name, "icmp or icmpv6")
        return
    number = None
    if kind is not None and kind is not BAD:
        number = icmp.type_number(str(protocol), kind)
        if number is None:
            known = alternatives(icmp.type_names(str(protocol)))
            yield Conflict(("icmp_type",), f"icmp_type {shown(kind)} is no type of {protocol}: {known}, or a number")
    if isinstance(code, str) and number is not None:
        names = icmp.code_names(str(protocol), number)
        if code not in names:
            allowed = f"{', '.join(names)} or a number" if names else "write its number"
            yield Conflict(
                ("icmp_code",), f"icmp_code {shown(code)} is no code of {protocol} type {number} by name: {allowed}"
            )
