"""What all tests share: hypothesis without time limits for single examples, as machines differ."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("dataplane", parent=settings(), deadline=None, print_blob=True)
settings.load_profile("dataplane")
