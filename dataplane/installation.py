"""How what is missing gets installed, in the words of messages."""

from __future__ import annotations

import json
import shlex
import sys
from importlib import metadata
from urllib.parse import unquote, urlsplit

#: The distribution. Package and command are called `dataplane`, which on PyPI is somebody else's project.
DISTRIBUTION = "dataplane-firewall"


def how_to_install(extra: str) -> str:
    """The command that adds an extra to this installation, from where it was installed."""
    target = shlex.quote(f"{_source()}[{extra}]")
    return f"{shlex.quote(sys.executable)} -m pip install {target}"


def _source() -> str:
    """The folder or file that pip installed from (PEP 610); the distribution's name where it came from an index."""
    # In a source folder the build's own description of it, which has no such record, is found as well.
    for found in metadata.distributions(name=DISTRIBUTION):
        address = urlsplit(str(json.loads(found.read_text("direct_url.json") or "{}").get("url", "")))
        if address.scheme == "file":
            return unquote(address.path)
    return DISTRIBUTION
