"""`--on`: what comes of captures and cases on a Dask cluster is what comes of them on one machine, to the byte."""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import distributed
import pytest
import typer
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.utils import wrpcap
from typer.testing import CliRunner

from dataplane.cli import app
from dataplane.cli.cluster import corpus as cluster_corpus
from dataplane.cli.cluster import workers as cluster_workers
from dataplane.cli.cluster.workers import Lost, Workers
from dataplane.cli.interrupt import Interrupt

ROOT = Path(__file__).parents[2]
POLICY = """
security_groups:
  - id: web
    security_group_rules:
      - {id: http, direction: ingress, protocol: tcp, multiport: "80,443"}
      - {id: out, direction: egress, protocol: udp}
instances:
  - {id: web-1, addresses: [192.168.0.11], security_groups: [web]}
  - {id: web-2, addresses: [192.168.0.12], security_groups: [web]}
  - {id: web-3, addresses: [192.168.0.13], security_groups: [web]}
"""
#: However small a capture is, it is cut; on one machine this says nothing.
CUT = "--cut=0"
NEW = POLICY.replace('"80,443"', '"443"')
CHANGES = "- {at: 2, update_rule: {id: http, multiport: '443'}}\n"
#: Seconds, and what they lead to: they are measured, and differ from run to run.
MEASURED = re.compile(r'("(?:elapsed|packets_per_second|seconds)": ?)[0-9.e+-]+|in [0-9.]+ s\b.*|: [0-9.]+ million.*')


def conversation(instance: int, client: int, start: float) -> Iterator[Any]:
    """A connection that is answered, a datagram, and a knock at a port that is shut."""
    macs = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    there, here = IP(src=f"10.0.{instance}.{client}", dst=f"192.168.0.{instance}"), None
    here = IP(src=there.dst, dst=there.src)
    port = 40000 + client
    packets = [
        there / TCP(sport=port, dport=80, flags="S", seq=100),
        here / TCP(sport=80, dport=port, flags="SA", seq=500, ack=101),
        there / TCP(sport=port, dport=80, flags="A", seq=101, ack=501),
        here / UDP(sport=5000, dport=53),
        there / TCP(sport=port, dport=22, flags="S", seq=7),
        there / TCP(sport=port, dport=80, flags="A", seq=101, ack=501),
    ]
    for number, packet in enumerate(packets):
        frame = macs / packet
        frame.time = start + number * 0.7
        yield frame


def frames(clients: int) -> list[Any]:
    made = [
        frame
        for client in range(1, clients + 1)
        for instance in (11, 12, 13)
        for frame in conversation(instance, client, 1_700_000_000 + client / 16 + instance / 1000)
    ]
    return sorted(made, key=lambda frame: frame.time)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy and another one, changes, expectations, cases, and a corpus of captures, one of which is cut short."""
    folder = tmp_path_factory.mktemp("cluster")
    for name, text in (("policy.yaml", POLICY), ("new.yaml", NEW), ("changes.yaml", CHANGES)):
        (folder / name).write_text(text)
    (folder / "expect.yaml").write_text("- {packet: 1, verdict: allow}\n- {port: 22, count: 1}\n")
    corpus = folder / "corpus"
    corpus.mkdir()
    for clients in (1, 2, 3, 5):
        wrpcap(str(corpus / f"{clients}.pcap"), frames(clients))
    (corpus / "cut.pcap").write_bytes((corpus / "3.pcap").read_bytes()[:-5])
    (corpus / "wrong.pcap").write_bytes(b"\xa1\xb2\xc3\xd4" + bytes(20))
    cases = folder / "cases"
    cases.mkdir()
    for number, port in enumerate((80, 443, 22, 80)):
        line = f"tcp 10.0.0.1:40000 > 192.168.0.11:{port} S => allow"
        (cases / f"{number}.test.yaml").write_text(f"policy: ../policy.yaml\npackets: ['{line}']\n")
    return folder


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """A cluster of two processes, which commands are told of by its address."""
    import logging

    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL,
    ) as cluster:
        yield cluster.scheduler_address


def run(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dataplane", *words]
    return subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def both(folder: Path, scheduler: str, *words: str) -> tuple[subprocess.CompletedProcess[str], ...]:
    """A command here and there, what they print and write compared; `out/` is a folder of each."""
    told = []
    for where, on in (("here", ()), ("there", ("--on", scheduler))):
        (folder / where).mkdir(exist_ok=True)
        for old in (folder / where).iterdir():
            old.unlink()
        told.append(run(folder, *(word.replace("out/", f"{where}/") for word in words), *on))
    here, there = told
    assert there.returncode == here.returncode
    assert MEASURED.sub(r"\1", there.stdout).split(",") == MEASURED.sub(r"\1", here.stdout).split(",")
    assert "Traceback" not in there.stderr
    shown, line = re.subn(r"^\d+ workers?; dashboard: http://\S+/status\n", "", there.stderr, flags=re.M)
    assert line == 1
    assert MEASURED.sub(r"\1", shown) == MEASURED.sub(r"\1", here.stderr)
    written = [{path.name: path.read_bytes() for path in (folder / where).iterdir()} for where in ("here", "there")]
    assert written[1] == written[0]
    return here, there


def test_each_capture(folder: Path, scheduler: str) -> None:
    """Rows, sentences, exit status and every kind of file, of whole captures and of broken ones (SPEC 7)."""
    outputs = [f"--{option}=out/{{}}.{ending}" for option, ending in (
        ("verdicts", "jsonl"), ("flows", "csv"), ("annotate", "a.pcapng"), ("denied", "d.pcapng"), ("coverage", "json")
    )]  # fmt: skip
    words = ("replay", "policy.yaml", "corpus", "--each", "--changes=changes.yaml", "--expect=expect.yaml")
    here, _ = both(folder, scheduler, *words, *outputs, "--json")
    assert here.returncode == 3
    told = json.loads(here.stdout)
    assert told["total"]["faults"] == 2
    assert told["total"]["failed_expectations"] == 5 + 2
    assert len(list((folder / "there").iterdir())) == 6 * len(outputs)


def test_records_of_all_captures_are_one_table(folder: Path, scheduler: str) -> None:
    import pyarrow.parquet as pq

    words = ("--verdicts=out/all.parquet", "--flows=out/flows.PARQUET", "--coverage=-")
    here, _ = both(folder, scheduler, "replay", "policy.yaml", "corpus", "--each", *words)
    assert here.stdout.count('"never_hit"') == 3 * 6
    assert "total of 6" in here.stderr
    table = pq.read_table(folder / "there/all.parquet")
    of_each = [
        pq.read_table(folder / "there/all.parquet", filters=[("capture", "=", f"corpus/{n}.pcap")]) for n in "12"
    ]
    assert [part.num_rows for part in of_each] == [18, 36]
    assert table.num_rows == 18 * (1 + 2 + 3 + 5) + 18 * 3 - 1
    assert pq.read_table(folder / "there/flows.PARQUET").num_rows > 0


def test_captures_that_are_merged(folder: Path, scheduler: str) -> None:
    words = ("replay", "policy.yaml", "corpus/2.pcap", "corpus/5.pcap", "--changes=changes.yaml")
    here, _ = both(folder, scheduler, *words, "--verdicts=out/v.csv", "--flows=out/f.jsonl", "--json")
    assert json.loads(here.stdout)["connections"]["disconnected"] > 0


def test_diff(folder: Path, scheduler: str) -> None:
    """SPEC 8.4."""
    here, _ = both(folder, scheduler, "diff", "policy.yaml", "new.yaml", "corpus", "--json")
    assert here.returncode == 3
    assert json.loads(here.stdout)["disconnected"]["total"] > 0


def handed_out(scheduler: str, name: str) -> int:
    """How much work of a name workers were given so far."""

    def count(dask_scheduler: Any) -> int:
        return len({key for key, *_ in dask_scheduler.transition_log if str(key).startswith(f"{name}-")})

    with distributed.Client(scheduler, set_as_default=False) as client:
        return int(client.run_on_scheduler(count))


@pytest.mark.parametrize(
    ("words", "work"),
    [
        (("replay", "policy.yaml", "corpus/2.pcap", "corpus/5.pcap", "--verdicts=out/v.parquet"), "part"),
        (("diff", "policy.yaml", "new.yaml", "corpus/2.pcap", "corpus/5.pcap", "--json"), "compared_part"),
    ],
)
def test_captures_are_cut_by_instance(folder: Path, scheduler: str, words: Sequence[str], work: str) -> None:
    """SPEC 7, 8.4: verdicts, records and differences are those of the whole."""
    before = handed_out(scheduler, work)
    here, _ = both(folder, scheduler, *words, "--changes=changes.yaml", CUT)
    assert handed_out(scheduler, work) == before + 2
    assert here.returncode == (words[0] == "diff")


def test_cases(folder: Path, scheduler: str) -> None:
    """SPEC 8.6; behind one that fails, -x begins no other, and what is left out is counted up to it."""
    here, _ = both(folder, scheduler, "test", "cases", "-x", "-k", "0.", "-k", "2.", "-k", "3.")
    assert here.returncode == 1
    assert "1 passed, 1 failed, 1 left out in" in here.stdout
    assert "why packet 1" in here.stdout


class Undisturbed(Interrupt):
    """Nobody presses Ctrl-C."""

    def ask(self, stop: Any) -> int:
        return -1


def in_time(workers: Workers, work: Any, items: Sequence[Any]) -> list[tuple[int, Any]]:
    """What comes of work, asked for in a thread that nobody waits for: what never comes fails the test."""
    done: list[tuple[int, Any]] = []
    shared = workers.shared(None)
    asking = threading.Thread(
        target=lambda: done.extend(workers.done(work, shared, items, Undisturbed(), in_order=True)), daemon=True
    )
    asking.start()
    asking.join(60)
    return done


def test_a_scheduler_that_goes_away(
    scheduler: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where all that it was given is cancelled: what was judged by then is told, and that the rest is missing."""
    fetch, interrupt = cluster_workers._outcome, Undisturbed()

    def gone_later(future: Any) -> Any:
        monkeypatch.setattr(distributed.Future, "result", cancelled)
        return fetch(future)

    def cancelled(*_: Any, **__: Any) -> Any:
        raise distributed.CancelledError

    with ExitStack() as stack:
        workers = Workers(stack, scheduler, interrupt)
        done = workers.done(lambda _, item: item, workers.shared(None), range(100), interrupt, in_order=True)
        assert next(done) == (0, 0)
        monkeypatch.setattr(cluster_workers, "_outcome", gone_later)
        assert len(list(done)) < 99
    assert interrupt.status == 2
    assert capsys.readouterr().err.endswith(
        f"--on {scheduler}: its scheduler is gone, and what was not judged by then is missing: begin again\n"
    )


def test_a_scheduler_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cluster_workers, "_PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as stack:
        on = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(typer.Exit) as ended:
            Workers(stack, on, Undisturbed())
    assert ended.value.exit_code == 2
    assert capsys.readouterr().err == f"--on {on}: no cluster is to be had there: its scheduler does not answer\n"


@pytest.mark.parametrize(("name", "other"), [("dataplane", "9.9"), ("Python", "2.7"), ("dask", "1999.1")])
def test_workers_of_another_version(
    scheduler: str, name: str, other: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What they have has to be what is here."""
    theirs = cluster_workers.versions()
    run_there = distributed.Client.run
    monkeypatch.setattr(distributed.Client, "run", lambda client, work: {"one": theirs | {name: other}, "two": theirs})
    with ExitStack() as stack, pytest.raises(typer.Exit) as ended:
        Workers(stack, scheduler, Undisturbed())
    monkeypatch.setattr(distributed.Client, "run", run_there)
    assert ended.value.exit_code == 2
    told = f"--on {scheduler}: its workers have {name} {other}: install {theirs[name]} there, as here\n"
    assert capsys.readouterr().err == told


def test_a_worker_that_is_killed_loses_nothing(folder: Path, scheduler: str) -> None:
    """It dies with a piece of work in its hands, which another one does."""

    def killed_once(_shared: None, item: tuple[str, int]) -> int:
        mark = Path(item[0])
        if item[1] == 3 and not mark.exists():
            mark.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return item[1]

    mark = folder / "killed"
    with ExitStack() as stack:
        workers = Workers(stack, scheduler, Undisturbed())
        assert in_time(workers, killed_once, [(str(mark), n) for n in range(8)]) == [(n, n) for n in range(8)]
        assert mark.exists()
        refused = dict(in_time(workers, lambda _, item: 1 / item, range(2)))
        assert refused[0] == Lost("a worker could not judge it: ZeroDivisionError: division by zero")
        assert refused[1] == 1


def test_what_cannot_be_fetched_is_made_again(scheduler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the worker died that had made it; nothing is lost, nor told twice."""
    asked: list[str] = []
    fetch = cluster_workers._outcome

    def lost_at_first(future: Any) -> Any:
        asked.append(future.key)
        if len(asked) <= 4:
            raise TimeoutError
        return fetch(future)

    monkeypatch.setattr(cluster_workers, "_outcome", lost_at_first)
    with ExitStack() as stack:
        done = in_time(Workers(stack, scheduler, Undisturbed()), lambda _, item: item * item, range(6))
    assert done == [(n, n * n) for n in range(6)]
    # Each of the lost ones was asked for by another name.
    assert len(asked) == len(set(asked)) == 10


def living(group: int) -> list[str]:
    """The processes of a group, without the dead, whom somebody else reaps."""
    listed = subprocess.run(["ps", "-eo", "pgid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    rows = [(line.split(), line) for line in listed.splitlines()]
    return [line for words, line in rows if words[0] == str(group) and words[1][0] != "Z"]


def test_ctrl_c(folder: Path) -> None:
    """As at a terminal, which sends it to workers too: the command ends with its status, and nobody is left."""
    (folder / "good.parquet").write_text("good")
    many = ["corpus/5.pcap"] * 3000
    words = ["replay", "policy.yaml", *many, "--each", "--verdicts=good.parquet", "--on=dask"]
    with subprocess.Popen(
        [sys.executable, "-m", "dataplane", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        start_new_session=True,
    ) as command:
        assert command.stderr is not None
        first = command.stderr.readline()
        os.killpg(command.pid, signal.SIGINT)
        _, errors = command.communicate(timeout=120)
    assert "dashboard: http://127.0.0.1:" in first
    assert command.returncode == 128 + signal.SIGINT
    assert errors == ""
    until = time.monotonic() + 60
    while (left := living(command.pid)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not left
    assert (folder / "good.parquet").read_text() == "good"
    assert not list(folder.glob(".good.parquet*"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--on", "yarn"), "--on yarn: write dask for processes of this machine, or a scheduler such as tcp://"),
        (("--on", "dask", "--follow"), "--on and --follow do not go together"),
        (("-", "--on", "dask"), "-: --on needs captures that workers can read, and read again: name a file"),
        (("--each", "--verdicts", "v.csv"), "v.csv: --verdicts is a file for each capture with --each: write {} where "
         "its name goes, or a file that ends in .parquet, which takes all"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant(folder: Path, words: tuple[str, ...], told: str) -> None:
    done = CliRunner().invoke(app, ["replay", str(folder / "policy.yaml"), str(folder / "corpus/1.pcap"), *words])
    gc.enable()
    assert done.exit_code == 2
    assert done.stderr.startswith(told)


def test_what_is_missing_is_said(folder: Path) -> None:
    """Without the extra; where no scheduler is."""
    (folder / "hidden/distributed").mkdir(parents=True)
    (folder / "hidden/distributed/__init__.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'distributed'\", name='distributed')\n"
    )
    command = [sys.executable, "-m", "dataplane", "replay", "policy.yaml", "corpus/1.pcap", "--on", "dask"]
    environment = os.environ | {"PYTHONPATH": f"{folder}/hidden:{ROOT}"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("--on needs distributed: ")
    assert "[dask]' brings it" in done.stderr


def test_a_capture_that_kills_every_worker(folder: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its row, and a sentence that names it; the others are judged."""
    judged = cluster_corpus.judged

    def deadly(shared: Any, captures: Sequence[str]) -> Any:
        if captures[0].endswith("3.pcap"):
            os.kill(os.getpid(), signal.SIGKILL)
        return judged(shared, captures)

    def allow(dask_scheduler: Any, deaths: int) -> int:
        before, dask_scheduler.allowed_failures = dask_scheduler.allowed_failures, deaths
        return int(before)

    monkeypatch.setattr(cluster_corpus, "judged", deadly)
    monkeypatch.setattr("dataplane.cli.replay.leave", sys.exit)
    monkeypatch.chdir(folder)
    with distributed.Client(scheduler, set_as_default=False) as client:
        before = client.run_on_scheduler(allow, deaths=1)
        words = [
            "policy.yaml",
            "corpus/2.pcap",
            "corpus/3.pcap",
            "corpus/5.pcap",
            "--each",
            "--json",
            "--on",
            scheduler,
        ]
        done = CliRunner().invoke(app, ["replay", *words])
        gc.enable()
        client.run_on_scheduler(allow, deaths=before)
    assert done.exit_code == 3
    assert [row.get("packets") for row in json.loads(done.stdout)["captures"]] == [36, None, 90]
    told = (
        "corpus/3.pcap: 2 workers died while judging it, and it was given up: it may need more memory than a worker has"
    )
    assert told in done.stderr
