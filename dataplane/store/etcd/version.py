"""The policy in a cluster as it was at one time: read as a whole, or brought on by what a watch tells."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from dataplane.policy import Policy
from dataplane.store import StoreError, kept
from dataplane.store.etcd.cluster import CompactedError
from dataplane.store.etcd.part import part_of
from dataplane.store.kept import UnreadableError
from dataplane.store.rows import Key, Row, document_of, row_from
from dataplane.terminal import printable

if TYPE_CHECKING:
    from dataplane.store.etcd.cluster import Cluster, Item

#: The form of what is kept; a higher number is of a newer dataplane.
FORM = 1
#: So many rows are read at once, and so often a reading begins anew that a compaction has overtaken.
_PAGE, _READINGS = 200, 5


@dataclass(frozen=True, slots=True)
class Head:
    """What is kept once: `number` of the change that was made last, when, by whom, and the document but its rows.

    `token` is that change's alone, `upon` that of the one before; None where that is not told. `revision` is etcd's; 0
    where nothing is kept yet.
    """

    number: int = 0
    at: float = 0.0
    by: str = ""
    token: str = ""
    document: str = "{}"
    revision: int = 0
    upon: str | None = None

    def text(self) -> str:
        """As it is kept."""
        return json.dumps(
            {
                "form": FORM,
                "number": self.number,
                "at": self.at,
                "by": self.by,
                "token": self.token,
                "upon": self.upon,
                "document": self.document,
            }
        )

    @classmethod
    def of(cls, place: str, found: str, revision: int) -> Head:
        """What stands at a place. Raises UnreadableError, and StoreError for one of a newer dataplane."""
        with kept.read_at(place):
            body = kept.mapping(found)
            kept.expect_form(place, body["form"], FORM)
            by, token, document = (kept.text(body[name]) for name in ("by", "token", "document"))
            upon = body.get("upon")
            upon = None if upon is None else kept.text(upon)
            return cls(kept.integer(body["number"]), kept.number(body["at"]), by, token, document, revision, upon)


@dataclass(frozen=True, slots=True)
class Version:
    """The policy at `revision` of the cluster; `current` is the revision of the key that names the epoch.

    `host` names the host whose part of the policy the rows are; None: they are all.
    """

    name: str
    epoch: str = ""
    current: int = 0
    head: Head = field(default_factory=Head)
    rows: Mapping[Key, Row] = field(default_factory=dict)
    revision: int = 0
    host: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no policy is kept yet."""
        return not self.head.number

    def policy(self) -> Policy:
        """The policy. Raises PolicyError, StoreError."""
        if self.is_empty:
            raise StoreError(
                f"{self.name}: no policy is kept there yet: fill it (dataplane policy apply FILE --store URL)"
            )
        with kept.read_at(self.name):
            text = json.dumps(document_of(self.head.document, self.rows))
        return Policy.parse(text, self.name)

    def brought_on(self, prefix: str, events: Iterable[tuple[str, str | None]], revision: int) -> Version | None:
        """The version after events of its epoch; None where they do not tell all that is needed: read it then."""
        events = list(events)
        if not events:
            return replace(self, revision=revision)
        rows, head = dict(self.rows), self.head
        place = epoch_prefix(prefix, self.epoch)
        for key, value in events:
            name = key.removeprefix(place)
            if name == "head":
                if value is None:
                    return None
                known, head = head.token, Head.of(key, value, revision)
                if head.upon not in (None, known):
                    # etcd was set back, and changes came upon what is not known here.
                    return None
            elif (row := row_key(name)) is None:
                continue
            elif value is None:
                rows.pop(row, None)
            else:
                rows[row] = row_of(key, value)
        if self.host is not None:
            with kept.read_at(self.name):
                before, part = part_of(self.rows, self.host), part_of(rows, self.host)
            if part.named - before.named:
                # What is new to this part has not been kept.
                return None
            rows = dict(part.rows)
        return replace(self, rows=rows, head=head, revision=revision)


def epoch_prefix(prefix: str, epoch: str) -> str:
    """What keys of an epoch begin with."""
    return f"{prefix}epochs/{epoch}/"


def key_of(prefix: str, epoch: str, key: Key) -> str:
    """Where a row is kept."""
    return f"{epoch_prefix(prefix, epoch)}rows/{key[0]}/{key[1]}"


def row_key(name: str) -> Key | None:
    """Section and id of a row's key, behind that of its epoch; None for another key."""
    place, _, rest = name.partition("/")
    section, slash, row_id = rest.partition("/")
    return (section, row_id) if place == "rows" and slash else None


def row_text(row: Row) -> str:
    """A row as it is kept."""
    return json.dumps(row, separators=(",", ":"))


def row_of(place: str, found: str) -> Row:
    """A row that is kept at a place. Raises UnreadableError."""
    with kept.read_at(place):
        return row_from(json.loads(found))


def read(cluster: Cluster, name: str, prefix: str, host: str | None, look: Callable[[], None]) -> Version:
    """All that is kept, of one moment. `look` is called between two requests. Raises StoreError."""
    for _ in range(_READINGS):
        current = cluster.range(f"{prefix}current")
        if not current.items:
            return Version(name, revision=current.revision, host=host)
        epoch = epoch_of(current.items[0])
        place = epoch_prefix(prefix, epoch)
        try:
            items = _all(cluster, place, current.revision, look)
        except CompactedError:
            continue
        heads = [Head.of(item.key, item.value, item.revision) for item in items if item.key == f"{place}head"]
        if heads:
            rows = _rows(items, place, host)
            return Version(name, epoch, current.items[0].revision, heads[0], rows, current.revision, host)
        raise UnreadableError(
            f"{name}: etcd has nothing at {printable(place)}head, which is to be in force: restore it, or delete"
            f" {printable(prefix)}current and have a host fill it again"
        )
    raise StoreError(f"{name}: it cannot be read: it is compacted faster than it is read")


def epoch_of(item: Item) -> str:
    """Which epoch the key ``current`` says is in force. Raises StoreError."""
    with kept.read_at(item.key):
        body = kept.mapping(item.value)
        kept.expect_form(item.key, body["form"], FORM)
        return kept.text(body["epoch"])


def _rows(items: Iterable[Item], place: str, host: str | None) -> Mapping[Key, Row]:
    """The rows among what stands in an epoch, or those that concern a host. Raises UnreadableError."""
    rows = {
        key: row_of(item.key, item.value)
        for item in items
        if (key := row_key(item.key.removeprefix(place))) is not None
    }
    if host is None:
        return rows
    with kept.read_at(place):
        return part_of(rows, host).rows


def rows_of(cluster: Cluster, place: str, host: str | None) -> Mapping[Key, Row]:
    """The rows of an epoch, or those that concern a host. Raises StoreError."""
    try:
        items = _all(cluster, f"{place}rows/", cluster.range(place).revision, lambda: None)
    except CompactedError:
        raise StoreError("it is compacted faster than it is read") from None
    return _rows(items, place, host)


def _all(cluster: Cluster, prefix: str, revision: int, look: Callable[[], None]) -> list[Item]:
    items: list[Item] = []
    more = True
    while more:
        look()
        page = cluster.range(prefix, prefix=True, after=items[-1].key if items else "", revision=revision, limit=_PAGE)
        items.extend(page.items)
        more = page.more
    return items
