"""Live traffic: the interfaces that a policy names, filtered as they run."""

#: Where the control socket is unless another place is named.
CONTROL_SOCKET = "/run/dataplane/control.sock"


def ctl_words(socket: str) -> list[str]:
    """The words before a command to the firewall that listens at a control socket."""
    return ["dataplane", "ctl", *(["--socket", socket] if socket != CONTROL_SOCKET else [])]


#: Microseconds that a worker looks for frames before it sleeps, unless told otherwise; and the most.
BUSY_POLL, BUSY_POLL_MAX = 50, 1000

#: Bytes of a flow log before it is rotated, how many of before are kept, and for how many seconds denied flows are
#: gathered, unless told otherwise.
FLOW_LOG_SIZE, FLOW_LOG_KEEP, FLOW_INTERVAL = 100 << 20, 5, 60.0
