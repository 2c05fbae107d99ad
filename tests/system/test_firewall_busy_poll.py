"""Workers that look for frames before they sleep: in a conversation of real programs, and not once it is over."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from .guarded import OPEN, PROGRAMS, Guarded, four, guarded, pings
from .network import needs_root_and, until

pytestmark = needs_root_and(*PROGRAMS)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Guarded]:
    """A guest whose group lets everything in; the firewall is not started."""
    with guarded(tmp_path) as made:
        made.write(OPEN + made.instance("a", 1))
        yield made


def looks(site: Guarded) -> dict[str, float]:
    """How often a worker looked before it slept, by what came of it."""
    text = site.fw.run("curl", "-s", "http://127.0.0.1:9477/metrics").stdout
    (family,) = [f for f in text_string_to_metric_families(text) if f.name == "dataplane_worker_busy_polls"]
    return {sample.labels["result"]: sample.value for sample in family.samples}


def converse(site: Guarded) -> None:
    """Questions, each asked when the last one is answered."""
    site.world.run("ping", "-n", "-q", "-A", "-c", "300", "-i", "0.002", "-W", "1", four(1))


def begin(site: Guarded, *options: str) -> None:
    site.start("--metrics", "127.0.0.1:9477", *options)
    site.address("a", 1)
    assert pings(site.world, four(1))


def test_a_conversation_is_found_awake(site: Guarded) -> None:
    """Sooner or later, on a machine that does other things; an idle firewall then looks for nothing any more."""
    begin(site, "--busy-poll", "1000")
    assert site.ask("status")["busy_poll"] == 1000

    def found() -> bool:
        converse(site)
        return looks(site)["found"] > 0

    until(found, "frames are found awake", 30)
    time.sleep(1)
    idle = looks(site)["in-vain"]
    time.sleep(1)
    assert looks(site)["in-vain"] <= idle + 2


def test_none_where_it_is_not_wanted(site: Guarded) -> None:
    begin(site, "--busy-poll", "0")
    converse(site)
    assert looks(site) == {"found": 0, "in-vain": 0}


def test_more_than_a_millisecond_is_refused(site: Guarded) -> None:
    done = site.fw.run(sys.executable, "-m", "dataplane", "run", str(site.policy_path), "--busy-poll", "1001")
    assert done.returncode == 2
    assert "--busy-poll" in done.stderr
    assert "1000" in done.stderr
