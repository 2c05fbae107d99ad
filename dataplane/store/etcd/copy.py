"""The last good copy: what a host begins with when etcd is away at its start."""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import asdict
from pathlib import Path

from dataplane.atomic import remedy, replacing
from dataplane.store import StoreError, kept
from dataplane.store.etcd.version import FORM, Head, Version
from dataplane.store.kept import UnreadableError
from dataplane.store.rows import row_from
from dataplane.terminal import printable


def write(path: Path, version: Version) -> None:
    """Writes a version in place of the one before, as a whole, for its owner alone. Raises StoreError."""
    body = {
        "form": FORM,
        "store": version.name,
        "epoch": version.epoch,
        "current": version.current,
        "head": asdict(version.head),
        "revision": version.revision,
        "host": version.host,
        "rows": [[*key, *row] for key, row in version.rows.items()],
    }
    try:
        with replacing(path) as file:
            file.write(gzip.compress(json.dumps(body).encode(), compresslevel=1, mtime=0))
    except OSError as error:
        raise StoreError(
            f"{printable(str(path))}: the copy of the policy cannot be written: {error.strerror}: {remedy(error)}"
        ) from None


def read(path: Path, name: str) -> Version | None:
    """The version that was written; None where there is none of that store. Raises StoreError for a damaged one."""
    try:
        body = json.loads(gzip.decompress(path.read_bytes()))
        if body["store"] != name or body["form"] > FORM:
            return None
        rows = {(kept.text(section), kept.text(row_id)): row_from(row) for section, row_id, *row in body["rows"]}
        head = Head.of(str(path), json.dumps({"form": FORM, **body["head"]}), kept.integer(body["head"]["revision"]))
        epoch, host = kept.text(body["epoch"]), body["host"]
        return Version(name, epoch, kept.integer(body["current"]), head, rows, kept.integer(body["revision"]), host)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, EOFError, RecursionError, UnreadableError, gzip.BadGzipFile, zlib.error):
        raise StoreError(f"{printable(str(path))}: the copy of the policy is damaged: delete it") from None
    except OSError as error:
        raise StoreError(
            f"{printable(str(path))}: the copy of the policy cannot be read: {error.strerror}: let this"
            " user read it, or delete it"
        ) from None
