"""Captures that are named by URL; what reads them is loaded only for these (`dataplane.replay.remote`)."""

from __future__ import annotations

from dataplane.outputs import URL


def is_remote(name: str) -> bool:
    """Whether a capture is named by a URL."""
    return URL.match(name) is not None


def local_path(name: str) -> str:
    """The path that a ``file://`` URL names; all else as it is."""
    if not name.startswith("file://"):
        return name
    from urllib.parse import unquote, urlsplit

    return unquote(urlsplit(name).path)
