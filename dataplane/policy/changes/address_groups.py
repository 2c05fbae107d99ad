"""Changes of address groups."""

from collections.abc import Iterator

from pydantic import Field

from dataplane.policy import fields
from dataplane.policy.changes.kind import ADDRESS_GROUPS, Create, Delete, Use, updating
from dataplane.policy.document import AddressGroup
from dataplane.policy.mistakes import Conflict
from dataplane.policy.model import Policy


class CreateAddressGroup(AddressGroup, Create):
    """A new address group."""

    kind = "create_address_group"
    command = ("address-group", "create")
    example = "offices ip_version=4 ip_set=172.16.0.0/24,10.0.0.1-10.0.0.9"
    section = ADDRESS_GROUPS
    part = AddressGroup


class UpdateAddressGroup(updating(AddressGroup)):  # type: ignore[misc]
    """New values for the named fields of an address group: another set of addresses, another name."""

    kind = "update_address_group"
    command = ("address-group", "update")
    example = "offices ip_set=172.16.0.0/25"
    references = (ADDRESS_GROUPS.named_by("id"),)
    thing = ADDRESS_GROUPS.thing
    section = ADDRESS_GROUPS
    part = AddressGroup

    id: fields.Id = Field(description="Id of the address group.")

    @property
    def summary(self) -> str:
        """The change in a few words."""
        return f"update address group {self.id}"

    def conflicts(self) -> Iterator[Conflict]:
        if self.model_fields_set <= {"id"}:
            yield Conflict((), "ip_set is missing: write a list")


class DeleteAddressGroup(Delete):
    """An address group is deleted; refused while a rule names it."""

    kind = "delete_address_group"
    command = ("address-group", "delete")
    example = "offices"
    references = (ADDRESS_GROUPS.named_by("id"),)
    section = ADDRESS_GROUPS

    id: fields.Id = Field(description="Id of the address group.")

    def uses(self, policy: Policy) -> Iterator[Use]:
        """Rules."""
        rules = [rule.id for _, rule in policy.rules_by_id.values() if rule.remote_address_group_id == self.id]
        yield Use("rule", "names it as remote_address_group_id", "name it as remote_address_group_id", rules)
