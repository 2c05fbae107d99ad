"""A member of etcd of each module's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.etcd import Members, members


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Members]:
    with members(tmp_path_factory.mktemp("etcd"), 1) as made:
        yield made
