"""Links of pages to files outside the pages: what is read on the site is not in the tree of the project."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_LINK = re.compile(r"\[([^\]]+)\]\((\.\./[^)\s]+)\)")


def _told(app: Any, name: str, source: list[str]) -> None:
    """A link to ../systemd/dataplane.service becomes that file's name; one to ../README.md its first page."""

    def replaced(match: re.Match[str]) -> str:
        text, target = match[1], match[2]
        path = (Path(app.srcdir) / target.partition("#")[0]).resolve()
        shown = path.relative_to(Path(app.srcdir).parent)
        if text.strip("`") == str(shown) or text.strip("`").rstrip("/") == str(shown):
            return f"`{shown}`"
        return f"{text} (`{shown}`)"

    source[0] = _LINK.sub(replaced, source[0])


def setup(app: Any) -> dict[str, Any]:
    app.connect("source-read", _told)
    return {"parallel_read_safe": True}
