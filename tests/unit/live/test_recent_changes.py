"""The last changes in `ctl status` (docs/control.md, Changes): what each was, who made it, what it cut."""

from __future__ import annotations

import os

import pytest

from dataplane.control.policy_control import MADE_MAX
from dataplane.live.client import RefusedError

from .served import Served


def test_the_last_changes_are_told_with_what_each_cut(served: Served) -> None:
    """What changes nothing, is only tried or refused is none of them; the bound is kept, the latest are there."""
    assert served.call("status")["changes"] == []
    served.change({"update_rule": {"id": "web", "multiport": "443"}}, dry_run=True)
    served.change({"update_rule": {"id": "web", "multiport": "80"}})
    with pytest.raises(RefusedError):
        served.change({"delete_rule": {"id": "none"}})
    assert served.call("status")["changes"] == []
    cut = served.change({"update_rule": {"id": "web", "multiport": "443"}})["disconnected"]
    (made,) = served.call("status")["changes"]
    assert made["disconnected"] == cut
    assert cut["by_instance"] == {"a": 2}
    assert made["generation"] == 2
    assert made["by"] == {"uid": os.getuid(), "pid": os.getpid()}
    assert len(made["differences"]) == 1
    assert made["differences"][0].startswith("rule web of security group sg updated: ")
    for port in range(1, MADE_MAX + 3):
        served.change({"update_rule": {"id": "web", "multiport": str(port)}})
    told = served.call("status")["changes"]
    assert [made["generation"] for made in told] == list(range(5, MADE_MAX + 5))


def test_of_a_large_change_the_first_differences_are_told(served: Served) -> None:
    served.policy.write_text("security_groups: []\n")
    served.call("reload")
    (made,) = served.call("status")["changes"]
    assert len(made["differences"]) == 5
