"""Workers that look for frames before they sleep: in a conversation of real programs, and not once it is over."""

from __future__ import annotations

import math
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
    """How often a worker looked before it slept, by what came of it; under "waits" how often it woke."""
    text = site.fw.run("curl", "-s", "http://127.0.0.1:9477/metrics").stdout
    families = {family.name: family for family in text_string_to_metric_families(text)}
    by_result = {sample.labels["result"]: sample.value for sample in families["dataplane_worker_busy_polls"].samples}
    (woken,) = families["dataplane_worker_wakeups"].samples
    return by_result | {"waits": woken.value}


def converse(site: Guarded) -> None:
    """Questions, each asked when the last one is answered."""
    site.world.run("ping", "-n", "-q", "-A", "-c", "300", "-i", "0.002", "-W", "1", four(1))


def begin(site: Guarded, *options: str) -> None:
    site.start("--metrics", "127.0.0.1:9477", *options)
    site.address("a", 1)
    assert pings(site.world, four(1))


def test_a_conversation_is_found_awake(site: Guarded) -> None:
    """Sooner or later, on a machine that does other things; a look in vain makes the next one rarer (busy_poll.h)."""
    begin(site, "--busy-poll", "1000")
    assert site.ask("status")["busy_poll"] == 1000

    def found() -> bool:
        converse(site)
        return looks(site)["found"] > 0

    until(found, "frames are found awake", 30)
    time.sleep(1)
    before = looks(site)
    time.sleep(3)
    after = looks(site)
    waits, found_awake, in_vain = (after[what] - before[what] for what in ("waits", "found", "in-vain"))
    assert waits >= 20
    # Neighbours that are asked for and a scrape wake it, and what is found begins anew: in each such run, n looks in
    # vain take 2^1 + ... + 2^(n - 1) waits.
    runs = found_awake + 1
    assert in_vain <= runs * math.log2(waits / runs + 2)


def test_none_where_it_is_not_wanted(site: Guarded) -> None:
    begin(site, "--busy-poll", "0")
    converse(site)
    seen = looks(site)
    assert seen["waits"] > 0
    assert (seen["found"], seen["in-vain"]) == (0, 0)


def test_more_than_a_millisecond_is_refused(site: Guarded) -> None:
    done = site.fw.run(sys.executable, "-m", "dataplane", "run", str(site.policy_path), "--busy-poll", "1001")
    assert done.returncode == 2
    assert "--busy-poll" in done.stderr
    assert "1000" in done.stderr
