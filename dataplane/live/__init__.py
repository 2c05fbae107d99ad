"""Live traffic: ports, the firewall between them, and the control plane around it."""
