"""Live traffic: the interfaces that a policy names, filtered as they run."""

#: Where the control socket is unless another place is named.
CONTROL_SOCKET = "/run/dataplane/control.sock"

#: Microseconds that a worker looks for frames before it sleeps, unless told otherwise; and the most.
BUSY_POLL, BUSY_POLL_MAX = 50, 1000
