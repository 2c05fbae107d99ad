"""A standby is told of all connections by the firewall that it stands by for, over TLS with certificates of both."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from dataplane import Policy
from dataplane._core import lib
from dataplane.cli import app
from dataplane.cli.ctl.text import print_status
from dataplane.control.selection import Selection
from dataplane.live import metrics, state
from dataplane.live.firewall import Firewall
from dataplane.live.operations import Operations
from dataplane.live.replication import Replication, ReplicationError, ReplicationOptions
from dataplane.live.replication.messages import Batch, Kind, Message, MessageError, hello, read_message
from dataplane.live.replication.policies import Policies, _digest
from dataplane.live.replication.sender import LOOK_SECONDS, Sender
from dataplane.live.replication.standby import Standby

from .scene import POLICY, SECOND, filled, saved
from .served import NoPorts
from .test_moving import everything
from .test_state import facts

#: As POLICY, with other numbers for the same names.
TURNED = POLICY.replace("  - {id: a,", "  - {id: c, addresses: [10.0.0.7], security_groups: [sg]}\n  - {id: a,", 1)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate and its key for each of three hosts, in one file."""
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("one", "two", "stranger"):
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
                *(
                    "-subj",
                    f"/CN={name}",
                    "-days",
                    "2",
                    "-out",
                    f"{folder}/{name}.pem",
                    "-keyout",
                    f"{folder}/{name}.key",
                ),
            ],
            check=True,
            capture_output=True,
        )
        with (folder / f"{name}.pem").open("a") as file:
            file.write((folder / f"{name}.key").read_text())
    return folder


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as made:
        port: int = made.getsockname()[1]
        return port


@dataclass
class Pair:
    """Two firewalls, of which the first replicates to the second."""

    active: Firewall
    standby: Firewall
    sender: Sender
    taker: Standby
    operations: Operations
    restart: Callable[[], Coroutine[Any, Any, None]]

    async def until(self, condition: Callable[[], object], what: str) -> None:
        for _ in range(1000):
            if condition():
                return
            await asyncio.sleep(0.01)
        pytest.fail(what)

    async def look(self) -> None:
        """Waits until the active one has looked twice, and all that it told is taken."""
        for _ in range(2):
            number = max(self.sender._beats, default=self.sender.beats)
            await self.until(lambda n=number: self.sender.beats > n and not self.sender._beats, "no beat")  # type: ignore[misc]


@contextlib.asynccontextmanager
async def replicating(
    certificates: Path, *, policy: str = TURNED, standby_ca: str = "one", workers: int = 1
) -> AsyncIterator[Pair]:
    active, standby = filled(), Firewall(Policy.parse(policy), seed=2, workers=workers)
    controls = [ThreadPoolExecutor(1) for _ in range(2)]
    loop = asyncio.get_running_loop()
    dos = [lambda f, *a, c=control: loop.run_in_executor(c, f, *a) for control in controls]
    place = f"127.0.0.1:{free_port()}"
    there = ReplicationOptions(None, place, certificates / "two.pem", None, certificates / f"{standby_ca}.pem")
    here = ReplicationOptions(place, None, certificates / "one.pem", None, certificates / "two.pem")
    ports: Any = NoPorts()
    operations = Operations(active, ports)
    tasks: dict[str, asyncio.Task[None]] = {}
    for firewall in (active, standby):
        firewall.start()
    opened = Replication.open(there)
    sender, taker = Replication.open(here).begun(active, dos[0]), opened.begun(standby, dos[1])
    assert isinstance(sender, Sender)
    assert isinstance(taker, Standby)
    operations.replication = sender

    async def restart() -> None:
        """The standby's program begins again, with what it had."""
        nonlocal opened
        tasks["standby"].cancel()
        await asyncio.gather(tasks["standby"], return_exceptions=True)
        opened = Replication.open(there)
        again = opened.begun(standby, dos[1])
        assert isinstance(again, Standby)
        pair.taker = again
        tasks["standby"] = asyncio.create_task(again.run())

    pair = Pair(active, standby, sender, taker, operations, restart)
    tasks["standby"] = asyncio.create_task(taker.run())
    tasks["sender"] = asyncio.create_task(sender.run())
    try:
        yield pair
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        opened.__exit__()
        for control in controls:
            control.shutdown()
        for firewall in (active, standby):
            firewall.stop()


def test_the_standby_knows_what_the_other_knows(certificates: Path) -> None:
    """Whatever its own numbers are and however many workers it has; what comes later, what changes, what is deleted."""

    async def story() -> None:
        async with replicating(certificates, workers=2) as pair:
            await pair.look()
            assert facts(pair.standby) == facts(pair.active)
            assert everything(pair.standby, "a") == everything(pair.active, "a")
            new = saved(pair.active, "b", "10.0.0.2", "198.51.100.7", tcp_end=[7, 8], tcp_max_window=[9, 10])
            pair.active.restore([new], 0)
            closed = saved(pair.active, "a", "10.0.0.1", "192.0.2.9", state=lib.DP_CONN_TCP_TIME_WAIT)
            pair.active.restore([closed], 0, newer=True)
            await pair.look()
            assert facts(pair.standby) == facts(pair.active)
            (told,) = pair.standby.connections.filter(instance="a", remote="192.0.2.9", local_port=80)
            assert told.state == "TIME_WAIT"
            deleted, _ = pair.operations.delete(Selection(instance="a", protocol="tcp"))
            assert deleted == 2
            await pair.look()
            assert facts(pair.standby) == facts(pair.active)
            assert pair.taker.deletions == 2
            assert pair.sender.record() | {"lag": 0} == {
                "role": "active",
                "peer": pair.sender.name,
                "connected": True,
                "lag": 0,
                "same_policy": False,
                "updates": pair.sender.updates,
                "deletions": 2,
                "lost": 0,
                "resyncs": 1,
            }
            pair.operations.delete(Selection())
            await pair.look()
            assert len(pair.standby.connections) == 0

    asyncio.run(story())


def test_a_disconnected_connection_is_so_there(certificates: Path) -> None:
    """SPEC 5.3: cut by a change of the other's policy, with the time of the cut."""

    async def story() -> None:
        async with replicating(certificates, policy=POLICY) as pair:
            await pair.look()
            pair.active.apply({"update_rule": {"id": "web", "multiport": "81"}})
            await pair.look()
            cut = {(c.remote, c.disconnected) for c in pair.standby.connections if c.instance == "a"}
            assert cut == {(c.remote, c.disconnected) for c in pair.active.connections if c.instance == "a"}
            assert sum(c.disconnected for c in pair.standby.connections) == 2

    asyncio.run(story())


def test_what_the_standby_has_cut_stays_cut_while_the_other_has_not(certificates: Path) -> None:
    """SPEC 5.3: it takes over under the policy that it has. Where both have the same, it is told all once more."""
    change: dict[str, Any] = {"update_rule": {"id": "web", "multiport": "80-81"}}

    async def story() -> None:
        async with replicating(certificates, policy=POLICY) as pair:
            web = pair.standby.connections.filter(instance="a", remote="192.0.2.9", protocol="tcp", disconnected=False)
            await pair.look()
            await pair.until(lambda: pair.sender.same_policy and pair.taker.same_policy, "both have the same policy")
            pair.standby.apply(change)
            moved = saved(pair.active, "a", "10.0.0.1", "192.0.2.9", state=lib.DP_CONN_TCP_FIN_WAIT_INITIATOR)
            pair.active.restore([moved], 0, newer=True)
            await pair.until(lambda: pair.sender.same_policy is False and pair.taker.same_policy is False, "others")
            await pair.look()
            assert not len(web)
            assert pair.taker.received["there-already"]
            # The other way round: what came under the new policy is cut by the change there, and goes on here.
            pair.active.connections.flush()
            pair.active.apply(change)
            await pair.until(lambda: pair.sender.same_policy and pair.taker.same_policy, "both have the same policy")
            pair.active.apply({"update_rule": {"id": "web", "multiport": "80-82"}})
            pair.active.restore([saved(pair.active, "a", "10.0.0.1", "192.0.2.9")], 0)
            await pair.until(lambda: pair.sender.same_policy is False, "others")
            for _ in range(2):
                await pair.look()
            # It is at rest, and is not told again by itself.
            pair.standby.apply({"update_rule": {"id": "web", "multiport": "80-82"}})
            await pair.until(lambda: pair.sender.same_policy and pair.taker.same_policy, "both have the same policy")
            for _ in range(2):
                await pair.look()
            assert len(web) == 1

    asyncio.run(story())


def test_policies_that_differ_are_told_once(certificates: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In the log when it lasts, and that it is over."""
    firewall = Firewall(Policy.parse(POLICY), seed=1)
    policies = Policies(firewall, "the standby h:1")

    async def story() -> None:
        caplog.set_level("INFO")
        await policies.work_out()
        assert policies.digest
        assert [policies.hear(None), policies.hear(5), policies.hear(policies.digest)] == [None, None, True]
        assert policies.hear("other") is False
        assert not caplog.records
        policies._differ_since = time.monotonic() - 60
        assert policies.hear("other") is policies.hear("other") is False
        assert caplog.text.count("the standby h:1 has another policy than this firewall: load the same in both") == 1
        assert policies.hear(policies.digest)
        assert "the standby h:1 has the same policy as this firewall" in caplog.text
        firewall.apply({"update_group": {"id": "sg", "name": "another name"}})
        assert policies.digest is None

    asyncio.run(story())


def test_interfaces_make_no_other_policy() -> None:
    """The two hosts may call them otherwise."""
    here, there = (Policy.parse(POLICY.replace("{id: a,", f"{{id: a, interface: {name},")) for name in ("eth1", "ens3"))
    assert _digest(here) == _digest(there) != _digest(Policy.parse(TURNED))


def test_a_window_in_motion_is_wide_and_one_at_rest_is_kept(certificates: Path) -> None:
    """Packets leave a window behind by the time of a take-over (SPEC 4.4); once they rest it is taken as it is."""
    window = {"tcp_max_window": [501, 502], "tcp_end": [1000, 2000], "tcp_max_end": [1100, 2**32 - 1]}

    async def story() -> None:
        async with replicating(certificates) as pair:
            await pair.look()
            pair.taker._motion = type(pair.taker._motion)()

            def told(age_ns: int, at_ns: int, ends: tuple[int, int] = (1000, 2000)) -> list[int]:
                now = window | {"tcp_end": list(ends)}
                record = saved(pair.active, "b", "10.0.0.2", "198.51.100.7", age_ns=age_ns, **now)
                pair.taker.update(Batch.of(record, pair.active.names), at_ns)
                view = pair.standby.connections.filter(remote="198.51.100.7")
                (found,) = state.records_of(state.taken(pair.standby, [view]))
                assert [list(found.tcp_max_window), list(found.tcp_end)] == [[501, 502], list(ends)]
                return list(found.tcp_max_end)

            now = pair.active.now()
            assert told(0, now - 60 * SECOND) == [1100 + 2**29, 2**29 - 1]
            # What goes slowly will not have gone far: 16 times what it went since it was told before, at least 1 MiB.
            # But who only waits for a moment goes on as fast: each look counts half of what the one before did.
            end = 2000
            for look in range(1, 12):
                pair.taker._motion.look_ends()
                end += 200_000
                wider = [max(2 ** (29 - look), least) for least in (2**20, 3_200_000)]
                assert told(0, now + (look - 60) * SECOND, (1000, end)) == [1100 + wider[0], wider[1] - 1]
            pair.taker._motion.look_ends()
            assert told(0, now - 2 * SECOND, (2**31, end)) == [1100 + 2**29, 1_600_000 - 1]
            assert told(SECOND, now) == window["tcp_max_end"]

    asyncio.run(story())


def test_what_has_changed_is_told_until_it_has_come_to_rest(certificates: Path) -> None:
    """Once more than while it was in motion, and no more then."""

    async def story() -> None:
        async with replicating(certificates) as pair:
            for _ in range(3):
                await pair.look()
            before = pair.sender.updates
            pair.active.restore([saved(pair.active, "b", "10.0.0.2", "198.51.100.7")], 0)
            await pair.until(lambda: pair.sender.updates >= before + 2, "it is not told twice")
            await pair.look()
            after = pair.sender.updates
            await pair.look()
            assert pair.sender.updates == after <= before + 3

    asyncio.run(story())


def test_what_a_connection_has_met_here_last_is_not_undone(certificates: Path) -> None:
    """Traffic has gone over, and the other one still tells what it saw before."""

    async def story() -> None:
        async with replicating(certificates) as pair:
            await pair.look()
            old = saved(pair.active, "b", "10.0.0.2", "198.51.100.7", age_ns=SECOND)
            new = saved(pair.standby, "b", "10.0.0.2", "198.51.100.7", state=lib.DP_CONN_TCP_FIN_WAIT_INITIATOR)
            pair.standby.restore([new], 0)
            pair.taker.update(Batch.of(old, pair.active.names), pair.active.now())
            (kept,) = pair.standby.connections.filter(remote="198.51.100.7")
            assert kept.state == "FIN_WAIT"
            assert pair.taker.received["there-already"] >= 1

    asyncio.run(story())


def test_clocks_that_drift_apart_make_no_connection_older(certificates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SPEC 4.2: by 43 s in ten days, or as much at once when the other machine stood still, and a ping lives for 30."""

    async def story() -> None:
        async with replicating(certificates, policy=POLICY) as pair:
            await pair.look()
            real, later = Firewall.now, 0
            monkeypatch.setattr(pair.standby, "now", lambda: real() + later, raising=False)
            ping = {"protocol": 1, "origin": lib.DP_OUTBOUND, "state": lib.DP_CONN_ICMP_TWO_WAY}
            ages = []
            for look in range(40):
                # Ten seconds of here, of which the other clock lacks more and more.
                later += 10 * SECOND
                lacking = look * SECOND + (20 * SECOND if look > 20 else 0)
                record = saved(pair.active, "a", "10.0.0.1", "192.0.2.9", local_port=99, remote_port=8 | 0x8000, **ping)
                pair.taker.update(Batch.of(record, pair.active.names), real() + later - lacking)
                pings = pair.standby.connections.filter(instance="a", protocol="icmp")
                ages.append(max((30 - (c.expires_ns - real()) / SECOND for c in pings if c.icmp_id == 99), default=30))
                pings.flush()
            assert max(ages[:20]) < 13
            assert max(ages[-6:]) < 13

    asyncio.run(story())


def test_a_busy_machine_makes_looks_no_rarer(certificates: Path) -> None:
    """What waits for a processor takes none: else the standby would know the less the more there is to know."""

    async def story() -> None:
        async with replicating(certificates) as pair:
            do = pair.sender._do

            async def late(work: Callable[..., Any], *arguments: Any) -> Any:
                def waits() -> Any:
                    time.sleep(0.3)
                    return work(*arguments)

                return await do(waits)

            pair.sender._do = late
            await pair.look()
            before, began = pair.sender.beats, time.monotonic()
            await pair.until(lambda: pair.sender.beats >= before + 3, "it looks too seldom")
            assert time.monotonic() - began < 3 * (LOOK_SECONDS + 4 * 0.3) + 2
            # What is told is as old as the look that found it.
            assert pair.sender.lag is not None
            assert pair.sender.lag >= 2 * 0.3

    asyncio.run(story())


def test_who_is_not_in_the_policy_is_counted(certificates: Path) -> None:
    """And no number is given out for its name."""

    async def story() -> None:
        without = POLICY[: POLICY.index("  - {id: b,")]
        async with replicating(certificates, policy=without) as pair:
            zones = pair.standby.names.count()[0]
            await pair.look()
            assert {fact[0] for fact in facts(pair.standby)} == {"a"}
            assert pair.taker.received["no-instance"] >= 1
            assert pair.standby.names.count()[0] == zones

    asyncio.run(story())


def test_a_standby_that_comes_back_is_told_everything(certificates: Path) -> None:
    """And what was deleted meanwhile; where that was too much, it begins afresh, and the loss is counted."""

    async def story() -> None:
        async with replicating(certificates) as pair:
            await pair.look()
            await pair.restart()
            pair.operations.delete(Selection(instance="b"))
            await pair.until(lambda: pair.sender.resyncs == 2 and pair.taker.connected, "it does not come back")
            await pair.look()
            assert facts(pair.standby) == facts(pair.active)
            assert pair.sender.lost == 0
            await pair.restart()
            pair.sender._n_deleted = 65_536
            pair.operations.delete(Selection(protocol="udp"))
            assert pair.sender.lost > 1
            await pair.until(lambda: pair.sender.resyncs == 3 and pair.taker.connected, "it does not come back")
            await pair.look()
            assert facts(pair.standby) == facts(pair.active)
            assert "udp" not in {fact[2] for fact in facts(pair.standby)}

    asyncio.run(story())


def test_a_stranger_is_told_nothing_and_tells_nothing(certificates: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each side asks the other's certificate."""

    async def story() -> None:
        async with replicating(certificates, standby_ca="stranger") as pair:
            await pair.until(lambda: "TLS" in caplog.text or "ended the connection" in caplog.text, "nothing is said")
            assert len(pair.standby.connections) == 0
            assert not pair.taker.connected
            host, port = pair.sender._place
            bare = ssl.create_default_context()
            bare.check_hostname, bare.verify_mode = False, ssl.CERT_NONE
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(host, port, ssl=bare)
                writer.write(hello().encoded())
                assert await reader.read(100) == b""
                writer.transport.abort()
            assert pair.taker.resyncs == 0

    asyncio.run(story())


def test_the_last_one_that_comes_is_the_other_one(certificates: Path) -> None:
    """A firewall whose end was not heard has begun again. What it says and is none ends the connection."""

    async def story() -> None:
        async with replicating(certificates) as pair:
            await pair.look()
            before = facts(pair.standby)
            context = ReplicationOptions(
                pair.sender.name, None, certificates / "one.pem", None, certificates / "two.pem"
            ).context()
            for said in (
                b"",
                Message(Kind.BEAT, {"number": 1}).encoded(),
                Message(Kind.HELLO, {"form": 2, "record": 96}).encoded(),
                hello().encoded() + hello().encoded(),
                hello().encoded() + Message(Kind.UPDATE, {"instances": [], "rules": []}, b"\1" * 96).encoded(),
                hello().encoded() + Message(Kind.DELETE, {"instances": 5}).encoded(),
                hello().encoded() + Message(Kind.DELETE, {"instances": [[1e400, "a"]]}).encoded(),
                hello().encoded() + b"\xff" * 100,
            ):
                reader, writer = await asyncio.open_connection(*pair.sender._place, ssl=context)
                writer.write(said)
                if not said:
                    writer.transport.abort()
                while await reader.read(1000):
                    pass
                writer.transport.abort()
            await pair.until(lambda: pair.sender.connected and pair.taker.connected, "it does not come back")
            await pair.look()
            assert facts(pair.standby) == before

    asyncio.run(story())


def test_looks_that_are_far_apart_are_no_silence(certificates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where looking takes long it is done less often; the standby hears of the other one all the same."""
    monkeypatch.setattr("dataplane.live.replication.sender._LOOK_SHARE", 1e-6)
    monkeypatch.setattr("dataplane.live.replication.sender._BEAT_SECONDS", 0.05)

    async def story() -> None:
        async with replicating(certificates) as pair:
            await pair.until(lambda: pair.taker.connected, "it does not come")
            beats, heard = pair.sender.beats, pair.taker._heard
            await pair.until(lambda: pair.sender.beats > beats + 2, "it says nothing")
            await pair.until(lambda: pair.taker._heard != heard, "it is not heard")

    asyncio.run(story())


def test_strangers_take_no_place_from_the_other_one(certificates: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Connections that say nothing, speak no TLS, or no hello: few at a time, told in the log; the stream goes on."""

    async def story() -> None:
        async with replicating(certificates) as pair:
            await pair.look()
            place = pair.sender._place
            context = ReplicationOptions(
                pair.sender.name, None, certificates / "one.pem", None, certificates / "two.pem"
            ).context()
            known = [await asyncio.open_connection(*place, ssl=context) for _ in range(3)]
            silent = [await asyncio.open_connection(*place) for _ in range(40)]
            silent[-1][1].write(b"GET / HTTP/1.1\r\n\r\n")
            await pair.until(lambda: "is not let in as the firewall that replicates: TLS:" in caplog.text, "not told")
            # The longest open ones have given way.
            assert await silent[0][0].read(1) == b""
            with contextlib.suppress(OSError):
                assert await known[0][0].read(1) == b""
            await pair.look()
            assert "another connection takes its place" not in caplog.text
            for _, writer in known + silent:
                writer.transport.abort()

    asyncio.run(story())


def test_a_standby_that_answers_nonsense_is_left(certificates: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And is asked again: the firewall goes on replicating."""

    async def story() -> None:
        async with replicating(certificates) as pair:
            await pair.look()
            taken = pair.taker._take

            async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                writer.write(Message(Kind.BEAT, {"number": []}).encoded())
                await taken(reader, writer)

            pair.taker._take = answer  # type: ignore[method-assign]
            pair.taker._peer.cancel()  # type: ignore[union-attr]
            await pair.until(lambda: "the standby answers what was not asked" in caplog.text, "it is not told")
            pair.taker._take = taken  # type: ignore[method-assign]
            await pair.until(lambda: pair.sender.connected and pair.taker.connected, "it does not come back")
            await pair.look()

    asyncio.run(story())


@given(st.binary(max_size=200))
def test_no_bytes_are_more_than_a_message_or_none(data: bytes) -> None:
    async def story() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        with contextlib.suppress(MessageError, EOFError):
            message = await read_message(reader)
            message.batch()

    asyncio.run(story())


def test_lengths_are_bounded_before_they_are_read() -> None:
    async def story() -> None:
        for frame in ((2, 1 << 31, 0), (2, 0, 96 * 8193), (2, 0, 95), (9, 0, 0)):
            reader = asyncio.StreamReader()
            reader.feed_data(struct.pack(">BII", *frame))
            with pytest.raises(MessageError):
                await read_message(reader)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--replicate-to", "192.0.2.1:1"), "it needs --replication-cert and --replication-ca"),
        (("--replicate-to", "192.0.2.1:1", "--standby-listen", "192.0.2.1:1"), "leave one out"),
        (("--replication-ca", "x"), "are for --replicate-to, or --standby-listen"),
    ],
)
def test_options_that_cannot_be_meant(words: tuple[str, ...], told: str) -> None:
    done = CliRunner().invoke(app, ["run", "policy.yaml", *words])
    assert done.exit_code == 2
    assert told in done.stderr.replace("\n", " ")


def test_places_and_files_that_cannot_be_had(certificates: Path, tmp_path: Path) -> None:
    good, none = certificates / "one.pem", tmp_path / "none"
    (tmp_path / "text").write_text("no certificate")
    for peer, cert, ca, told in (
        ("here", good, good, "--replicate-to here: an address and a port are needed"),
        ("192.0.2.1:0", good, good, "an address and a port are needed"),
        ("192.0.2.1:1", none, good, f"--replication-cert {none}: No such file"),
        ("192.0.2.1:1", good, tmp_path / "text", "--replication-ca .*: it is not in PEM"),
    ):
        with pytest.raises(ReplicationError, match=told):
            Replication.open(ReplicationOptions(peer, None, cert, None, ca))
    with pytest.raises(ReplicationError, match="give an address of this host"):
        Replication.open(ReplicationOptions(None, "192.0.2.1:9478", good, None, good))


def test_it_is_seen_how_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    """`ctl status`, in a sentence for each side."""
    ports: Any = NoPorts()
    status = Operations(filled(), ports).status() | {
        "policy": "p",
        "generation": 1,
        "loaded": 0.0,
        "unsaved_changes": 0,
        "waiting": None,
        "held_back": False,
    }
    assert status["replication"] is None
    told = {
        "the standby h:1 is 0.2 s behind; 3 deletions lost": {"role": "active", "connected": True, "lost": 3},
        "the standby h:1 cannot be reached: it is tried again": {"role": "active", "connected": False, "lost": 0},
        "standby of h:1, heard 0.2 s ago; 7 tellings of connections taken": {"role": "standby", "connected": True},
        "standby and nobody replicates to here; 7 tellings": {"role": "standby", "connected": False},
    }
    for words, side in told.items():
        record = {"peer": "h:1", "lag": 0.2, "received": {"taken": 4, "updated": 3}} | side
        print_status(json.loads(json.dumps(status | {"replication": record})))
        assert words in capsys.readouterr().out


def test_metrics_have_both_sides() -> None:
    """By names that are there without a standby too, and have no values then."""

    class Side(SimpleNamespace):
        """How one of the two stands."""

        def __init__(self, role: str) -> None:
            super().__init__(
                role=role, connected=True, lag=0.5, same_policy=True, updates=9, received={"taken": 4, "updated": 3}
            )
            self.deletions, self.resyncs, self.lost = 5, 2, 1

    def values(side: Any) -> dict[tuple[str, ...], float]:
        operations: Any = SimpleNamespace(replication=side)
        found = [sample for family in metrics._replication(operations) for sample in family.samples]
        return {(s.name.removeprefix("dataplane_replication_"), *s.labels.values()): s.value for s in found}

    same = {("deletions_total",): 5, ("resyncs_total",): 2}
    assert values(None) == {}
    assert values(Side("active")) == same | {
        ("connected", "active"): 1,
        ("lag_seconds", "active"): 0.5,
        ("same_policy", "active"): 1,
        ("connections_total", "sent"): 9,
        ("lost_total",): 1,
    }
    assert values(Side("standby")) == same | {
        ("connected", "standby"): 1,
        ("lag_seconds", "standby"): 0.5,
        ("same_policy", "standby"): 1,
        ("connections_total", "taken"): 4,
        ("connections_total", "updated"): 3,
    }


def test_looking_is_often_enough() -> None:
    """A take-over within a second: what is told is not older than that."""
    assert 2 * LOOK_SECONDS < 1
