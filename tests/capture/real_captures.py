"""Where the real captures are, and what stands in their index. They are no part of the project.

The folder is named by the variable CAPTURES, by default the one beside the checkout.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("CAPTURES", ROOT.parent / "shared" / "captures"))


def index() -> list[dict[str, str]]:
    """A row for each capture, by the headings of INDEX.tsv; none where there is no folder."""
    if not (FOLDER / "INDEX.tsv").exists():
        return []
    with open(FOLDER / "INDEX.tsv", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))
