"""`dataplane api` as a command, and what no other command loads."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkvpc.v3 import ListPortsRequest
from huaweicloudsdkvpc.v3.vpc_client import VpcClient

from tests.unit.live.scene import POLICY

from .served import KEYS, SECRET

COMMAND = (sys.executable, "-m", "dataplane", "api")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    policy, keys = tmp_path / "policy.yaml", tmp_path / "keys.yaml"
    policy.write_text(POLICY)
    keys.write_text(KEYS)
    keys.chmod(0o600)
    return policy, keys


def test_the_command_serves_until_it_is_told_to_stop(files: tuple[Path, Path], tmp_path: Path) -> None:
    """It says where, and leaves nothing behind."""
    policy, keys = files
    path = tmp_path / "api.sock"
    options = ("--listen", "127.0.0.1:0", "--listen", str(path), "--keys", str(keys), "--log-format", "json")
    with subprocess.Popen([*COMMAND, str(policy), *options], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            told = json.loads(process.stderr.readline())
            assert told["message"] == "serving"
            place, unix = told["api"]
            assert unix == str(path)
            client = (
                VpcClient.new_builder()
                .with_credentials(BasicCredentials("AK", SECRET, "p1"))
                .with_endpoint(f"http://{place}")
                .build()
            )
            assert {port.id for port in client.list_ports(ListPortsRequest()).ports} == {"a", "b"}
            client.get_http_client().close()
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        assert json.loads(process.stderr.read().splitlines()[-1])["message"] == "stopped"
    assert not path.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda policy, keys: keys.chmod(0o644), "others than its owner may read"),
        (lambda policy, keys: policy.write_text("security_groups: 5"), "policy.yaml:1:18: security_groups 5"),
        (lambda policy, keys: keys.unlink(), "cannot be read: No such file"),
    ],
)
def test_the_command_does_not_start(files: tuple[Path, Path], change: object, words: str) -> None:
    """Exit status 2, and a sentence."""
    policy, keys = files
    change(policy, keys)  # type: ignore[operator]
    command = [*COMMAND, str(policy), "--listen", "127.0.0.1:0", "--keys", str(keys)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_what_serves_the_api_is_loaded_by_who_serves_it_alone() -> None:
    code = (
        "import sys, dataplane, dataplane.cli.replay, dataplane.replay.run, dataplane.live.daemon, dataplane.cli.run\n"
        "print([name for name in ('fastapi', 'uvicorn', 'starlette', 'dataplane.control.signature') if name in"
        " sys.modules])"
    )
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "[]\n"
