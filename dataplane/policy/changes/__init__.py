"""Changes of a policy as values (SPEC 5, 7), and a policy with one of them made.

`apply` is pure: it gives a new Policy, or raises ChangeError and nothing has happened (SPEC 5.6). Only what a change
touches is made anew: all else stays the same objects. A change that changes nothing gives back the policy it was given.
Each kind is a class: `kind` says what they are alike in, `registry` has all of them.
"""

from dataplane.policy.changes.address_groups import CreateAddressGroup, DeleteAddressGroup, UpdateAddressGroup
from dataplane.policy.changes.groups import (
    AddInstance,
    CloneGroup,
    CreateGroup,
    DeleteGroup,
    RemoveInstance,
    UpdateGroup,
)
from dataplane.policy.changes.instances import CreateInstance, DeleteInstance, UpdateInstance
from dataplane.policy.changes.kind import Change
from dataplane.policy.changes.load_balancers import CreateLoadBalancer, DeleteLoadBalancer, UpdateLoadBalancer
from dataplane.policy.changes.policies import ApplyPolicy
from dataplane.policy.changes.registry import KINDS, Item, apply, objections, parse_change, prepare
from dataplane.policy.changes.rules import AddRule, DeleteRule, FastAddRules, UpdateRule
from dataplane.policy.mistakes import ChangeError

__all__ = [
    "KINDS",
    "AddInstance",
    "AddRule",
    "ApplyPolicy",
    "Change",
    "ChangeError",
    "CloneGroup",
    "CreateAddressGroup",
    "CreateGroup",
    "CreateInstance",
    "CreateLoadBalancer",
    "DeleteAddressGroup",
    "DeleteGroup",
    "DeleteInstance",
    "DeleteLoadBalancer",
    "DeleteRule",
    "FastAddRules",
    "Item",
    "RemoveInstance",
    "UpdateAddressGroup",
    "UpdateGroup",
    "UpdateInstance",
    "UpdateLoadBalancer",
    "UpdateRule",
    "apply",
    "objections",
    "parse_change",
    "prepare",
]
