"""Changes of address groups."""

from collections.abc import Iterator

from pydantic import Field

from dataplane.policy import fields
from dataplane.policy.changes.kind import (
    ADDRESS_GROUPS,
    Change,
    Use,
    id_conflicts,
    item_conflicts,
    part_of,
    replaced,
    still_used,
    updating,
    without,
)
from dataplane.policy.mistakes import Conflict
from dataplane.policy.model import AddressGroup, Policy
from dataplane.policy.sharing import following


class CreateAddressGroup(AddressGroup, Change):
    """A new address group."""

    kind = "create_address_group"
    command = ("address-group", "create")
    example = "offices ip_version=4 ip_set=172.16.0.0/24,10.0.0.1-10.0.0.9"

    @property
    def summary(self) -> str:
        """The change in a few words."""
        return f"create address group {self.id}"

    def _misfits(self, policy: Policy) -> Iterator[Conflict]:
        return id_conflicts(policy, ADDRESS_GROUPS, self.id)

    def made(self, policy: Policy) -> Policy:
        return following(policy, address_groups=(*policy.address_groups, part_of(self, AddressGroup)))


class UpdateAddressGroup(updating(AddressGroup)):  # type: ignore[misc]
    """New values for the named fields of an address group: another set of addresses, another name."""

    kind = "update_address_group"
    command = ("address-group", "update")
    example = "offices ip_set=172.16.0.0/25"
    references = (ADDRESS_GROUPS.named_by("id"),)
    thing = "address group"
    part = AddressGroup

    id: fields.Id = Field(description="Id of the address group.")

    @property
    def summary(self) -> str:
        """The change in a few words."""
        return f"update address group {self.id}"

    def conflicts(self) -> Iterator[Conflict]:
        if self.model_fields_set <= {"id"}:
            yield Conflict((), "ip_set is missing: write a list")

    def _misfits(self, policy: Policy) -> Iterator[Conflict]:
        updated = policy.address_group(self.id).model_copy(update=self.named)
        yield from updated.conflicts()
        if "ip_version" in self.named:
            yield from item_conflicts(policy, ADDRESS_GROUPS, updated)

    def made(self, policy: Policy) -> Policy:
        group = policy.address_group(self.id)
        updated = group.model_copy(update=self.named)
        return policy if updated == group else following(policy, **replaced(ADDRESS_GROUPS, policy, group, updated))


class DeleteAddressGroup(Change):
    """An address group is deleted; refused while a rule names it."""

    kind = "delete_address_group"
    command = ("address-group", "delete")
    example = "offices"
    references = (ADDRESS_GROUPS.named_by("id"),)

    id: fields.Id = Field(description="Id of the address group.")

    @property
    def summary(self) -> str:
        """The change in a few words."""
        return f"delete address group {self.id}"

    def _misfits(self, policy: Policy) -> Iterator[Conflict]:
        rules = [rule.id for _, rule in policy.rules_by_id.values() if rule.remote_address_group_id == self.id]
        use = Use("rule", "names it as remote_address_group_id", "name it as remote_address_group_id", rules)
        yield from still_used("address group", self.id, use)

    def made(self, policy: Policy) -> Policy:
        return following(policy, **without(ADDRESS_GROUPS, policy, policy.address_group(self.id)))
