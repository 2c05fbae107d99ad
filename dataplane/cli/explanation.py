"""An explanation for a person at a terminal."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

from rich.text import Text

from dataplane.cli.typed import typed
from dataplane.insight import sentences
from dataplane.policy.write import as_yaml
from dataplane.terminal import console as terminal

if TYPE_CHECKING:
    from rich.console import Console

    from dataplane.insight.explain import Explanation
    from dataplane.insight.explained import ExplainedCheck
    from dataplane.insight.remedies import Remedy
    from dataplane.policy.model import Policy

_COLOURS = {"allow": "bold green", "deny": "bold red", "bypass": "bold yellow"}
_LABEL = 14
#: What a line takes where no terminal says how wide it is.
_UNBOUNDED = 1 << 16
_ADDRESSES_SHOWN = 8


def print_explanation(
    explanation: Explanation, written: str | None, stream: TextIO, *, running: Sequence[str] | None = None
) -> None:
    """Prints an explanation; `written` is the packet where it is of no capture.

    `running` are the words, as `dataplane ctl`, by which the firewall that would judge it is changed: remedies are
    commands then.
    """
    console = terminal(stream)
    page = _Page(console, min(console.width, 100) if console.is_terminal else _UNBOUNDED)
    judged = explanation.judged
    if written is None:
        at = sentences.time_words(judged.record.time_ns, judged.first_ns)
        page.say(f"packet {judged.packet}, at {at}: {judged.words}")
    else:
        page.say(written)
    headline = sentences.headline(explanation)
    page.print(
        Text.assemble((explanation.verdict, _COLOURS[explanation.verdict]), headline[len(explanation.verdict) :])
    )
    if not explanation.checks:
        page.label("instances", _instances(judged.policy))
    for check in explanation.checks:
        _print_check(page, explanation, check)
    _print_remedies(page, explanation, running)
    if told := sentences.page_of(explanation):
        page.print("")
        page.say(f"More: {told}")


class _Page:
    """Lines that are wrapped where the terminal ends."""

    def __init__(self, console: Console, width: int) -> None:
        self._console = console
        self.width = width

    def print(self, text: Text | str) -> None:
        self._console.print(text, soft_wrap=True)

    def say(self, sentence: str, indent: str = "", rest: str | None = None) -> None:
        """A sentence behind `indent`; its further lines are behind `rest`."""
        rest = " " * len(indent) if rest is None else rest
        lines = textwrap.wrap(
            sentence, self.width, initial_indent=indent, subsequent_indent=rest, break_on_hyphens=False
        )
        for line in lines:
            self.print(line)

    def label(self, label: str, sentence: str) -> None:
        """A sentence behind a label."""
        self.say(sentence, f"  {label:{_LABEL - 2}}")


def _instances(policy: Policy) -> str:
    held = [f"{address} ({instance.id})" for instance in policy.instances for address in instance.addresses]
    more = len(held) - _ADDRESSES_SHOWN
    return ", ".join(held[:_ADDRESSES_SHOWN]) + (f" and {more:,} more" if more > 0 else "") or "the policy has none"


def _print_check(page: _Page, explanation: Explanation, explained: ExplainedCheck) -> None:
    check, judged = explained.check, explanation.judged
    page.print("")
    told = [check.verdict, check.state, *([check.reason] if check.reason != check.state else [])]
    told += [check.cause] if check.cause else []
    page.print(
        Text.assemble(
            (f"{check.direction} at {check.instance}", "bold"),
            ": ",
            (check.verdict, _COLOURS[check.verdict]),
            ", ",
            ", ".join(told[1:]),
        )
    )
    for number, sentence in enumerate(sentences.near_misses(explained)):
        page.label("near misses" if number == 0 else "", sentence)
    for number, (group, what) in enumerate(sentences.tried_words(explained)):
        page.label("tried" if number == 0 else "", f"{group}: {what}")
    if history := explained.connection:
        page.label("connection", f"{history.origin}, {history.state}")
        page.label("", sentences.history_words(history, judged.packet, judged.first_ns))
    if before := explained.earlier:
        of = before.check
        if before.connection:
            history_words = sentences.history_words(before.connection, judged.packet, judged.first_ns)
            page.label("before", f"this flow's last connection was {history_words}")
        else:
            page.label("before", f"packet {before.packet} of this flow: {of.verdict}, {of.reason}; explain that one")


def _print_remedies(page: _Page, explanation: Explanation, running: Sequence[str] | None) -> None:
    if further := explanation.further:
        page.print("")
        page.say(
            f"No single change makes it allow: once that is mended, {further.direction} at {further.instance} denies it"
            f" ({further.reason})."
        )
    if not explanation.remedies:
        return
    other = explanation.remedies[0].verdict
    page.print("")
    if len(explanation.remedies) == 1:
        page.say(f"This change makes it {other} (it was tried):")
    else:
        page.say(f"Any of these changes makes it {other} (each was tried; the narrowest first):")
    for remedy in explanation.remedies:
        for line in _change(remedy, running, page.width - 2):
            page.print(f"  {line}")


def _change(remedy: Remedy, running: Sequence[str] | None, width: int) -> list[str]:
    """A change as the command that makes it, or an item of a file of changes."""
    if running is None:
        return _yaml({"at": remedy.at or 0, **remedy.change}, width)
    words = typed(remedy.change)
    if words is None:
        return _yaml(remedy.change, width)
    lines = [""]
    for word in map(shlex.quote, [*running, *words]):
        if lines[-1] and len(f"{lines[-1]} {word} \\") > width:
            lines[-1] += " \\"
            lines.append(f"    {word}")
        else:
            lines[-1] += f" {word}" if lines[-1] else word
    return lines


def _yaml(change: dict[str, Any], width: int) -> list[str]:
    """A change as an item of a list, as YAML."""
    lines: list[str] = []
    for line in as_yaml([change]).splitlines():  # type: ignore[arg-type]
        indent = re.match(r"[\s-]*", line)
        assert indent
        lines += textwrap.wrap(
            line, width, subsequent_indent=" " * (indent.end() + 2), break_long_words=False, break_on_hyphens=False
        )
    return lines
