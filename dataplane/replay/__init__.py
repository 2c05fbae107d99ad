"""Captures replayed through a policy: captures in; verdicts, summary and failed expectations out (SPEC 7)."""

from dataplane.replay.captures import CaptureError, Captures
from dataplane.replay.run import Replay
from dataplane.replay.summary import Summary

__all__ = ["CaptureError", "Captures", "Replay", "Summary"]
