"""`dataplane policy export` and `apply`: a policy given out, and one made equal to a document."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dataplane import Policy
from dataplane.cli import app
from dataplane.control.requests import ChangePolicy, Confirm, Reload
from dataplane.live.client import ControlClient, RefusedError
from dataplane.live.operations import Operations
from dataplane.policy.write import document
from dataplane.store.sqlite import SqliteStore

from .scene import POLICY, filled
from .served import NoPorts, Served, Service

SEEN = ChangePolicy(command="change", change={"update_rule": {"id": "web", "description": "seen"}})
#: A rule more, and one with other ports: both cut what comes into `a`, which has two inbound connections.
EDITED = POLICY.replace('multiport: "80"}', 'multiport: "80,81"}').replace(
    "- {id: out,", "- {id: more, direction: ingress, protocol: gre}\n      - {id: out,"
)


@pytest.fixture
def edited(tmp_path: Path) -> Path:
    path = tmp_path / "edited.yaml"
    path.write_text(EDITED)
    return path


def policy(*words: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """A command whose standard input is no terminal."""
    done = CliRunner().invoke(app, ["policy", *words], input=given)
    return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)


def same(text: str, expected: Policy) -> bool:
    return document(Policy.parse(text)) == document(expected)


# ---- a running firewall ----


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_what_is_exported_is_the_policy_again(served: Served, tmp_path: Path, form: str) -> None:
    """To the rule: what is loaded again is equal, and changes nothing."""
    served.change({"add_rule": {"security_group": "sg", "rule": {"direction": "egress", "protocol": "gre"}}})
    file = tmp_path / f"out.{form}"
    done = policy("export", str(file), "--socket", str(served.socket))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert same(file.read_text(), served.firewall.policy)
    assert (form == "json") == file.read_text().startswith("{")
    again = policy("apply", str(file), "--socket", str(served.socket), "--yes")
    assert (again.returncode, again.stdout) == (0, "Nothing changes: the policy is equal to the document.\n")
    assert served.service.generation == 2


def test_a_file_that_is_there_is_spared(served: Served, edited: Path) -> None:
    done = policy("export", str(edited), "--socket", str(served.socket))
    assert done.returncode == 2
    assert "--force overwrites it" in done.stderr
    assert edited.read_text() == EDITED
    assert policy("export", str(edited), "--socket", str(served.socket), "--force").returncode == 0
    assert same(edited.read_text(), served.firewall.policy)


def test_the_difference_and_what_it_cuts_come_first(served: Served, edited: Path) -> None:
    """A dry run tells them and changes nothing; then they are told again, and done as one change (SPEC 5.1, 5.2)."""
    before = served.firewall.policy
    told = policy("apply", str(edited), "--socket", str(served.socket), "--dry-run")
    lines = told.stdout.splitlines()
    assert told.returncode == 0
    assert lines[0] == "2 differences:"
    assert lines[1].startswith("  rule web of security group sg updated: direction ingress")
    assert "multiport 80,81" in lines[1]
    assert lines[2].startswith("  rule more added to security group sg: direction ingress")
    assert lines[3:5] == ["2 connections would be disconnected", "  a: 2"]
    (held,) = lines[5:]
    assert held.startswith("What is disconnected stays so until its timeout, whatever the new rules allow")
    assert served.firewall.policy is before
    done = policy("apply", str(edited), "--socket", str(served.socket), "--yes")
    assert done.returncode == 0
    assert done.stdout.splitlines()[:6] == lines
    assert done.stdout.splitlines()[6:8] == ["2 connections disconnected", "  a: 2"]
    assert "in memory only" in done.stdout
    assert document(served.firewall.policy) == document(Policy.parse(EDITED))
    assert served.service.generation == 2


def test_where_the_new_rules_decide_that_is_said(served: Served, edited: Path) -> None:
    """SPEC 5.7: `on_change` is that of the policy which comes into force."""
    edited.write_text(f"{EDITED}\nconntrack: {{on_change: reevaluate}}\n")
    told = policy("apply", str(edited), "--socket", str(served.socket), "--dry-run").stdout
    assert told.splitlines()[-1] == (
        "What is disconnected goes on where the new rules allow the next packet of who opened it (conntrack.on_change:"
        " reevaluate)."
    )


def test_programs_are_told_the_same(served: Served, edited: Path) -> None:
    done = policy("apply", str(edited), "--socket", str(served.socket), "--yes", "--json")
    told = json.loads(done.stdout)
    assert (told["changed"], told["dry_run"], told["generation"]) == (True, False, 2)
    assert told["disconnected"] == {"total": 2, "by_instance": {"a": 2}, "revoked": 0}
    assert (len(told["differences"]), told["differences_total"]) == (2, 2)
    assert told["unsaved_changes"] == 1


def test_nobody_is_changed_unasked(served: Served, edited: Path) -> None:
    """Where nobody can be asked, --yes must be there; who says no is not obeyed by half."""
    for words, given in (((str(edited),), "y\n"), (("-",), EDITED)):
        done = policy("apply", *words, "--socket", str(served.socket), given=given)
        assert done.returncode == 2
        assert "add --yes to apply it, or --dry-run" in done.stderr
    assert served.service.generation == 1
    assert policy("apply", "-", "--socket", str(served.socket), "--yes", given=EDITED).returncode == 0
    assert served.service.generation == 2


@pytest.mark.parametrize(("answer", "generation", "status"), [("y\n", 2, 0), ("n\n", 1, 2)])
def test_who_sits_at_a_terminal_is_asked(
    served: Served, edited: Path, monkeypatch: pytest.MonkeyPatch, answer: str, generation: int, status: int
) -> None:
    class Terminal:
        """Standard input that says that it is a terminal."""

        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("dataplane.cli.policy.sys", type("sys", (), {"stdin": Terminal(), "stdout": sys.stdout}))
    done = CliRunner().invoke(app, ["policy", "apply", str(edited), "--socket", str(served.socket)], input=answer)
    assert "2 connections would be disconnected" in done.output.partition("Apply it?")[0]
    assert done.exit_code == status
    assert served.service.generation == generation


def test_every_mistake_is_told_with_its_place(served: Served, tmp_path: Path) -> None:
    """SPEC 2: all in one run, status 2, and nothing is applied."""
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(POLICY.replace('"80"', '"70000"').replace("192.0.2.0/24", "192.0.2.1/24"))
    done = policy("apply", str(wrong), "--socket", str(served.socket), "--yes")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert [line.partition(": ")[0] for line in lines[:2]] == [f"{wrong}:5:65", f"{wrong}:11:40"]
    assert lines[2] == "the policy is not valid, and the one before stays in force: 2 mistakes"
    assert served.service.generation == 1


def test_what_was_changed_in_between_is_not_lost(served: Served, edited: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused where another change came after its difference was told, or after the generation that is given."""

    def meanwhile(told: dict[str, Any]) -> None:
        assert told["generation"] == 1
        served.change({"update_rule": {"id": "web", "description": "seen"}})

    words = ("apply", str(edited), "--socket", str(served.socket), "--yes")
    monkeypatch.setattr("dataplane.cli.policy.print_rehearsed", meanwhile)
    for done in (policy(*words), policy(*words, "--expected-generation", "1")):
        assert done.returncode == 2
        assert "of generation 2, and 1 was expected" in done.stderr
    assert served.firewall.policy.rules_by_id["web"][1].description == "seen"
    assert "more" not in served.firewall.policy.rules_by_id


def test_a_document_that_is_confirmed_by_nobody_is_taken_back(served: Served, edited: Path) -> None:
    done = policy("apply", str(edited), "--socket", str(served.socket), "--yes", "--confirm", "60")
    assert f"unless it is confirmed: dataplane ctl --socket {served.socket} confirm\n" in done.stdout
    served.call("confirm", revert=True)
    assert document(served.firewall.policy) == document(Policy.parse(POLICY))


def test_one_client_at_a_time_sends_much(served: Served) -> None:
    """There is memory for one document; who goes in the middle of one leaves the place to others."""
    with ControlClient(served.socket) as first, ControlClient(served.socket) as second:
        first._send("apply", {"bytes": 1000})
        assert first._answer() == {"ok": True, "upload": 1000}
        first._socket.sendall(b"x" * 999)
        with pytest.raises(RefusedError, match="another client is sending"):
            second.upload("apply", b"{}", dry_run=True)
        first.abort()
        for _ in range(100):
            try:
                assert not second.upload("apply", POLICY.encode(), dry_run=True)["changed"]
                break
            except RefusedError:
                pass
        else:
            pytest.fail("the place stays taken")
        with pytest.raises(RefusedError, match="bytes: input should be less than or equal to"):
            second.call("apply", bytes=1 << 40)


def test_an_empty_document_is_refused(served: Served) -> None:
    done = policy("apply", "-", "--socket", str(served.socket), "--yes")
    assert done.returncode == 2
    assert "the document is empty" in done.stderr
    assert served.service.generation == 1


# ---- a store ----


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A store with the policy in it."""
    path = tmp_path / "policy.db"
    with closing(SqliteStore(path)) as store, store.keeping(Policy.parse(POLICY), 100.0):
        pass
    return f"sqlite://{path}"


def kept(url: str) -> Policy:
    with closing(SqliteStore(Path(url.removeprefix("sqlite://")))) as store:
        return store.load()


def test_a_store_is_made_equal_to_a_document(url: str, edited: Path) -> None:
    """The difference is told first, and whose inbound connections it would cut; a dry run writes nothing."""
    told = policy("apply", str(edited), "--store", url, "--dry-run")
    assert (told.returncode, told.stdout.splitlines()[0]) == (0, "2 differences:")
    assert told.stdout.splitlines()[-1].endswith("would disconnect all inbound connections of a")
    assert same(POLICY, kept(url))
    done = policy("apply", str(edited), "--store", url, "--yes")
    assert done.returncode == 0
    assert done.stdout.startswith(told.stdout)
    assert same(EDITED, kept(url))
    exported = policy("export", "--store", url)
    assert same(exported.stdout, kept(url))
    assert policy("apply", "-", "--store", url, "--yes", given=exported.stdout).stdout.startswith("Nothing changes")


def test_an_empty_store_is_filled(tmp_path: Path, edited: Path) -> None:
    url = f"sqlite://{tmp_path}/new.db"
    refused = policy("export", "--store", url)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "no policy is kept there yet" in refused.stderr
    # Who only asks makes no database, nor does who is refused.
    assert policy("apply", str(edited), "--store", url, "--dry-run").returncode == 2
    assert policy("apply", "-", "--store", url, "--yes", given="instances: 5").returncode == 2
    assert not (tmp_path / "new.db").exists()
    done = policy("apply", str(edited), "--store", url, "--yes", "--json")
    assert json.loads(done.stdout)["changed"]
    assert same(EDITED, kept(url))


@pytest.mark.parametrize("words", [("--store", "sqlite:policy.db"), ("--store", "sqlite:///nowhere/policy.db")])
def test_a_store_that_cannot_be_had_is_told_in_a_sentence(edited: Path, words: tuple[str, ...]) -> None:
    done = policy("apply", str(edited), *words, "--yes")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_a_firewall_follows_its_store(tmp_path: Path, url: str, edited: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another process keeps there is in force soon; what cannot be is tried once, and then what comes after it."""
    monkeypatch.setattr("dataplane.control.service._LOOK_SECONDS", 0.01)
    ports: Any = NoPorts()
    firewall, control, store = filled(), ThreadPoolExecutor(1), SqliteStore(tmp_path / "policy.db")
    service = Service(Operations(firewall, ports), store, control)
    reloads = service.reloads

    async def until(condition: Any) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.01)

    async def follow() -> None:
        task = asyncio.create_task(service.follow_store())
        assert (await asyncio.to_thread(policy, "apply", str(edited), "--store", url, "--yes")).returncode == 0
        await until(lambda: (service.generation, reloads.succeeded) == (2, 1))
        assert "more" in firewall.policy.rules_by_id
        with closing(SqliteStore(tmp_path / "policy.db")) as other:
            other._database.execute("UPDATE head SET body = '{\"region\": 5}', revision = revision + 1")
        await until(lambda: reloads.failed)
        await asyncio.sleep(0.1)
        assert (service.generation, reloads.failed) == (2, 1)
        with closing(SqliteStore(tmp_path / "policy.db")) as other, other.keeping(Policy.parse(POLICY), 200.0):
            pass
        await until(lambda: (service.generation, reloads.succeeded) == (3, 2))
        assert "more" not in firewall.policy.rules_by_id
        # What this process keeps is no news to it.
        await service.do(lambda: service.change(SEEN))
        await asyncio.sleep(0.1)
        assert (service.generation, reloads.succeeded, reloads.failed) == (4, 2, 1)
        task.cancel()

    try:
        firewall.start()
        asyncio.run(follow())
        assert same(POLICY.replace("id: web,", "id: web, description: seen,"), kept(url))
    finally:
        control.shutdown()
        firewall.stop()
        store.close()


def test_what_another_process_keeps_waits_for_a_confirmation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a change that is in force for a while; it is in force then, unless it is what was taken back."""
    monkeypatch.setattr("dataplane.control.service._LOOK_SECONDS", 0.01)
    ports: Any = NoPorts()
    firewall, control, store = filled(), ThreadPoolExecutor(1), SqliteStore(tmp_path / "policy.db")
    with store.keeping(firewall.policy, 100.0):
        pass
    service = Service(Operations(firewall, ports), store, control)
    taken_back = Confirm(command="confirm", revert=True)

    async def until(condition: Any) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.01)

    def keep_elsewhere(text: str) -> None:
        with closing(SqliteStore(tmp_path / "policy.db")) as other, other.keeping(Policy.parse(text), 200.0):
            pass

    async def follow() -> None:
        task = asyncio.create_task(service.follow_store())
        await service.do(lambda: service.change(SEEN.model_copy(update={"confirm": 3600.0})))
        keep_elsewhere(POLICY.replace("id: self,", "id: theirs,"))
        await until(lambda: service.reloads.failed)
        await service.do(lambda: service.confirm(taken_back))
        await until(lambda: "theirs" in firewall.policy.rules_by_id)
        assert service.reloads.failed == 1
        task.cancel()
        keep_elsewhere(POLICY)
        await service.answer(Reload(command="reload", confirm=3600.0))
        # What waits, and is taken back, is what is kept.
        task = asyncio.create_task(service.follow_store())
        await until(lambda: service.reloads.failed == 2)
        await service.do(lambda: service.confirm(taken_back))
        generation = service.generation
        await asyncio.sleep(0.1)
        assert (service.generation, "theirs" in firewall.policy.rules_by_id) == (generation, True)
        task.cancel()

    try:
        firewall.start()
        asyncio.run(follow())
    finally:
        control.shutdown()
        firewall.stop()
        store.close()


def test_a_document_of_another_place_is_warned_of(url: str, tmp_path: Path) -> None:
    """None of the instances that are kept is in it, as with the address of another fleet: told before all else."""
    other = tmp_path / "other.yaml"
    other.write_text("instances: [{id: elsewhere, addresses: [10.9.9.9]}]\n")
    told = policy("apply", str(other), "--store", url, "--dry-run")
    words = f"warning: none of the 2 instances that are kept there is in {other}: is it the policy of another"
    assert told.stderr.startswith(words)
    other.write_text("instances: [{id: elsewhere, addresses: [10.9.9.9]}, {id: a, addresses: [10.0.0.1]}]\n")
    assert not policy("apply", str(other), "--store", url, "--dry-run").stderr
