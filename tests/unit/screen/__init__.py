"""The screen of a running firewall (docs/top.md), against one that answers at a real control socket."""
