"""What the cloud's API does not have: update and clone of rules and groups, instances, explain, a shadow, what if."""

from __future__ import annotations

import json
from typing import Any

import pytest
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkvpc.v3 import ListPortsRequest

from dataplane import Policy
from dataplane.policy.write import document

from .served import Served

RULES = "/vpc/security-group-rules"


def put_rule(served: Served, rule: str, **fields: Any) -> Any:
    return served.call("PUT", f"{RULES}/{rule}", {"security_group_rule": fields})


def test_a_rule_is_updated(served: Served) -> None:
    """Named fields alone; null takes one away; the id and the time that it came stay."""
    before = served.call("GET", f"{RULES}/web").body["security_group_rule"]
    answer = put_rule(served, "web", multiport="443", priority=9, remote_ip_prefix="192.0.2.0/24")
    assert answer.status == 200
    expected = {"multiport": "443", "priority": 9, "remote_ip_prefix": "192.0.2.0/24"}
    assert answer.body["security_group_rule"] == {
        **before,
        **expected,
        "updated_at": answer.body["security_group_rule"]["updated_at"],
    }
    assert served.firewall.policy.rule("web").multiport == "443"
    assert put_rule(served, "web", remote_ip_prefix=None).body["security_group_rule"]["remote_ip_prefix"] is None
    assert (put_rule(served, "web", remote_group_id="x").code, put_rule(served, "no", priority=1).code) == (
        "VPC.9904",
        "VPC.9904",
    )
    assert put_rule(served, "web", priority=0).code == "VPC.9901"
    # It would do what another one does.
    answer = put_rule(served, "web", protocol="udp", multiport=None, remote_group_id="sg", priority=1)
    assert answer.body["error_msg"] == "Security group rule already exists. Rule id is self."


def test_extra_fields_of_a_rule(served: Served) -> None:
    """Types of ICMP, and when a rule ends."""
    rule = {
        "security_group_id": "sg",
        "direction": "ingress",
        "protocol": "icmp",
        "icmp_type": 8,
        "expires_at": "2099-01-01T00:00:00Z",
    }
    made = served.call("POST", RULES, {"security_group_rule": rule}).body["security_group_rule"]
    assert (made["icmp_type"], made["icmp_code"], made["expires_at"]) == (8, None, "2099-01-01T00:00:00Z")


def test_a_group_is_cloned(served: Served) -> None:
    """Rules of its own; those that name the group itself name the copy."""
    answer = served.call("POST", "/vpc/security-groups/sg/clone", {"security_group": {"name": "copy"}})
    assert answer.status == 201
    group = answer.body["security_group"]
    assert (group["name"], group["project_id"], len(group["security_group_rules"])) == ("copy", "p1", 4)
    assert {rule["remote_group_id"] for rule in group["security_group_rules"]} == {None, group["id"]}
    assert served.call("POST", "/vpc/security-groups/sg/clone").body["security_group"]["name"] == "sg-copy"
    assert served.call("POST", "/vpc/security-groups/none/clone").code == "VPC.9904"


def test_instances(served: Served) -> None:
    """As in the policy document; the cloud's API has them as ports."""
    path = "/dataplane/instances"
    made = served.call("POST", path, {"instance": {"id": "c", "addresses": ["10.0.0.3"], "security_groups": ["sg"]}})
    assert (made.status, made.body["instance"]["addresses"]) == (201, ["10.0.0.3"])
    assert {port.id for port in served.sdk("ALL").list_ports(ListPortsRequest()).ports} == {"a", "b", "c"}
    changed = served.call("PUT", f"{path}/c", {"instance": {"addresses": ["10.0.0.4"]}})
    assert changed.body["instance"]["addresses"] == ["10.0.0.4"]
    assert served.call("POST", path, {"instance": {"id": "c", "addresses": ["10.0.0.5"]}}).code == "VPC.9902"
    assert served.call("POST", path, {"instance": {"id": "d", "addresses": ["10.0.0.4"]}}).code == "VPC.9901"
    assert served.call("POST", path, {"instance": {}}).code == "VPC.9901"
    assert served.call("DELETE", f"{path}/c").status == 204
    assert served.call("GET", f"{path}/c").code == "VPC.9904"
    assert [found["id"] for found in served.call("GET", path).body["instances"]] == ["a", "b"]


def test_a_packet_is_explained(unchanged: Served) -> None:
    """As `dataplane ctl explain` does, connections among it."""
    answer = unchanged.call("POST", "/dataplane/explain", {"packet": "tcp 192.0.2.77:1234 > 10.0.0.1:80 S"})
    assert (answer.status, answer.body["verdict"]) == (200, "allow")
    (check,) = answer.body["checks"]
    assert (check["rule"], check["state"], check["reason"]) == ("web", "new", "rule")
    known = unchanged.call("POST", "/dataplane/explain", {"packet": "tcp 192.0.2.9:40000 > 10.0.0.1:80 A"})
    assert known.body["checks"][0]["state"] == "established"
    assert unchanged.call("POST", "/dataplane/explain", {"packet": "nonsense"}).code == "VPC.9901"
    assert unchanged.call("POST", "/dataplane/explain", {"packet": "tcp 1.1.1.1 > 2.2.2.2", "at": "x"}).status == 400


def test_what_if(unchanged: Served) -> None:
    """Several changes as one, or another policy: what it would cut; nothing is changed."""
    changes = [{"delete_rule": {"id": "listed"}}, {"delete_address_group": {"id": "list"}}]
    told = unchanged.call("POST", "/dataplane/what-if", {"changes": changes}).body
    assert (told["dry_run"], told["disconnected"]) == (True, {"total": 1, "by_instance": {"b": 1}, "revoked": 0})
    # In the other order it is not valid: the group is still used then.
    refused = unchanged.call("POST", "/dataplane/what-if", {"changes": changes[::-1]})
    assert (refused.status, refused.code) == (400, "VPC.9901")
    other = document(unchanged.firewall.policy)
    other["security_groups"][0]["security_group_rules"].pop(0)
    told = unchanged.call("POST", "/dataplane/what-if", {"policy": other}).body
    assert told["disconnected"]["by_instance"] == {"a": 2}
    for body in ({}, {"changes": changes, "policy": other}, {"policy": {"instances": 5}}):
        assert unchanged.call("POST", "/dataplane/what-if", body).code == "VPC.9901"


def test_a_shadow(served: Served) -> None:
    path = "/dataplane/shadow"
    assert served.call("GET", path).code == "VPC.9901"
    policy = json.loads(json.dumps(document(served.firewall.policy)))
    assert served.call("PUT", path, {"policy": policy, "name": "new"}).body["taken_over"] == 5
    report = served.call("GET", path).body
    assert (report["policy"], report["flows"]) == ("new", [])
    assert served.call("DELETE", path).status == 204
    assert served.call("GET", path).status == 400


def test_the_policy_as_a_whole_is_for_keys_of_all_projects(unchanged: Served) -> None:
    """Where there are several projects: nobody sees another one's rules by an explanation."""
    client = unchanged.sdk()
    with pytest.raises(ClientRequestException) as caught:
        client.do_http_request(
            method="GET",
            resource_path="/v3/{project_id}/dataplane/status",
            path_params={},
            query_params=[],
            header_params={"Content-Type": "application/json"},
            body=None,
            post_params={},
            response_type="ListPortsResponse",
            request_type="ListPortsRequest",
            collection_formats={},
            cname=None,
            response_headers=[],
        )
    assert caught.value.error_code == "SYS.0403"
    assert unchanged.call("GET", "/dataplane/status").body["generation"] == 1


def test_several_changes_of_the_control_socket_are_one(served: Served) -> None:
    """What the API makes of a forced deletion: all or none, one generation."""
    assert isinstance(served.firewall.policy, Policy)
    before = served.call("GET", "/dataplane/status").body["generation"]
    assert served.call("DELETE", "/vpc/address-groups/list/force").status == 204
    assert served.call("GET", "/dataplane/status").body["generation"] == before + 1
    assert "listed" not in served.firewall.policy.rules_by_id
