"""The API, served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.live.scene import filled

from .served import Served, serving


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path, filled()) as made:
        yield made


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """For requests that are refused: at the end, nothing has changed."""
    firewall = filled()
    before = firewall.policy
    with serving(tmp_path_factory.mktemp("unchanged"), firewall) as made:
        yield made
    assert firewall.policy is before
