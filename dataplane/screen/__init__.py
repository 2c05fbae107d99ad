"""A screen for a running firewall (`dataplane top`): what it lets pass, denies and cuts, as it goes on.

It is a client of the control socket and nothing else. `watch` asks and keeps what rates need, `app` is the screen, its
panes are in `traffic`, `connections`, `drops`, `rules` and `changes`. The extra ``top`` brings textual, which draws.
"""
