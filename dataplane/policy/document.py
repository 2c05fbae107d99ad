"""The policy document (SPEC 2) as immutable values: its parts, and the whole as it is written.

Lookups and the forms that the rule tables are made from are worked out once, when they are first asked for. A Policy
(model.py) is a document that has been checked and completed.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from weakref import ref

from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, WrapSerializer

from dataplane.policy import fields
from dataplane.policy.addresses import family, packed_address, packed_prefix, packed_range, pair_prefix
from dataplane.policy.base import BAD, CheckedModel, Model, good, without_default
from dataplane.policy.mistakes import Conflict, dotted, shown
from dataplane.policy.replaced import Replaced, come, gone, replaced_parts
from dataplane.policy.rule import PackedPrefix, SecurityGroupRule
from dataplane.policy.rule_index import RuleIndex
from dataplane.policy.rule_list import in_parts, with_replaced

#: The id of the security group that is made on the fly (SPEC 3.4).
DEFAULT_GROUP = "default"

_Empty = BeforeValidator(fields.empty_as_tuple)
if TYPE_CHECKING:
    _Rules = Sequence[SecurityGroupRule]
else:
    _Rules = tuple[SecurityGroupRule, ...]


def _serialized(rules: Sequence[SecurityGroupRule], serialize: SerializerFunctionWrapHandler) -> Any:
    return serialize(tuple(rules))


#: A change of many rules leaves a list of another kind (rule_list.py).
_RulesAsTuple = WrapSerializer(_serialized)


# ---- groups ----


class Tag(Model):
    """A word for people and programs that sort what they have."""

    key: fields.Id = Field(description="What it is about.")
    value: fields.Text = Field(default="", description="What it says.")


class SecurityGroup(Model):
    """A security group with its rules."""

    id: fields.Id = Field(description="Unique; what rules and instances refer to.")
    name: fields.Text | None = Field(default=None, description="Text for people.")
    description: fields.Text | None = Field(default=None, description="Text for people.")
    region: fields.Id | None = Field(default=None, description="The group's region; absent: that of the document.")
    security_group_rules: Annotated[_Rules, fields.AsTuple, _Empty, _RulesAsTuple] = Field(
        default=(), description="The rules; traffic that none of them matches is denied."
    )
    project_id: fields.Id | None = Field(
        default=None, description="The project whose keys of the API see it; absent: those of every project."
    )
    enterprise_project_id: fields.Id | None = Field(default=None, description="Text for programs.")
    tags: Annotated[tuple[Tag, ...], fields.AsTuple, _Empty] = Field(default=(), description="Words to sort by.")

    @property
    def remote_groups(self) -> tuple[str, ...]:
        """Ids of the security groups that rules here name as their remote, each once."""
        return tuple(self.remote_group_uses)

    @property
    def remote_address_groups(self) -> tuple[str, ...]:
        """Ids of the address groups that rules here name as their remote, each once."""
        return tuple(self.remote_address_group_uses)

    @cached_property
    def remote_group_uses(self) -> Mapping[str, int]:
        """How many rules name each of `remote_groups`."""
        return _named(self.security_group_rules, "remote_group_id")

    @cached_property
    def remote_address_group_uses(self) -> Mapping[str, int]:
        """How many rules name each of `remote_address_groups`."""
        return _named(self.security_group_rules, "remote_address_group_id")

    @cached_property
    def expiring_rules(self) -> tuple[SecurityGroupRule, ...]:
        """The rules that end by themselves."""
        return tuple([rule for rule in self.security_group_rules if rule.expires_at is not None])

    @cached_property
    def counted_rules(self) -> Mapping[tuple[str, str], int]:
        """How many rules use quota (SPEC 6), by (direction, ethertype); pairs without any are left out."""
        return _counted(self.security_group_rules)

    def with_rules(self, first: int, last: int, rules: tuple[SecurityGroupRule, ...]) -> Self:
        """The group with other rules in the place of security_group_rules[first:last], which are known to be valid.

        What is known of the others is kept, and which are others (`rules_replaced`).
        """
        was = self.security_group_rules
        changed = self.model_copy(update={"security_group_rules": with_replaced(was, first, last, rules)})
        changed.__dict__["_made_from"] = ref(self), (Replaced(first, last, first, first + len(rules)),)
        changed.keep_known(self)
        return changed

    def keep_known(self, before: "SecurityGroup") -> None:
        """Takes over what is known of the rules that it shares with the group that it was made from."""
        known, parts = before.__dict__, self.rules_replaced(before)
        left, joined = gone(before.security_group_rules, parts), come(self.security_group_rules, parts)
        if "expiring_rules" in known and all(rule.expires_at is None for rule in (*left, *joined)):
            self.__dict__["expiring_rules"] = before.expiring_rules
        for name, count in _COUNTS.items():
            if name in known:
                counted = Counter(known[name])
                counted.subtract(count(left))
                counted.update(count(joined))
                self.__dict__[name] = +counted

    def work_out_counts(self) -> None:
        """Works out now what is known of all rules together, and has very many in the form of which one is replaced."""
        self.__dict__["security_group_rules"] = in_parts(self.security_group_rules)
        for name in ("expiring_rules", *_COUNTS):
            getattr(self, name)

    def rules_replaced(self, before: "SecurityGroup") -> tuple[Replaced, ...]:
        """Which parts of the rules are others than before; all else are the same objects in the same order."""
        made_from, parts = self.__dict__.get("_made_from", (lambda: None, ()))
        if made_from() is not before:
            parts = replaced_parts(before.security_group_rules, self.security_group_rules)
            # Who puts a change in force asks several times for the same.
            self.__dict__["_made_from"] = ref(before), parts
        found: tuple[Replaced, ...] = parts
        return found


def _counted(rules: Iterable[SecurityGroupRule]) -> Counter[tuple[str, str]]:
    return Counter([(rule.direction, rule.ethertype) for rule in rules if rule.uses_quota])


def _named(rules: Iterable[SecurityGroupRule], field: str) -> Counter[str]:
    return Counter(filter(None, map(attrgetter(field), rules)))


#: What is counted of the rules of a group, by the name of its field.
_COUNTS: Mapping[str, Callable[[Iterable[SecurityGroupRule]], Counter[Any]]] = {
    "counted_rules": _counted,
    "remote_group_uses": partial(_named, field="remote_group_id"),
    "remote_address_group_uses": partial(_named, field="remote_address_group_id"),
}


class AddressGroup(CheckedModel):
    """A set of addresses of one IP version that rules name as their remote."""

    id: fields.Id = Field(description="Unique; what rules refer to.")
    name: fields.Text | None = Field(default=None, description="Text for people.")
    description: fields.Text | None = Field(default=None, description="Text for people.")
    ip_version: Literal[4, 6] = Field(description="4 or 6: the version of all entries.")
    ip_set: Annotated[tuple[fields.SetEntry, ...], fields.AsTuple] = Field(
        description="Addresses, CIDR blocks, and ranges written first-last."
    )
    remarks: dict[str, fields.Text] = Field(
        default_factory=dict, description="Text for people about entries, by the entry as it is written in ip_set."
    )
    max_capacity: Annotated[int, Field(ge=0, le=100_000)] | None = Field(
        default=None, description="How many entries the API lets it have; absent: 20."
    )
    project_id: fields.Id | None = Field(
        default=None, description="The project whose keys of the API see it; absent: those of every project."
    )
    enterprise_project_id: fields.Id | None = Field(default=None, description="Text for programs.")
    tags: Annotated[tuple[Tag, ...], fields.AsTuple, _Empty] = Field(default=(), description="Words to sort by.")

    def conflicts(self) -> Iterator[Conflict]:
        """The entries of an address group against its version."""
        if self.ip_version is BAD:
            return
        for index, entry in good(self.ip_set):
            if family(entry) != self.ip_version:
                place = ("ip_set", index)
                yield Conflict(
                    place,
                    f"{dotted(place)} {shown(entry)} is IPv{family(entry)} and ip_version is {self.ip_version}",
                )

    @cached_property
    def prefixes(self) -> tuple[PackedPrefix, ...]:
        """The set as prefixes (packed address, bits); a range becomes the fewest that cover it."""
        packed: list[PackedPrefix] = []
        for entry in self.ip_set:
            if "-" in entry:
                packed.extend(_summarised(entry))
            else:
                packed.append(packed_prefix(entry))
        return tuple(packed)


def _summarised(entry: str) -> Iterable[PackedPrefix]:
    from ipaddress import ip_address, summarize_address_range

    first, last = map(ip_address, packed_range(entry))
    for network in summarize_address_range(first, last):
        yield network.network_address.packed, network.prefixlen


# ---- endpoints ----


class Tap(Model):
    """How a TAP is made for an instance whose `interface` does not exist; one that exists is taken as it is."""

    persistent: bool = Field(default=False, description="true: the TAP stays when dataplane ends.")
    mtu: fields.Mtu = Field(default=1500, description="The largest packet, in bytes.")
    namespace: fields.Namespace | None = Field(
        default=None, description="The network namespace that the TAP is in, by name; absent: that of dataplane."
    )
    owner: fields.Id | None = Field(default=None, description="The user, besides root, who may attach to the TAP.")


class Instance(CheckedModel):
    """A protected endpoint with one interface."""

    id: fields.Id = Field(description="Unique.")
    name: fields.Text | None = Field(default=None, description="Text for people.")
    description: fields.Text | None = Field(default=None, description="Text for people.")
    project_id: fields.Id | None = Field(
        default=None, description="The project whose keys of the API see it; absent: those of every project."
    )
    vpc: fields.Id = Field(
        default="default", description="Addresses and MACs are unique within it. Peered VPCs appear together."
    )
    addresses: Annotated[tuple[fields.Address, ...], fields.AsTuple, Field(min_length=1)] = Field(
        description="The instance's own IPv4 and IPv6 addresses."
    )
    mac: fields.Mac | None = Field(default=None, description="The MAC of its interface; not needed in replay.")
    allowed_address_pairs: Annotated[tuple[fields.AddressPair, ...], fields.AsTuple, _Empty] = Field(
        default=(),
        description="Virtual IPs, as addresses or prefixes, that this instance may hold; {ip, mac} for one with a"
        " virtual MAC.",
    )
    security_groups: Annotated[tuple[fields.Id, ...], fields.AsTuple, Field(min_length=1)] = Field(
        default=(),
        description="Ids of its security groups, tried in this order; absent: the group `default`.",
        json_schema_extra=without_default,
    )
    interface: fields.Interface | None = Field(
        default=None, description="Live mode: the interface behind this instance."
    )
    port_security_enabled: bool = Field(
        default=True,
        description="Live mode: true (the default): what the instance sends must come from its own MAC and addresses,"
        " virtual IPs among them; false: from any.",
    )
    dhcp_server: bool = Field(
        default=False,
        description="true: the instance may answer DHCP and DHCPv6, where its rules allow; false (the default): such"
        " answers from it are invalid.",
    )
    tap: Tap | None = Field(default=None, description="Live mode: how the `interface` is made where there is none.")
    host: fields.Id | None = Field(
        default=None,
        description="Live mode, where hosts share a store: the host that it is on, as the store's address names it;"
        " absent: every host.",
    )

    def conflicts(self) -> Iterator[Conflict]:
        """How a TAP is made needs the TAP's name."""
        if self.tap is not None and self.interface is None:
            yield Conflict(("tap",), "tap is allowed with an interface only: it says how that is made", at_key=True)

    @cached_property
    def packed_addresses(self) -> tuple[bytes, ...]:
        """`addresses` as 4 or 16 bytes in network order."""
        return tuple(map(packed_address, self.addresses))

    @cached_property
    def packed_address_pairs(self) -> tuple[PackedPrefix, ...]:
        """`allowed_address_pairs` as (packed address, bits)."""
        return tuple(packed_prefix(pair_prefix(pair)) for pair in self.allowed_address_pairs)


class LoadBalancer(CheckedModel):
    """A load balancer, known by its address, MAC or interface."""

    id: fields.Id = Field(description="Unique.")
    name: fields.Text | None = Field(default=None, description="Text for people.")
    description: fields.Text | None = Field(default=None, description="Text for people.")
    addresses: Annotated[tuple[fields.Address, ...], fields.AsTuple, _Empty] = Field(
        default=(), description="The balancer's IPv4 and IPv6 addresses."
    )
    mac: fields.Mac | None = Field(default=None, description="The MAC of its interface.")
    interface: fields.Interface | None = Field(default=None, description="Live mode: the interface that leads to it.")
    backends: Annotated[tuple[fields.Id, ...], fields.AsTuple, _Empty] = Field(
        default=(), description="Ids of the instances that it forwards to."
    )
    transfer_client_ip: bool = Field(
        default=False, description="true: packets between the balancer and its backends pass without rules and state."
    )

    def conflicts(self) -> Iterator[Conflict]:
        """A load balancer must be recognisable."""
        if not self.addresses and self.mac is None and self.interface is None:
            yield Conflict(
                (), "a load balancer needs an address, a mac or an interface: it is recognised by one of them"
            )


class Uplink(Model):
    """An interface that leads to the world outside."""

    interface: fields.Interface = Field(description="Its name; it must exist.")


# ---- connection tracking ----


class Timeouts(Model):
    """How long a connection lives after its last packet, in seconds, by the state that packet left it in (SPEC 4.2)."""

    tcp_established: fields.Seconds = Field(default=600.0, description="TCP, established.")
    tcp_fin_wait: fields.Seconds = Field(default=30.0, description="TCP, after a FIN.")
    tcp_close_wait: fields.Seconds = Field(
        default=30.0, description="TCP, half-closed: one FIN, and it is acknowledged."
    )
    tcp_half_open: fields.Seconds = Field(default=30.0, description="TCP, handshake not complete.")
    tcp_close: fields.Seconds = Field(default=10.0, description="TCP, after a RST or a full close.")
    icmp: fields.Seconds = Field(default=30.0, description="ICMP and ICMPv6.")
    other_bidirectional: fields.Seconds = Field(default=180.0, description="Other protocols, packets seen both ways.")
    other_unidirectional: fields.Seconds = Field(default=30.0, description="Other protocols, packets seen one way.")


class Conntrack(Model):
    """Settings of the connection table."""

    tcp_loose: bool = Field(default=False, description="true: a TCP packet that is no SYN may open a connection.")
    tcp_be_liberal: bool = Field(default=False, description="true: no sequence-window check.")
    verify_checksums: bool | None = Field(
        default=None,
        description="true: a wrong checksum makes a packet malformed; absent: true for live traffic, false in replay.",
    )
    max_entries: Annotated[int, Field(ge=1, le=2**31 - 1)] = Field(
        default=1048576, description="The most connections that the table holds."
    )
    on_change: Literal["hold", "reevaluate"] = Field(
        default="hold",
        description="What becomes of a connection that a change disconnects: its packets are denied until its timeout"
        " has passed (hold), or the rules of then judge its initiator's next packet (reevaluate).",
    )
    timeouts: Annotated[Timeouts, BeforeValidator(fields.empty_as_mapping)] = Field(
        default_factory=Timeouts, description="Seconds that a connection lives after its last packet."
    )


# ---- the whole ----

_LOOKUPS = (
    "groups_by_id",
    "rules_by_id",
    "address_groups_by_id",
    "instances_by_id",
    "load_balancers_by_id",
    "members_by_group",
    "member_ids_by_group",
)


class Document(CheckedModel):
    """A whole policy: who is protected, and by which rules."""

    region: fields.Id = Field(default="default", description="The region of all groups that name none.")
    security_groups: Annotated[tuple[SecurityGroup, ...], fields.AsTuple, _Empty] = Field(
        default=(), description="The security groups with their rules."
    )
    address_groups: Annotated[tuple[AddressGroup, ...], fields.AsTuple, _Empty] = Field(
        default=(), description="Sets of addresses that rules name as their remote."
    )
    instances: Annotated[tuple[Instance, ...], fields.AsTuple, _Empty] = Field(
        default=(), description="The protected endpoints."
    )
    load_balancers: Annotated[tuple[LoadBalancer, ...], fields.AsTuple, _Empty] = Field(
        default=(), description="Load balancers in front of instances."
    )
    uplinks: Annotated[tuple[Uplink, ...], fields.AsTuple, _Empty] = Field(
        default=(), description="Live mode: interfaces that lead to the world outside."
    )
    conntrack: Annotated[Conntrack, BeforeValidator(fields.empty_as_mapping)] = Field(
        default_factory=Conntrack, description="How connections are tracked."
    )

    @cached_property
    def groups_by_id(self) -> Mapping[str, SecurityGroup]:
        """Security groups by id."""
        return {group.id: group for group in self.security_groups}

    @cached_property
    def rules_by_id(self) -> RuleIndex[SecurityGroup]:
        """Every rule by id, with its group before it."""
        return RuleIndex(self.security_groups)

    @cached_property
    def address_groups_by_id(self) -> Mapping[str, AddressGroup]:
        """Address groups by id."""
        return {group.id: group for group in self.address_groups}

    @cached_property
    def instances_by_id(self) -> Mapping[str, Instance]:
        """Instances by id."""
        return {instance.id: instance for instance in self.instances}

    @cached_property
    def load_balancers_by_id(self) -> Mapping[str, LoadBalancer]:
        """Load balancers by id."""
        return {balancer.id: balancer for balancer in self.load_balancers}

    @cached_property
    def members_by_group(self) -> Mapping[str, tuple[Instance, ...]]:
        """The instances now in each security group, in the order of the document; groups without any are left out."""
        members: dict[str, list[Instance]] = {}
        for instance in self.instances:
            for group in instance.security_groups:
                members.setdefault(group, []).append(instance)
        return {group: tuple(found) for group, found in members.items()}

    @cached_property
    def member_ids_by_group(self) -> Mapping[str, frozenset[str]]:
        """The ids of `members_by_group`."""
        return {
            group: frozenset([instance.id for instance in members]) for group, members in self.members_by_group.items()
        }

    def work_out_lookups(self) -> None:
        """Works out now what is asked when a rule, a group or an instance changes."""
        for lookup in _LOOKUPS:
            getattr(self, lookup)
        for group in self.security_groups:
            group.work_out_counts()

    @property
    def n_rules(self) -> int:
        """How many rules there are."""
        if "rules_by_id" in self.__dict__:
            return len(self.rules_by_id)
        return sum(len(group.security_group_rules) for group in self.security_groups)

    def group(self, group_id: str) -> SecurityGroup:
        """The security group with this id. Raises KeyError."""
        return self.groups_by_id[group_id]

    def address_group(self, group_id: str) -> AddressGroup:
        """The address group with this id. Raises KeyError."""
        return self.address_groups_by_id[group_id]

    def rule(self, rule_id: str) -> SecurityGroupRule:
        """The rule with this id. Raises KeyError."""
        return self.rules_by_id[rule_id][1]

    def instance(self, instance_id: str) -> Instance:
        """The instance with this id. Raises KeyError."""
        return self.instances_by_id[instance_id]

    def members(self, group_id: str) -> tuple[Instance, ...]:
        """The instances now in a security group, in the order of the document; the same object while none changes."""
        return self.members_by_group.get(group_id, ())

    def ids_of_members(self, group_id: str) -> frozenset[str]:
        """The ids of `members`; the same object from one policy to the next while no instance changes."""
        return self.member_ids_by_group.get(group_id, frozenset())
