"""Pages for people about what a command has found: one file of HTML each, which needs no network.

`timeline` and `flow_tally` sum up a replay while it goes on, in bounded memory; `stories` tells why single packets met
what they met; `charts` says what is drawn, `page` makes the file; `replayed`, `compared` and `cases` are the pages. The
extra ``report`` brings what they need.
"""

from __future__ import annotations

from dataplane.installation import how_to_install

try:
    import jinja2  # noqa: F401
    import numpy  # noqa: F401
    import plotly  # noqa: F401
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(f"--report needs {missing.name}: {how_to_install('report')} brings it") from None
