"""The command that adds what is missing: it names what was installed, never a stranger's project."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from dataplane import installation

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("recorded", "source"),
    [
        ({"url": "file:///opt/src/data%20plane", "dir_info": {"editable": True}}, "'/opt/src/data plane[live]'"),
        ({"url": "file:///tmp/dataplane_firewall-0.1.0-cp311-abi3-manylinux_2_34_x86_64.whl"}, ".whl[live]'"),
        ({}, "'dataplane-firewall[live]'"),
        ({"url": "https://packages.example/dataplane_firewall-0.1.0.tar.gz"}, "'dataplane-firewall[live]'"),
        (None, "'dataplane-firewall[live]'"),
    ],
)
def test_where_it_was_installed_from(
    monkeypatch: pytest.MonkeyPatch, recorded: dict[str, object] | None, source: str
) -> None:
    """PEP 610; an index knows the distribution by its own name, and `dataplane` there is another project."""

    class Distribution:
        def read_text(self, name: str) -> str | None:
            if name == "INSTALLER":
                return "pip\n"
            assert name == "direct_url.json"
            return None if recorded is None else json.dumps(recorded)

    monkeypatch.setattr(
        metadata, "distributions", lambda name: [Distribution()] if name == "dataplane-firewall" else []
    )
    command = installation.how_to_install("live")
    assert command.startswith(f"{sys.executable} -m pip install ")
    assert command.endswith(source)


@pytest.mark.parametrize("name", ["dropped.md", "dropped.md.gz"])
def test_documents_are_named_where_they_were_installed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian's tools compress large ones; a source folder has them in docs/, and so says who has none."""
    assert installation.document("dropped.md") == "docs/dropped.md"
    monkeypatch.setattr(installation, "_ABOVE", tmp_path)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert installation.document("is-not-there.md") == "docs/is-not-there.md"
    installed = tmp_path / "share/doc/dataplane" / name
    installed.parent.mkdir(parents=True)
    installed.touch()
    assert installation.document("dropped.md") == str(installed)


def test_the_debian_package_takes_more_into_a_folder_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian's Python takes no packages besides Debian's; its INSTALLER says that it is this one (PEP 627)."""

    class Distribution:
        requires = ("rich>=13", 'numpy>=1.26; extra == "parquet"', 'pyarrow>=16 ; extra == "parquet"')

        def read_text(self, name: str) -> str:
            return {"INSTALLER": "dpkg\n"}[name]

    monkeypatch.setattr(metadata, "distributions", lambda name: [Distribution()])
    told = f"{sys.executable} -m pip install --target /usr/local/lib/dataplane 'numpy>=1.26' 'pyarrow>=16'"
    assert installation.how_to_install("parquet") == told
    launcher = (ROOT / "debian" / "launcher").read_text()
    assert '"/usr/local/lib/dataplane"' in launcher


def test_the_command_names_this_installation() -> None:
    """What pip recorded when it installed this environment."""
    assert installation.how_to_install("live").endswith(f"{ROOT}[live]'")


def test_the_name_of_the_distribution_stands_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == installation.DISTRIBUTION


def test_nobody_is_told_to_install_a_strangers_project() -> None:
    """No text of the project has pip install the name that is somebody else's on PyPI."""
    files = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True, cwd=ROOT).stdout.split()
    texts = {name: (ROOT / name).read_bytes() for name in files if (ROOT / name).is_file()}
    wrong = [
        b"install " + quote + b"dataplane" + end for quote in (b"", b"'", b'"') for end in (b"[", b"\n", b"`", b" ")
    ]
    assert [name for name, text in texts.items() if any(phrase in text for phrase in wrong)] == []


_INTERRUPTED = """\
import os, signal, sys
from importlib.metadata import EntryPoint

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
sys.argv = ["dataplane", "check", os.devnull]
EntryPoint("dataplane", sys.argv.pop(), "console_scripts").load()()
"""


def test_ctrl_c_while_the_modules_are_loaded_ends_it_in_silence() -> None:
    """As it ends a command that has begun: no traceback of an import."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    program = _INTERRUPTED.replace("sys.argv.pop()", repr(project["scripts"]["dataplane"]))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_memory_that_is_not_there_is_told_in_a_sentence() -> None:
    """As under `ulimit -v`, or in a container: what to do about it, and no traceback."""
    program = """
from dataplane.policy import Policy
def load(_):
    raise MemoryError
Policy.load = load
from dataplane.__main__ import main
main()
"""
    words = ["run", str(ROOT / "examples/figure-1/policy.yaml")]
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("there is not enough memory: give the process more (ulimit -v, or MemoryMax")


def test_a_c_part_of_another_version_is_told_in_a_sentence() -> None:
    """As after an update of a checkout that is not built anew; cffi's own words say what is missing."""
    program = """
import dataplane._core as core
class Old:
    def __getattr__(self, name):
        raise AttributeError(f"cffi library 'dataplane._core._dataplane' has no function named {name!r}")
core.lib = Old()
from dataplane.__main__ import main
main()
"""
    words = ["replay", str(ROOT / "examples/figure-1/policy.yaml"), str(ROOT / "pcaps/figure-1.pcap")]
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(
        "dataplane's C part is of another version than the rest: build it anew by 'make install'"
    )
    assert done.stderr.count("\n") == 1


STORE = ["--store", "etcd://127.0.0.1:1/x"]
CASES = "examples/figure-1"


@pytest.mark.parametrize(
    ("missing", "extra", "command"),
    [
        ("uvicorn", "api", ["api", f"{CASES}/policy.yaml", "--listen", "127.0.0.1:9"]),
        ("fastapi_offline", "api", ["api", f"{CASES}/policy.yaml", "--listen", "127.0.0.1:9"]),
        ("etcd3gw", "etcd", ["fleet", "status", *STORE]),
        ("etcd3gw", "etcd", ["fleet", "forget", "h7", *STORE]),
        ("etcd3gw", "etcd", ["policy", "export", *STORE]),
        ("junitparser", "test", ["test", CASES, "--junit", "-"]),
        ("watchfiles", "test", ["test", CASES, "--watch"]),
    ],
)
def test_an_extra_that_is_missing_is_a_sentence(missing: str, extra: str, command: list[str]) -> None:
    hidden = f"import sys; sys.modules[{missing!r}] = None; sys.argv = {['dataplane', *command]}"
    script = f"{hidden}; from dataplane.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2
    [told] = done.stderr.splitlines()
    assert missing in told
    assert f"{installation.how_to_install(extra)} brings " in told
