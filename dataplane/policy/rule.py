"""A rule of a security group (SPEC 2, 3).

Rules are many: one is a dataclass with slots, which pydantic checks as it does a model, in a tenth of a model's memory.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import ConfigDict, Field, GetCoreSchemaHandler
from pydantic.dataclasses import dataclass
from pydantic_core import CoreSchema, SchemaSerializer, SchemaValidator

from dataplane.policy import consistency, fields
from dataplane.policy.base import fields_of, refuse_any, without_default
from dataplane.policy.mistakes import Conflict
from dataplane.policy.selectors import Selector, selectors

PackedPrefix = tuple[bytes, int]


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

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        # Strict are the fields: a strict dataclass would not be made from a mapping.
        whole: dict[str, Any] = handler.resolve_ref_schema(schema)  # type: ignore[assignment]
        whole["strict"] = False
        return schema

    def __post_init__(self) -> None:
        if conflicts := consistency.rule_conflicts(self):
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
        """What in here does not go together; also asked of a rule with mistakes, where these are `consistency.BAD`."""
        return consistency.rule_conflicts(self)

    @property
    def has_generated_id(self) -> bool:
        """Whether the document gives the rule no id: the one that it has tells where it stood."""
        return not self.id or isinstance(self.id, GeneratedId)

    @property
    def effect(self) -> tuple[object, ...]:
        """What of the rule can decide about a packet; its id, name and description cannot (SPEC 5.5)."""
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
        return None if self.remote_ip_prefix is None else fields.packed_prefix(self.remote_ip_prefix)
