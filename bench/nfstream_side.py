"""NFStream over a capture: flows by 5-tuple, without names of applications and in this process alone.

python bench/nfstream_side.py CAPTURE
"""

from __future__ import annotations

import sys

from nfstream import NFStreamer

if __name__ == "__main__":
    # Its workers are processes; one is the least, and the least work it can do.
    flows = NFStreamer(source=sys.argv[1], n_dissections=0, n_meters=1, idle_timeout=600, active_timeout=86400)
    packets = [flow.bidirectional_packets for flow in flows]
    print(f"{sum(packets)} packets, {len(packets)} flows")
