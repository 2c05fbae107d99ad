"""Where the engine means to answer otherwise than nf_conntrack: name -> what each says.

docs/semantics.md has the same names, with the reasons; a test compares the two. A difference that is not here fails
the tests, and so does one of these that a story no longer shows.
"""

from __future__ import annotations

NEW, OK, RELATED, UNTRACKED, NO = "new", "established", "related", "untracked", "denied"

#: name -> (kernel, engine)
DIFFERENCES = {
    # The TCP handshake.
    "old-syn-ack": (OK, NO),
    "reset-of-syn": (OK, NO),
    "reset-before-answer": (NO, OK),
    "refused-is-forgotten": (NO, OK),
    "ack-in-simultaneous-open": (OK, NO),
    "late-syn-ack": (OK, NO),
    # SYNs in a connection.
    "syn-from-responder": (NO, OK),
    "syn-ack-from-initiator": (NO, OK),
    "reset-after-challenged-syn": (NEW, OK),
    "both-begin-anew": (OK, NO),
    "reopen": (OK, NEW),
    "reopen-by-responder": (NO, NEW),
    # The TCP window.
    "beyond-window": (OK, NO),
    "behind-window": (OK, NO),
    "agreed-place": (NO, OK),
    "ack-of-unseen": (NO, OK),
    "window-of-early-segment": (NO, OK),
    "reset-outside-window": (OK, NO),
    # ICMP.
    "icmp-code": (NEW, OK),
    "icmp-redirect": (RELATED, NO),
    "short-quote": (RELATED, NO),
    "icmpv6-unknown-error": (RELATED, NO),
    "icmpv6-node-information": (NEW, NO),
    "neighbour-discovery-checks": (UNTRACKED, NO),
    "multicast-listener-checks": (UNTRACKED, NO),
    "multicast-router-discovery": (UNTRACKED, NO),
    # Other protocols, and IP itself.
    "sctp-handshake": (NO, NEW),
    "sctp-tag": (NO, OK),
    "pptp-call": (NEW, OK),
    "udp-lite-header": (NO, NEW),
    "ip-checksum": (NO, NEW),
    "zero-length": (NO, NEW),
    # Fragments.
    "incomplete-datagram": (NO, NEW),
    "tiny-first-fragment": (NEW, NO),
    "ragged-fragment": (NEW, NO),
    "fragment-behind-end": (NEW, NO),
    # Time.
    "udp-stream": (NEW, OK),
    "generic-timeout": (NEW, OK),
    "unacknowledged-data": (NO, OK),
}
