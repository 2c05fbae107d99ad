"""How what is missing gets installed, and where the documents are, in the words of messages."""

from __future__ import annotations

import json
import shlex
import sys
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: The distribution. Package and command are called `dataplane`, which on PyPI is somebody else's project.
DISTRIBUTION = "dataplane-firewall"


#: The source's folder, where the package is in one.
_ABOVE = Path(__file__).parents[1]
#: Where the Debian package looks for what people add to it.
_BESIDE_DEBIANS = "/usr/local/lib/dataplane"


def how_to_install(extra: str) -> str:
    """The command that adds an extra to this installation, from where it was installed."""
    pip = f"{shlex.quote(sys.executable)} -m pip install"
    if needed := _of_the_debian_package(extra):
        return f"{pip} --target {_BESIDE_DEBIANS} {shlex.join(needed)}"
    return f"{pip} {shlex.quote(f'{_source()}[{extra}]')}"


def document(name: str) -> str:
    """Where people find one of the documents: in docs/ of the source, or where a wheel or Debian's package put it."""
    if not (_ABOVE / "docs" / name).is_file():
        for prefix in (Path(sys.prefix), Path("/usr")):
            for file in (prefix / "share/doc/dataplane" / name, prefix / "share/doc/dataplane" / f"{name}.gz"):
                if file.is_file():
                    return str(file)
    return f"docs/{name}"


def _of_the_debian_package(extra: str) -> list[str]:
    """The packages of an extra, where this installation is Debian's (PEP 627, INSTALLER)."""
    for found in metadata.distributions(name=DISTRIBUTION):
        if (found.read_text("INSTALLER") or "").strip() == "dpkg":
            marks = (line.partition(";") for line in found.requires or ())
            return [name.strip() for name, _, when in marks if "".join(when.split()) == f'extra=="{extra}"']
    return []


def _source() -> str:
    """The folder or file that pip installed from (PEP 610); the distribution's name where it came from an index."""
    # In a source folder the build's own description of it, which has no such record, is found as well.
    for found in metadata.distributions(name=DISTRIBUTION):
        address = urlsplit(str(json.loads(found.read_text("direct_url.json") or "{}").get("url", "")))
        if address.scheme == "file":
            return unquote(address.path)
    return DISTRIBUTION
