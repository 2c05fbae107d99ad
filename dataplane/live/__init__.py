"""Live traffic: the interfaces that a policy names, filtered as they run."""

#: Where the control socket is unless another place is named.
CONTROL_SOCKET = "/run/dataplane/control.sock"
