"""What people see has no control, bidi or line-separator characters of names in it, and no markup either (SPEC 7)."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import logging
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from dataplane.cli.ctl import policy_tables
from dataplane.cli.ctl import text as ctl_text
from dataplane.cli.ctl.text import print_counters, print_stations, print_status
from dataplane.cli.denied_flows import COLUMNS
from dataplane.cli.summary import titled_table
from dataplane.live.process.log import JsonFormatter, TextFormatter
from dataplane.policy import Policy
from dataplane.policy.write import as_yaml, document
from dataplane.terminal import console, most_of, print_table, printable, printable_lines, wrapped

ROOT = Path(__file__).parents[2]
#: C1 controls, marks and overrides of direction, line separators: what an id may hold.
SIGNS = "\x85\x9b31m\u061c\u200e\u200f\u2028\u2029" + "".join(
    map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A)))
)
ID = f"a{SIGNS}[red]z[/red]"
#: A file's name may have C0 controls too.
NAME = f"b\x1b[31m\r\n\x07{SIGNS}z"
FORBIDDEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
POLICY = {
    "security_groups": [
        {"id": ID, "name": ID, "description": NAME, "security_group_rules": [{"id": f"r{ID}", "direction": "ingress"}]}
    ],
    "instances": [{"id": f"i{ID}", "addresses": ["192.0.2.1"], "security_groups": [ID]}],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / NAME
    made.mkdir()
    (made / "policy.yaml").write_text(json.dumps(POLICY))
    (made / "bad.yaml").write_text(json.dumps(POLICY | {"instances": [{"id": ID, "addresses": [ID]}], ID: ID}))
    return made


def test_a_text_names_some_of_many() -> None:
    """A change may cut connections of thousands of instances: those with most are named, the others counted."""
    few = {f"i{n}": n for n in range(1, 21)}
    assert most_of(few) == list(few.items())
    many = most_of({f"i{n}": n for n in range(1, 4097)})
    assert many[:2] == [("i4096", 4096), ("i4095", 4095)]
    assert many[20:] == [("4,076 more", sum(range(1, 4077)))]


def ran(*command: str, status: int) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dataplane", *command], cwd=ROOT, capture_output=True, check=False, timeout=60
    )
    assert done.returncode == status, done
    return (done.stdout + done.stderr).decode()


@pytest.mark.parametrize(
    ("command", "file", "status", "seen"),
    [
        (("check",), "policy.yaml", 0, r"\u202e\u2066\u2067\u2068\u2069[red]z[/red]"),
        (("check",), "bad.yaml", 2, r"[red]z[/red]"),
        (("check",), "none.yaml", 2, r"b\x1b[31m\r\n\x07\x85\x9b31m"),
        (("check", "--json"), "policy.yaml", 0, r"\u202e\u2066"),
        (("replay",), "none.yaml", 2, r"b\x1b[31m\r\n\x07\x85\x9b31m"),
        (("ctl", "--socket"), "none", 1, r"b\x1b[31m\r\n\x07\x85\x9b31m"),
    ],
)
def test_names_are_escaped_by_every_command(
    folder: Path, command: tuple[str, ...], file: str, status: int, seen: str
) -> None:
    more = {"replay": [str(folder / "none.pcap")], "ctl": ["status"]}.get(command[0], [])
    text = ran(*command, str(folder / file), *more, status=status)
    assert seen in text
    assert not FORBIDDEN.search(text)


def test_usage_errors_of_the_command_line_are_escaped() -> None:
    """They are printed by the library that reads the arguments."""
    assert not FORBIDDEN.search(ran(f"none{SIGNS}\x1b]0;title\x07", status=2))


def test_a_terminal_gets_colours_and_no_more(folder: Path) -> None:
    """The only escapes are those that set colours; `[red]` is text."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "dataplane", "check", str(folder / "policy.yaml")]
    with subprocess.Popen(command, stdout=slave, stderr=slave, cwd=ROOT, env={**os.environ, "TERM": "xterm"}) as done:
        os.close(slave)
        said = b""
        try:
            while data := os.read(master, 65536):
                said += data
        except OSError:
            pass
    os.close(master)
    assert done.returncode == 0
    text = said.decode().replace("\r\n", "\n")
    assert "\x1b[1m" in text
    assert "[red]z[/red]" in text
    assert not FORBIDDEN.search(re.sub(r"\x1b\[[0-9;]*m", "", text))


def test_a_pipe_gets_whole_rows(tmp_path: Path) -> None:
    """Lines are wrapped at a terminal only, whatever its width is said to be."""
    name = "g" * 200
    rule = {
        "id": "r",
        "direction": "ingress",
        "protocol": "tcp",
        "multiport": "22,23",
        "remote_ip_prefix": "10.0.0.0/8",
    }
    policy = {"security_groups": [{"id": name, "security_group_rules": [rule]}]}
    (tmp_path / "policy.yaml").write_text(json.dumps(policy))
    command = [sys.executable, "-m", "dataplane", "check", str(tmp_path / "policy.yaml")]
    env = {**os.environ, "COLUMNS": "80"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True, timeout=60)
    (row,) = (line for line in done.stdout.splitlines() if "/120" in line)
    assert row.split() == [name, "ingress", "IPv4", "1/120"]


def test_a_console_measures_what_it_shows() -> None:
    """Columns stand straight whatever is in them."""
    out = io.StringIO()
    table = Table("one", "two")
    table.add_row(ID, "x")
    table.add_row(Text(ID), "[b]y[/b]")
    console(out, width=300).print(table)
    lines = out.getvalue().splitlines()
    assert len({len(line) for line in lines}) == 1
    assert not FORBIDDEN.search(out.getvalue())
    assert "[b]y[/b]" in out.getvalue()


def test_answers_of_a_firewall_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    """`ctl` prints what another process says; here as its answers are."""
    port = {"port": ID, "kind": "tap", "instance": ID, "load_balancer": None, "error": None}
    status = dict.fromkeys(("version", "policy", "unfiltered_because", "io_uring_error"), ID)
    status |= dict.fromkeys(("uptime", "loaded", "unsaved_changes", "instances", "security_groups", "rules"), 1)
    status |= dict.fromkeys(("connections", "connections_limit", "early_drops", "pid", "workers", "generation"), 1)
    print_status(status | {"refused_system_calls": 0, "io_uring": True, "ports": [port], "missing_interfaces": [ID]})
    print_stations([{"mac": "02:00:00:00:00:01", "port": ID, "vlan": 0, "fixed": True, "age": 1}])
    empty = {name: [] for name in ("checks", "ports", "denied_flows")}
    rule = {"rule": ID, "security_group": ID, "hits": 1, "packets": 1, "bytes": 1}
    print_counters(empty | {"verdicts": {}, "causes": {}, "connections": {}, "rules": [rule]})
    shown = capsys.readouterr().out
    assert shown.count("[red]z[/red]") == 11
    assert not FORBIDDEN.search(shown)


def test_a_log_record_is_one_line() -> None:
    record = logging.LogRecord("x", logging.WARNING, "", 0, "interface %s", (NAME,), None)
    record.__dict__["given"] = NAME
    for in_journal in (False, True):
        line = TextFormatter(in_journal=in_journal).format(record)
        assert "\n" not in line
        assert not FORBIDDEN.search(line)
    assert JsonFormatter().format(record).isascii()


def test_a_log_line_has_the_time_and_in_the_journal_the_priority() -> None:
    """RFC 3339, with the offset; sd-daemon(3)."""
    record = logging.LogRecord("x", logging.ERROR, "", 0, "broken", (), None)
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d error: broken", TextFormatter().format(record)
    )
    assert TextFormatter(in_journal=True).format(record) == "<3>error: broken"
    try:
        raise ValueError(NAME)
    except ValueError:
        record.exc_info = sys.exc_info()
    assert all(line.startswith("<3>") for line in TextFormatter(in_journal=True).format(record).split("\n"))


def test_the_journal_is_known_by_its_stream(tmp_path: Path) -> None:
    """systemd.exec(5), JOURNAL_STREAM: device and inode of the stream that it connected."""
    program = "import sys; from dataplane.live.process.log import leads_to_journal; print(leads_to_journal(sys.stderr))"
    found = []
    with (tmp_path / "journal").open("w") as stream:
        place = os.fstat(stream.fileno())
        for inode in (place.st_ino, place.st_ino + 1):
            environment = {**os.environ, "JOURNAL_STREAM": f"{place.st_dev}:{inode}"}
            command = [sys.executable, "-c", program]
            done = subprocess.run(
                command, cwd=ROOT, env=environment, stderr=stream, stdout=subprocess.PIPE, check=True, text=True
            )
            found.append(done.stdout.strip())
    assert found == ["True", "False"]


def test_a_policy_is_written_without_them_and_reads_back() -> None:
    policy = Policy.parse(json.dumps(POLICY))
    text = as_yaml(document(policy))
    assert not FORBIDDEN.search(text)
    assert Policy.parse(text) == policy


@pytest.mark.parametrize("text", ["plain", "日本語 ünï", "", "two\nlines"])
def test_what_prints_stays_as_it_is(text: str) -> None:
    assert printable_lines(text) == text


def test_escaping_twice_is_escaping_once() -> None:
    """Text may pass several of the places that escape."""
    assert printable(printable(NAME)) == printable(NAME)
    assert printable("a\ud800") == r"a\ud800"


def test_a_table_of_ctl_is_as_wide_as_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts are folded, numbers never; where no terminal is, rows stay whole."""
    flow = "tcp 2001:db8:aaaa:bbbb::200 > 2001:db8:aaaa:bbbb::10 port 22"
    head = ("instance", "direction", "flow", "reason", "packets", "bytes")
    row = ("web-1", "ingress", flow, "no-rule-matched")
    for width, lines in ((80, None), (1 << 16, 1)):
        monkeypatch.setattr(ctl_text, "console", lambda stream, width=width: console(stream, width=width))
        ctl_text.table("Flows denied most", head, [(*row, 1_234_567, 123_456_789)])
        _, _, _, *told = capsys.readouterr().out.splitlines()
        assert max(map(len, told)) <= width
        assert lines in (None, len(told))
        assert "1,234,567  123,456,789" in told[0]
        # Nothing is lost by folding.
        assert sorted("".join(told).replace(" ", "")) == sorted(
            "".join((*row, "1,234,567123,456,789")).replace(" ", "")
        )


@pytest.mark.parametrize("title", ["", "Flows denied most"])
def test_a_table_cuts_no_word_while_a_text_can_be_folded(title: str) -> None:
    """At 80 columns; ids have no bound, and give way where words and numbers do not."""
    rows = [
        ("web-1", "ingress", "tcp 173.192.82.194 > 10.0.0.1 port 55181", "invalid, tcp-no-connection", "10", "600"),
        ("x" * 40, "egress", "icmp 10.0.0.1 > 8.8.8.8", "no-rule-matched", "1,234", "67,890"),
    ]
    for width, lines in ((80, None), (300, len(rows))):
        out = io.StringIO()
        table = titled_table(title, *((name, "left") for name in COLUMNS[:4]), ("packets", "right"), ("bytes", "right"))
        for row in rows:
            table.add_row(*row)
        print_table(console(out, width=width), table)
        told = out.getvalue()
        assert max(map(cell_len, told.splitlines())) <= width
        words = {word for row in (COLUMNS, *rows) for cell in row for word in cell.split() if len(word) < 25}
        assert words <= set(told.split())
        body = told.rpartition("─")[2].split("\n")
        assert lines in (None, sum(map(bool, map(str.strip, body))))
    assert "x" * 40 in told


@pytest.mark.parametrize("width", [80, 200])
def test_a_list_of_rules_can_be_read(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A column for each field where there is room, else a sentence."""
    rule = {
        "id": "A01",
        "security_group": "web-servers",
        "direction": "ingress",
        "ethertype": "IPv4",
        "protocol": "tcp",
    }
    rule |= {"multiport": "80,443", "remote_ip_prefix": "172.16.0.0/24", "action": "allow", "priority": 7}
    rule |= {"enabled": False, "last_hit": 0.0}
    monkeypatch.setattr(policy_tables, "terminal_columns", lambda: width)
    monkeypatch.setattr(ctl_text, "console", lambda stream: console(stream, width=width))
    policy_tables.print_rules([rule])
    told = capsys.readouterr().out
    words = "A01 web-servers allow (disabled) ingress IPv4 tcp 80,443 172.16.0.0/24 7 1970-01-01"
    assert set(words.split()) <= {word.removesuffix(",") for word in told.split()}
    assert max(map(len, told.splitlines())) <= width
    assert ("priority" in told.splitlines()[2]) == (width == 200)


def test_lines_are_wrapped_behind_their_indent() -> None:
    assert wrapped("  " + "word " * 6, 20) == ["  word word word", "    word word word"]
    assert wrapped("short", 20) == ["short"]
    assert wrapped("a" * 30, 20) == ["a" * 30]


def test_what_a_failed_case_tells_is_coloured_and_wrapped_at_a_terminal(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dataplane"]
    subprocess.run([*command, "new", str(tmp_path), "--preset", "ssh"], check=True, cwd=ROOT, capture_output=True)
    policy = tmp_path / "policy.yaml"
    policy.write_text(policy.read_text().replace("'22'", "'23'"))
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    with open(slave, "wb", closefd=True) as terminal, open(master, "rb", buffering=0) as shown:
        done = subprocess.Popen(
            [*command, "test", "."],
            cwd=tmp_path,
            stdout=terminal,
            env=environment | {"TERM": "xterm", "PYTHONPATH": str(ROOT)},
        )
        terminal.close()
        told = b""
        with contextlib.suppress(OSError):
            while part := shown.read(4096):
                told += part
        assert done.wait(60) == 1
    lines = told.decode().replace("\r", "").splitlines()
    assert lines[0].startswith("\x1b[31mfailed\x1b[0m ")
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    assert max(map(len, plain)) <= 80
    assert not any("\\x1b" in line for line in plain)
    assert any("near miss" in line for line in plain)


def colored(*words: str, environ: dict[str, str], terminal: bool) -> bool:
    """Whether the summary of a replay has escape sequences in it."""
    command = [sys.executable, "-m", "dataplane", *words]
    env = {"PATH": os.environ["PATH"], "TERM": "xterm-256color", **environ}
    if not terminal:
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, check=True, timeout=60)
        return b"\x1b[" in done.stdout
    reader, writer = pty.openpty()
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=writer, stdin=subprocess.DEVNULL)
    os.close(writer)
    seen = b""
    with contextlib.suppress(OSError), open(reader, "rb", buffering=0) as output:
        while data := output.read(4096):
            seen += data
    assert process.wait() == 0
    assert b"verdict" in seen
    return b"\x1b[" in seen


def shown(*words: str, columns: int) -> str:
    """What a command prints at a terminal of so many columns, without colours."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    command = [sys.executable, "-m", "dataplane", *words]
    process = subprocess.Popen(command, cwd=ROOT, env={**environment, "TERM": "xterm"}, stdout=slave, stderr=slave)
    os.close(slave)
    said = b""
    with contextlib.suppress(OSError), open(master, "rb", buffering=0) as output:
        while data := output.read(4096):
            said += data
    process.wait()
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.decode().replace("\r\n", "\n"))


@pytest.mark.parametrize(
    "words",
    [
        ("replay", "examples/figure-1/policy.yaml", "pcaps/figure-1.pcap", "pcaps/figure-2.pcap", "--each"),
        ("replay", "examples/figure-1/policy.yaml", "pcaps/figure-1.pcap"),
        ("replay", "examples/icmp-30s/policy.yaml", "pcaps/figure-2.pcap"),
        ("check", "examples/figure-5/policy.yaml"),
        ("check", "examples/figure-2/policy.yaml", "--lint"),
        ("new", "--preset", "list"),
        ("ctl", "--socket", "a-socket-that-is-not-there", "status"),
    ],
)
def test_lines_end_where_the_terminal_does(words: tuple[str, ...]) -> None:
    """At words; and no colour is printed as its escape sequence, also behind a bar that tells how far it is."""
    text = shown(*words, columns=80)
    # What a bar draws is drawn over.
    lines = [line.rpartition("\r")[2].rstrip() for line in text.split("\n")]
    assert max(map(len, lines)) <= 80, lines
    assert "\\x1b" not in text
    wide = [line.rpartition("\r")[2].rstrip() for line in shown(*words, columns=200).split("\n")]
    assert max(map(len, wide)) <= 200
    assert len(wide) <= len(lines)
    if "--lint" in words:
        assert max(map(len, wide)) > 80


@pytest.mark.parametrize("options", [(), ("--each", "--verdicts", "one-for-all.jsonl")])
def test_a_refusal_stands_on_a_line_of_its_own(options: tuple[str, ...]) -> None:
    """No bar before it, which nothing has moved yet."""
    told = shown("replay", "examples/figure-1/policy.yaml", "is-not-there.pcap", *options, columns=200)
    name = "one-for-all.jsonl" if options else "is-not-there.pcap"
    assert told.startswith(f"{name}: "), told


REPLAY = ("replay", "examples/figure-1/policy.yaml", "pcaps/figure-1.pcap")


@pytest.mark.parametrize(
    ("words", "environ", "terminal", "expected"),
    [
        (REPLAY, {}, True, True),
        (REPLAY, {}, False, False),
        (REPLAY, {"NO_COLOR": "1"}, True, False),
        (REPLAY, {"NO_COLOR": ""}, True, True),
        (REPLAY, {"FORCE_COLOR": "1"}, False, True),
        (("--color", "never", *REPLAY), {"FORCE_COLOR": "1"}, True, False),
        ((*REPLAY, "--color=never"), {}, True, False),
        ((*REPLAY, "--color", "always"), {"NO_COLOR": "1"}, False, True),
        ((*REPLAY, "--color", "auto"), {"NO_COLOR": "1"}, True, False),
    ],
)
def test_colours(words: tuple[str, ...], environ: dict[str, str], terminal: bool, expected: bool) -> None:
    """At a terminal, unless NO_COLOR is set and not empty (no-color.org); --color, wherever it stands, is stronger."""
    assert colored(*words, environ=environ, terminal=terminal) == expected


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--color", "blue", *REPLAY), '"blue" is not known: write auto, always or never'),
        ((*REPLAY, "--color"), "Option '--color' requires an argument."),
    ],
)
def test_a_color_that_cannot_be_meant(words: tuple[str, ...], told: str) -> None:
    command = [sys.executable, "-m", "dataplane", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert told in done.stderr
