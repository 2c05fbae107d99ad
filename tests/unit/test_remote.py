"""Captures named by URL: of an object store (a real server that speaks S3) and of a web server."""

from __future__ import annotations

import gzip
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from dataplane import Policy
from dataplane.plane import Plane
from dataplane.replay import CaptureError, Captures, Replay
from dataplane.replay.folder import captures_of
from dataplane.replay.reading import Reading
from dataplane.replay.remote import RemoteFile

ROOT = Path(__file__).parents[2]
POLICY = str(ROOT / "examples/figure-1/policy.yaml")
#: Behind this byte the web server breaks off.
BREAKS_AT = 700


class Server(SimpleHTTPRequestHandler):
    """Files of a folder. What is called broken.pcap breaks off, what is called other.pcap is another one each time."""

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.path != "/broken.pcap":
            super().do_GET()
            return
        data = (Path(self.directory) / "broken.pcap").read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[:BREAKS_AT])

    def end_headers(self) -> None:
        if self.path == "/other.pcap":
            self.server.asked += 1  # type: ignore[attr-defined]
            self.send_header("ETag", str(self.server.asked))  # type: ignore[attr-defined]
        super().end_headers()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Captures, one compressed, one empty, and a text."""
    folder = tmp_path_factory.mktemp("remote")
    for name in ("figure-1.pcap", "figure-2.pcap"):
        shutil.copy(ROOT / "pcaps" / name, folder / name)
    (folder / "more.pcap.gz").write_bytes(gzip.compress((folder / "figure-1.pcap").read_bytes()))
    (folder / "empty.pcap").write_bytes(b"")
    (folder / "notes.txt").write_text("none")
    return folder


@pytest.fixture(scope="module")
def web(folder: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Server, directory=str(folder))) as server:
        server.asked = 0  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def store(folder: Path) -> Iterator[dict[str, str]]:
    """A server that speaks S3, with the captures in its bucket; the environment that leads there."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    environment = keys | {"AWS_ENDPOINT_URL": f"http://{host}:{port}"}
    client = boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        region_name="us-east-1",
    )
    client.create_bucket(Bucket="corpus")
    for path in folder.iterdir():
        client.upload_file(str(path), "corpus", f"day/{path.name}")
    client.close()
    yield environment
    server.stop()


def run(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dataplane", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, cwd=folder, env=environment
    )


def rows(done: subprocess.CompletedProcess[str], begin: str) -> dict[str, Any]:
    """What `replay --each --json` says of each capture, by its name without its beginning; not what was measured."""
    assert "Traceback" not in done.stderr
    assert done.returncode == 0, done.stderr
    found = {}
    for row in json.loads(done.stdout)["captures"]:
        for name in ("elapsed", "packets_per_second", "captures"):
            row.pop(name, None)
        found[row.pop("capture").removeprefix(begin)] = row
    return found


EACH = ("replay", POLICY, "--each", "--json")


def test_a_web_server(folder: Path, web: str) -> None:
    """A directory as the server lists it: the same of each capture as of a file here, the others passed over."""
    here = run(folder, *EACH, f"file://{folder}")
    there = run(folder, *EACH, f"{web}/")
    assert rows(there, f"{web}/") == rows(here, f"{folder}/")
    assert len(rows(here, "")) == 3
    for name, why in (("empty.pcap", "it is empty"), ("notes.txt", "it is no capture")):
        assert f"{web}/{name}: {why}: passed over" in there.stderr
    # Captures are merged by time, so that some of them rest meanwhile and are read again.
    words = ("replay", POLICY, "--json", "--verdicts", "-")
    merged = run(folder, *words, *(f"{web}/{name}" for name in ("figure-2.pcap", "figure-1.pcap", "more.pcap.gz")))
    here = run(folder, *words, "figure-2.pcap", "figure-1.pcap", "more.pcap.gz")
    assert merged.stdout.replace(f"{web}/", "") == here.stdout
    assert merged.stdout.count("\n") == 32 + 32 + 16


def test_an_object_store_read_by_workers(folder: Path, store: dict[str, str]) -> None:
    """By the workers of a cluster, who read for themselves what stands behind a prefix, and nothing is left."""
    kept = folder / "temporary"
    kept.mkdir()
    there = rows(run(folder, *EACH, "s3://corpus/day", "--on", "dask", TMPDIR=str(kept), **store), "s3://corpus/day/")
    assert there == rows(run(folder, *EACH, str(folder)), f"{folder}/")
    assert there.keys() == {"figure-1.pcap", "figure-2.pcap", "more.pcap.gz"}
    assert not list(kept.rglob("*.pcap*"))


def test_a_pattern(folder: Path) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    files = MemoryFileSystem()
    for name in ("a/1.pcap", "b/2.pcap", "b/3.gz"):
        files.pipe(f"/corpus/{name}", (folder / "figure-1.pcap").read_bytes())
    assert captures_of(["memory://corpus/*/*.pcap"]) == ["memory:///corpus/a/1.pcap", "memory:///corpus/b/2.pcap"]
    assert captures_of(["memory://corpus/b"]) == ["memory:///corpus/b/2.pcap", "memory:///corpus/b/3.gz"]
    with pytest.raises(CaptureError, match=r"memory://corpus/\*.pcap: there is no capture in this directory"):
        captures_of(["memory://corpus/*.pcap"])


def test_what_breaks_off(folder: Path, web: str) -> None:
    """SPEC 7: what was read before is judged, and the fault is told."""
    shutil.copy(folder / "figure-1.pcap", folder / "broken.pcap")
    with Captures([f"{web}/broken.pcap"]) as captures:
        fault = Replay(Plane(Policy.load(Path(POLICY))), captures).run().captures[0].fault
    (folder / "broken.pcap").unlink()
    assert fault is not None
    assert fault.startswith("the stream data cannot be read: Response payload is not completed")


def test_another_file_of_the_same_name(web: str, folder: Path) -> None:
    """It is never read on where another one was left."""
    shutil.copy(folder / "figure-1.pcap", folder / "other.pcap")
    file = RemoteFile.look(f"{web}/other.pcap")
    first, again = Reading(file.open()), Reading(file.open(again=True))
    assert len(first.next())
    assert not len(again.next())
    assert again.fault == "the file cannot be read to its end: another file has taken its name"
    for reading in (first, again):
        reading.close()
    (folder / "other.pcap").unlink()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("far://x/a.pcap", "far://x/a.pcap: Protocol not known: far"),
        ("memory://a.pcap", "memory://a.pcap: there is no such file"),
        ("http://127.0.0.1:9/a.pcap", "http://127.0.0.1:9/a.pcap: there is no such file: Cannot connect to host"),
        ("WEB/none.pcap", "WEB/none.pcap: there is no such file: 404, message="),
    ],
)
def test_what_is_not_there(web: str, url: str, told: str) -> None:
    with pytest.raises(CaptureError) as error:
        Captures([url.replace("WEB", web)])
    assert str(error.value).startswith(told.replace("WEB", web))


def test_what_does_not_grow(web: str) -> None:
    with pytest.raises(CaptureError, match="a file that is named by a URL cannot be followed as it grows"):
        Captures([f"{web}/figure-1.pcap"], follow=True)


@pytest.mark.parametrize(
    "command",
    [("replay", POLICY, "s3://corpus/a.pcap"), ("learn", "s3://corpus/a.pcap", "--instances", POLICY)],
    ids=["replay", "learn"],
)
def test_without_the_extra(folder: Path, command: tuple[str, ...]) -> None:
    (folder / "hidden").mkdir(exist_ok=True)
    (folder / "hidden/fsspec.py").write_text("raise ModuleNotFoundError(\"No module named 'fsspec'\", name='fsspec')\n")
    done = run(folder, *command, PYTHONPATH=f"{folder}/hidden:{ROOT}")
    assert done.returncode == 2
    assert done.stderr.startswith("s3://corpus/a.pcap: fsspec is not installed: ")
    assert "[remote]' brings what S3 and HTTP need" in done.stderr
