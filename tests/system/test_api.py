"""The cloud's API of a running firewall: the vendor's SDK changes what live traffic meets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkvpc.v3 import (
    CreateSecurityGroupRuleOption,
    CreateSecurityGroupRuleRequest,
    CreateSecurityGroupRuleRequestBody,
    DeleteSecurityGroupRuleRequest,
    ListSecurityGroupRulesRequest,
)
from huaweicloudsdkvpc.v3.vpc_client import VpcClient

from tests.system.network import needs_root_and, network, standing_in, until
from tests.system.running import INSIDE, Conversation, Running

pytestmark = needs_root_and("ip", "ping")

SECRET = "a secret of some length"


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with network() as net:
        yield Running(net, tmp_path)


def test_traffic_meets_what_the_sdk_has_changed(running: Running, tmp_path: Path) -> None:
    """SPEC 5.1, 5.2: a rule that is added lets in, one that is deleted cuts what it let in; the log says who."""
    keys = tmp_path / "keys.yaml"
    keys.write_text(f"- {{access_key: AK, secret_key: {SECRET}, project: p1}}\n")
    keys.chmod(0o600)
    store = ("--store", f"sqlite://{tmp_path}/policy.db")
    running.start("--api", "127.0.0.1:8774", "--keys", str(keys), "--api", str(tmp_path / "api.sock"), *store)
    client = (
        VpcClient.new_builder()
        .with_credentials(BasicCredentials("AK", SECRET, "p1"))
        .with_endpoint("http://127.0.0.1:8774")
        .build()
    )
    option = CreateSecurityGroupRuleOption(
        security_group_id="sg", direction="ingress", protocol="tcp", multiport="9000", remote_ip_prefix="10.66.0.2"
    )
    body = CreateSecurityGroupRuleRequestBody(security_group_rule=option)

    with pytest.raises(OSError, match="timed out"):
        Conversation(running.out, running.a, INSIDE, 9000)
    with standing_in(running.fw):
        rule = client.create_security_group_rule(CreateSecurityGroupRuleRequest(body)).security_group_rule
        listed = client.list_security_group_rules(ListSecurityGroupRulesRequest(protocol=["tcp"])).security_group_rules
    assert {found.id for found in listed} == {"web", rule.id}
    admitted = Conversation(running.out, running.a, INSIDE, 9000)
    assert admitted.goes_on()
    # One model: what the API made is what the command line knows, and the other way round.
    assert rule.id in running.ctl("rule", "list").stdout
    assert "It is kept in sqlite:///" in running.ctl("rule", "update", "ping", "description=seen").stdout
    with standing_in(running.fw):
        (ping,) = client.list_security_group_rules(ListSecurityGroupRulesRequest(id=["ping"])).security_group_rules
        assert ping.description == "seen"
        assert client.delete_security_group_rule(DeleteSecurityGroupRuleRequest(rule.id)).status_code == 204
    assert not admitted.goes_on(within=1)
    admitted.close()
    (told,) = [line for line in running.log.splitlines() if f"rule {rule.id} deleted" in line]
    assert "access_key=AK" in told
    assert "address=127.0.0.1" in told
    assert any("policy in force" in line and '"total": 1' in line for line in running.log.splitlines())
    assert SECRET not in running.log
    # A document, and what another process writes into the store, are as much a change as these.
    document = tmp_path / "document.yaml"
    socket = ("--socket", str(tmp_path / "control"))
    running.dataplane("policy", "export", str(document), *socket)
    assert "description: seen" in document.read_text()
    document.write_text(document.read_text().replace("description: seen", "description: written"))
    told = running.dataplane("policy", "apply", str(document), *socket, "--yes").stdout
    assert told.startswith("1 difference:\n  rule ping of security group sg updated")
    with standing_in(running.fw):
        (ping,) = client.list_security_group_rules(ListSecurityGroupRulesRequest(id=["ping"])).security_group_rules
    assert ping.description == "written"
    document.write_text(document.read_text().replace("description: written", "description: stored"))
    running.dataplane("policy", "apply", str(document), *store, "--yes")
    until(lambda: "description: stored" in running.ctl("policy").stdout, "what was stored is in force")
    client.get_http_client().close()
    assert running.stop() == 0
    # In one file, which can be copied.
    assert [path.name for path in tmp_path.glob("policy.db*")] == ["policy.db"]
    until(lambda: not (tmp_path / "api.sock").exists(), "the socket is gone")
    # What was changed is kept: the policy file, which has none of it, filled the store at the first start only.
    running.start(*store)
    assert "description: stored" in running.ctl("policy").stdout
    assert rule.id not in running.ctl("policy").stdout
