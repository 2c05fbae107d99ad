"""Files of another kind than the one needed: each is known by what it holds, and the message says where it goes."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

_HEAD, _BEGINNING = 64, 1 << 14
_HCL = re.compile(rb'^(?:resource|data|provider|module|variable)\s+"[^"\n]*"(?:\s+"[^"\n]*")?\s*\{', re.M)
_IMPORT = "make a policy of it with dataplane import"
#: Keys at the top of documents that `dataplane import` takes, by its name for them. None of them is a policy's.
_FOREIGN = (
    ("aws", "an answer of AWS", {"SecurityGroups", "SecurityGroupRules"}),
    ("terraform", "a Terraform state", {"terraform_version"}),
    ("huawei", "an answer of the VPC API", {"request_id", "page_info"}),
)
_OPENSTACK = {"IP Protocol", "IP Range", "Port Range"}
_OF_POLICIES = {"security_groups", "instances"}
_OF_EXPECTATIONS = {"verdict", "packet", "reason", "count"}


def capture_told(data: bytes) -> str | None:
    """That a file is a capture, or compressed as captures are; None for text."""
    from dataplane.outputs import CAPTURE_MAGIC, COMPRESSED_MAGIC

    # Some of these beginnings are text too, which the bytes behind them are not.
    if all(9 <= byte < 0x80 for byte in data[:_HEAD]) or not data.startswith((*CAPTURE_MAGIC, *COMPRESSED_MAGIC)):
        return None
    kind = "a capture" if data.startswith(CAPTURE_MAGIC) else "a compressed file"
    return (
        f"this is {kind}, where a YAML or JSON document is needed: are two arguments swapped? replay, diff and explain "
        "take the policy before the captures, learn takes it as --instances"
    )


def configuration_told(data: str | bytes, name: str) -> str | None:
    """That a text is a Terraform configuration, by its name or what it holds."""
    head = data[:_BEGINNING]
    if isinstance(head, str):
        head = head.encode(errors="replace")
    if name.endswith((".tf", ".tf.json")) or _HCL.search(head):
        return f"this is a Terraform configuration: {_IMPORT} terraform, of the state file or of terraform show -json"
    return None


def foreign_told(value: Any) -> str | None:
    """That a document is one of those that other commands take: `dataplane import` mostly."""
    if isinstance(value, dict):
        for name, what, keys in _FOREIGN:
            if not keys.isdisjoint(value):
                return f"this is {what}, and no policy yet: {_IMPORT} {name}"
        if "cases" in value and value.keys().isdisjoint(_OF_POLICIES):
            return "these are cases of a policy, where the policy itself is needed: dataplane test takes them"
    if isinstance(value, list):
        if _items_with(value, _OPENSTACK):
            return f"this is a list of OpenStack, and no policy yet: {_IMPORT} openstack"
        return changes_told(value, "a policy is") or expectations_told(value, "a policy is")
    return None


def is_policy(value: Any) -> bool:
    """Whether a document has the groups or the instances of a policy."""
    return isinstance(value, dict) and not value.keys().isdisjoint(_OF_POLICIES)


def policy_told(value: dict[str, Any]) -> str | None:
    """That a document where cases are needed is a policy."""
    if not is_policy(value):
        return None
    return "this is a policy, where cases are needed: name it in a file of cases, as policy: FILE (dataplane new)"


def expectations_told(value: list[Any], needed: str = "changes are") -> str | None:
    """That a list where something else is needed holds expectations."""
    if _items_with(value, _OF_EXPECTATIONS) and not _items_with(value, {"at"}):
        return f"these are expectations, where {needed} needed: --expect takes them"
    return None


def changes_told(value: list[Any], needed: str = "expectations are") -> str | None:
    """That a list where something else is needed holds changes."""
    if _items_with(value, {"at"}) and not _items_with(value, _OF_EXPECTATIONS):
        return f"these are changes, where {needed} needed: --changes takes them"
    return None


def _items_with(value: list[Any], keys: Collection[str]) -> bool:
    """Whether an item has one of these keys."""
    return any(isinstance(item, dict) and not item.keys().isdisjoint(keys) for item in value)
