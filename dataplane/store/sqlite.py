"""A policy kept in a SQLite database: a row for each group, rule, address group, instance, and so on.

One change is one transaction, which writes the rows that differ. The database is in WAL mode, and what was answered
with success is on the disk. Its form has a number, `user_version`; an older one is brought to that of today when it is
opened. Another process that has written meanwhile is noticed by the number of the revision: nothing of either is lost.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from dataplane.atomic import remedy
from dataplane.policy import Policy
from dataplane.store import StoreBusyError, StoreError, kept
from dataplane.store.rows import Key, Row, Writing, document_of, row_from
from dataplane.terminal import printable

#: What leads to each form of the database from the one before.
MIGRATIONS = (
    (
        "CREATE TABLE head (id INTEGER PRIMARY KEY CHECK (id = 0), revision INTEGER NOT NULL, body TEXT NOT NULL)",
        """CREATE TABLE item (
            section TEXT NOT NULL, id TEXT NOT NULL, owner TEXT NOT NULL, place INTEGER NOT NULL, body TEXT NOT NULL,
            created REAL NOT NULL, updated REAL NOT NULL, PRIMARY KEY (section, id)
        ) WITHOUT ROWID""",
    ),
)
_SCHEME = "sqlite://"
#: Another process may hold it so long: when it is opened or loaded; and when a change is kept, which is tried again by
#: who asks for it, so that packets, timers and other questions do not wait for it.
_BUSY_SECONDS, _BUSY_SECONDS_IN_CHANGE = 5.0, 0.05
#: What to do about SQLite's codes.
_REMEDIES = {
    sqlite3.SQLITE_FULL: "make room there, and do it again",
    sqlite3.SQLITE_IOERR: "look after the disk (dmesg), and do it again",
    sqlite3.SQLITE_READONLY: "let this user write it and its folder, or name another place",
    sqlite3.SQLITE_CANTOPEN: "let this user write it and its folder, or name another place",
    sqlite3.SQLITE_NOTADB: "name another file",
    sqlite3.SQLITE_CORRUPT: "put a copy of before there, or name another file",
    sqlite3.SQLITE_BUSY: "another process writes there: do it again when it has ended",
}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_KIND = "the database has at"
#: What helps where it is damaged, or somebody else has written into it.
_REMEDY = "put it right, or move the file away, so that a new one is filled with the policy file"


def path_of(url: str) -> Path:
    """The file of ``sqlite:///absolute/path``. Raises StoreError for another address."""
    path = url.removeprefix(_SCHEME)
    if path == url or not path.startswith("/") or len(path) < 2:
        raise StoreError(f"{printable(url)}: an address such as sqlite:///var/lib/dataplane/policy.db is needed")
    return Path(path)


class SqliteStore:
    """A policy in a database, which is made where there is none and it may be."""

    keeps_changes = True

    def __init__(self, path: Path, *, make: bool = True) -> None:
        self._path = path
        self._rows: dict[Key, Row] = {}
        # The policy of the rows, and the one that was loaded last with its rows.
        self._known: Policy | None = None
        self._loaded: tuple[Mapping[Key, Row], Policy] | None = None
        if not make and not path.exists():
            raise self._nothing()
        with self._told():
            # Nobody else reads what is in it, as in the policy file of a service.
            fd = os.open(path, os.O_RDWR | (os.O_CREAT if make else 0) | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd) as file:
                self._file = os.fstat(file.fileno())
            self._database = self._connected()
            self._expect_ours()
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            self._migrate()
            self._wait_for_others(_BUSY_SECONDS_IN_CHANGE)
            self._head, self._rows, self._revision = self._read(self._database)

    def _connected(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)

    def _wait_for_others(self, seconds: float) -> None:
        self._database.execute(f"PRAGMA busy_timeout = {round(seconds * 1000)}")

    @property
    def name(self) -> str:
        """Its address."""
        return f"{_SCHEME}{self._path}"

    @property
    def is_empty(self) -> bool:
        """Whether no policy was kept in it yet."""
        return self._head is None

    @property
    def times(self) -> Mapping[Key, tuple[float, float]]:
        """When each part came, and was changed last, in seconds since 1970, by section and id."""
        return {key: (row.created, row.updated) for key, row in self._rows.items()}

    def close(self) -> None:
        """Closes the database: all of it is in its file then, where nobody else has it open."""
        self._database.close()

    def load(self) -> Policy:
        """The policy that is kept now; for any thread. Raises PolicyError, StoreError."""
        self._expect_file()
        with self._told(), closing(self._connected()) as database:
            head, rows, _ = self._read(database)
        if head is None:
            raise self._nothing()
        with kept.read_at(self.name, kind=_KIND, remedy=_REMEDY):
            text = json.dumps(document_of(head, rows))
        policy = Policy.parse(text, self.name)
        self._loaded = rows, policy
        return policy

    def kept_elsewhere(self) -> int | None:
        """The revision that another process has written since; None where none has. Raises StoreError."""
        self._expect_file()
        with self._told():
            (revision,) = self._database.execute("SELECT revision FROM head").fetchone() or (0,)
        with kept.read_at(self.name, kind=_KIND, remedy=_REMEDY):
            return None if revision == self._revision else kept.integer(revision)

    @contextmanager
    def keeping(self, policy: Policy, now: float) -> Iterator[None]:
        """Keeps a policy in one transaction, and the one before again where what is done within fails.

        It is kept first: what finds no room on the disk was never in force, and so disconnects nobody. Where another
        process has written since, only the policy that is there now can be kept. Raises StoreError.
        """
        self._expect_file()
        with self._transaction():
            made, rows, revision = self._write(policy, now)
        try:
            yield
        except BaseException as error:
            if rows is self._rows:
                self._take_back(made, error)
            raise
        for key in made.gone:
            del rows[key]
        rows.update(made.changed)
        self._head, self._rows, self._revision = made.head, rows, revision
        self._known, self._loaded = policy, None

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """What is written within is on the disk, as a whole, when it ends, or nothing is. Raises StoreError."""
        with self._told():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                # Where the disk fails SQLite may have done it by itself, or find that it cannot.
                with contextlib.suppress(sqlite3.Error):
                    if self._database.in_transaction:
                        self._database.execute("ROLLBACK")
                raise

    def _nothing(self) -> StoreError:
        return StoreError(
            f"{self.name}: no policy is kept there yet: fill it (dataplane policy apply FILE --store URL)"
        )

    # ---- the database ----

    def _expect_file(self) -> None:
        """Raises StoreError where the file has gone, or another one is there: what is written would be nobody's."""
        with self._told(), contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(self._path), self._file):
                return
        raise StoreError(
            f"{self.name}: the database that was opened there has gone, or another one has taken its place: put it back"
            ", or start anew with what is there (`dataplane policy export` has the policy in force)"
        )

    @contextmanager
    def _told(self) -> Iterator[None]:
        """SQLite's exceptions in our words."""
        try:
            yield
        except OSError as error:
            words = f"{error.strerror}: {remedy(error)}"
            raise StoreError(f"{self.name}: the policy cannot be kept there: {words}") from None
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            words = f"{error}: {_REMEDIES[code]}" if code in _REMEDIES else str(error)
            kind = StoreBusyError if code in _BUSY else StoreError
            raise kind(f"{self.name}: the policy cannot be kept there: {words}") from None

    def _expect_ours(self) -> None:
        """Raises StoreError for the database of another program, before anything is written to it."""
        # Another process may just be making it.
        self._database.execute("BEGIN")
        version = self._version
        tables = {name for (name,) in self._database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        self._database.execute("COMMIT")
        if version > len(MIGRATIONS):
            raise StoreError(f"{self.name}: it is of a newer dataplane (form {version}): use that, or another store")
        if version < 0 or bool(tables) is not bool(version) or (version and not {"head", "item"} <= tables):
            raise StoreError(f"{self.name}: it is no policy, but another program's database: name another file")

    def _read(self, database: sqlite3.Connection) -> tuple[str | None, dict[Key, Row], int]:
        """What is kept: all but the rows, the rows, and the revision; of one moment. Raises StoreError."""
        if outside := not database.in_transaction:
            database.execute("BEGIN")
        head = database.execute("SELECT revision, body FROM head").fetchone()
        found = database.execute("SELECT section, id, owner, place, body, created, updated FROM item").fetchall()
        if outside:
            database.execute("COMMIT")
        with kept.read_at(self.name, kind=_KIND, remedy=_REMEDY):
            rows = {(kept.text(section), kept.text(name)): row_from(values) for section, name, *values in found}
            if head is None:
                if rows:
                    raise ValueError("the table head is empty, and there are parts of a policy")
                return None, {}, 0
            return kept.text(head[1]), rows, kept.integer(head[0])

    def _migrate(self) -> None:
        while self._version < len(MIGRATIONS):
            self._database.execute("BEGIN IMMEDIATE")
            if (number := self._version) < len(MIGRATIONS):
                for statement in MIGRATIONS[number]:
                    self._database.execute(statement)
                self._database.execute(f"PRAGMA user_version = {number + 1}")
            self._database.execute("COMMIT")

    @property
    def _version(self) -> int:
        """The number of its form."""
        return int(self._database.execute("PRAGMA user_version").fetchone()[0])

    def _write(self, policy: Policy, now: float) -> tuple[Writing, dict[Key, Row], int]:
        """Writes the rows that are others; these, those that they are upon, and the revision. Raises StoreError."""
        kept = self._database.execute("SELECT revision FROM head").fetchone()
        if (kept[0] if kept else 0) != self._revision:
            return self._as_it_is(policy, now)
        loaded = self._loaded
        # What is in force came from what was loaded.
        known = loaded[1] if loaded and loaded[0] == self._rows else self._known
        made = Writing(policy, self._rows, known, now)
        revision = self._revision + 1
        self._put(revision, made.head, made.gone, made.changed)
        return made, self._rows, revision

    def _put(self, revision: int, head: str, gone: Iterable[Key], changed: Mapping[Key, Row]) -> None:
        self._database.execute("INSERT OR REPLACE INTO head VALUES (0, ?, ?)", (revision, head))
        self._database.executemany("DELETE FROM item WHERE section = ? AND id = ?", gone)
        self._database.executemany(
            "INSERT OR REPLACE INTO item VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(*key, *row) for key, row in changed.items()],
        )

    def _take_back(self, made: Writing, why: BaseException) -> None:
        """Has the rows as they were before some were written; what another process has written by now stays."""
        revision = self._revision + 1
        touched = {*made.gone, *made.changed}
        before = {key: self._rows[key] for key in touched if key in self._rows}
        # Nobody tries this again.
        self._wait_for_others(_BUSY_SECONDS)
        try:
            with self._transaction():
                if self._database.execute("SELECT revision FROM head").fetchone() != (revision,):
                    return
                # A number that was another policy's for a moment is never that of a second one.
                self._put(revision + 1, self._head or "", touched - before.keys(), before)
                if self._head is None:
                    self._database.execute("DELETE FROM head")
        except StoreError as error:
            raise StoreError(
                f"{why}; but it is kept, and will be tried again, since that cannot be undone: {error}"
            ) from why
        finally:
            self._wait_for_others(_BUSY_SECONDS_IN_CHANGE)
        self._revision = 0 if self._head is None else revision + 1

    def _as_it_is(self, policy: Policy, now: float) -> tuple[Writing, dict[Key, Row], int]:
        """A policy that another process has written. Raises StoreError for another one."""
        head, rows, revision = self._read(self._database)
        made = Writing(policy, rows, None, now)
        if made.head != head or made.is_new:
            raise StoreError(f"{self.name}: another process has changed the policy there: load it again first (reload)")
        return made, rows, revision
