"""`dataplane test`: cases of what a policy should do, run (SPEC 8.6)."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dataplane.cli.inputs import OnOption
from dataplane.cli.output import refuse, say
from dataplane.terminal import columns, console, printable, printable_lines, wrapped

if TYPE_CHECKING:
    from dataplane.cli.cluster.workers import Workers
    from dataplane.insight.cases import BrokenCase, Case
    from dataplane.insight.suite import Result

EXIT_USAGE = 2
_COLOURS = {"passed": "green", "failed": "red", "error": "yellow"}


def run_cases(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH...", help="Files *.test.yaml, and folders: all such files and cases in them."),
    ],
    keyword: Annotated[
        list[str] | None,
        typer.Option("-k", metavar="TEXT", help="Only cases with this in their name; may be repeated."),
    ] = None,
    stop: Annotated[bool, typer.Option("-x", help="Stop at the first case that does not pass.")] = False,
    junit: Annotated[str | None, typer.Option(metavar="FILE", help="Write a report in JUnit's XML.")] = None,
    report: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write a page of HTML for people: each case, and why it failed.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Run again whenever a file changes, until Ctrl-C.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Write reports over a file even if it is a capture or a policy.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
    on: OnOption = None,
) -> None:
    """Run cases of what a policy should do; exit status 1 when one fails, with what came instead and why.

    A folder with policy.yaml and expect.yaml is a case, and so is a file *.test.yaml: a policy, packets one a line or a
    capture, changes, expectations. Exit status 2: a case cannot be read; 3: a capture cannot.

    \b
    Examples:
      dataplane test tests/ --junit report.xml
      dataplane test tests/ --report report.html
      dataplane test ssh.test.yaml -k office -x --watch
      dataplane test tests/ --on dask
    """
    _check_paths(paths, {"--junit": junit, "--report": report}, force=force)
    if watch:
        _watch_library()
    with ExitStack() as stack:
        workers = _workers(stack, on) if on else None

        def run() -> int:
            return _run(paths, keyword or (), workers, stop=stop, junit=junit, report=report, as_json=as_json)

        status = run()
        if watch:
            for _ in _changes(paths, [junit, report]):
                say("")
                status = run()
    raise typer.Exit(status)


def _check_paths(paths: Sequence[str], outputs: Mapping[str, str | None], *, force: bool) -> None:
    from dataplane.insight.case_files import files_of_cases
    from dataplane.outputs import OutputError, check_outputs, check_writable

    for path in paths:
        if not Path(path).exists():
            refuse(f"{path}: there is no such file or folder: name files *.test.yaml, or folders of them")
    try:
        check_outputs(outputs, files_of_cases(paths) if any(outputs.values()) else paths, force=force)
        for path in filter(None, outputs.values()):
            check_writable(path)
    except OutputError as error:
        refuse(str(error))
    except OSError as error:
        refuse(f"{error.filename}: it cannot be written: {error.strerror}")
    if outputs["--junit"]:
        _junit_library()
    if outputs["--report"]:
        _report_library()


def _workers(stack: ExitStack, on: str) -> Workers:
    from dataplane.cli.cluster.workers import Workers
    from dataplane.cli.interrupt import Interrupt

    return Workers(stack, on, Interrupt())


def _results(cases: Iterable[Case | BrokenCase], workers: Workers | None) -> Iterator[Result]:
    """What comes of cases, in their order."""
    from dataplane.insight.suite import run_case

    if workers is None:
        yield from map(run_case, cases)
        return
    from dataplane.cli.cluster.cases import results_there

    yield from results_there(workers, cases)


def _run(
    paths: Sequence[str],
    keywords: Sequence[str],
    workers: Workers | None,
    *,
    stop: bool,
    junit: str | None,
    report: str | None,
    as_json: bool,
) -> int:
    from dataplane.insight.cases import find_cases

    results: list[Result] = []
    left_out = 0
    # Of cases that workers run, some are found that do not count once it has stopped.
    left_out_before: list[int] = []

    def wanted() -> Iterator[Case | BrokenCase]:
        nonlocal left_out
        for case in find_cases(paths):
            if keywords and not any(keyword.lower() in case.name.lower() for keyword in keywords):
                left_out += 1
            else:
                left_out_before.append(left_out)
                yield case

    for result in _results(wanted(), workers):
        results.append(result)
        if not as_json:
            _print(result)
        if stop and result.status:
            left_out = left_out_before[len(results) - 1]
            break
    counts = {outcome: sum(r.outcome == outcome for r in results) for outcome in _COLOURS}
    if as_json:
        typer.echo(json.dumps({"cases": [r.to_dict() for r in results], **counts}, indent=2))
    else:
        _print_counts(counts, left_out, sum(r.seconds for r in results))
    if junit:
        _write_junit(results, junit)
    if report:
        _write_report(paths, results, left_out, report)
    if not results:
        say("no case was run" + (f": none of {left_out} has {' or '.join(keywords)} in its name" if keywords else ""))
        return EXIT_USAGE
    # A case that could not be read is worse than one that failed (SPEC 7).
    return next((status for status in (2, 3, 1) if any(r.status == status for r in results)), 0)


def _print(result: Result) -> None:
    from rich.text import Text

    outcome = (result.outcome, _COLOURS[result.outcome])
    console(sys.stdout).print(Text.assemble(outcome, f" {printable(result.name)}"), soft_wrap=True)
    width = columns()
    for line in result.told.split("\n") if result.told else ():
        for part in wrapped(f"  {line}", width):
            say(part)


def _print_counts(counts: dict[str, int], left_out: int, seconds: float) -> None:
    errors = counts["error"]
    words = [f"{counts['passed']} passed", *([f"{counts['failed']} failed"] if counts["failed"] else [])]
    words += [f"{errors} {'error' if errors == 1 else 'errors'}"] if errors else []
    words += [f"{left_out} left out"] if left_out else []
    say(f"{', '.join(words)} in {seconds:.2f} s")


def _junit_library() -> None:
    from dataplane.installation import how_to_install

    try:
        import junitparser  # noqa: F401
    except ModuleNotFoundError:
        refuse(f"--junit needs junitparser: {how_to_install('test')} brings it")


def _write_junit(results: Iterable[Result], path: str) -> None:
    from junitparser import Error, Failure, JUnitXml, TestCase, TestSuite

    from dataplane.outputs import OutputFile

    suite = TestSuite("dataplane")
    for result in results:
        # XML has no place for what does not print, whatever ids, names and files hold.
        told_text = printable_lines(result.told)
        file, _, name = printable(result.name).partition("::")
        case = TestCase(name or file, classname=file, time=result.seconds)
        if result.status:
            kind = Failure if result.outcome == "failed" else Error
            # Its place, its packet, and what came instead.
            told = kind(" ".join(map(str.strip, told_text.split("\n")[:3])))
            told.text = told_text
            case.result = [told]
        suite.add_testcase(case)
    report = JUnitXml("dataplane")
    report.add_testsuite(suite)
    report.update_statistics()  # type: ignore[no-untyped-call]
    try:
        file_made = OutputFile(path)
        report.write(file_made.path, pretty=True)
        file_made.keep()
    except OSError as error:
        refuse(f"{path}: it cannot be written: {error.strerror}")


def _report_library() -> None:
    try:
        import dataplane.report  # noqa: F401
    except ModuleNotFoundError as error:
        refuse(str(error))


def _write_report(paths: Sequence[str], results: Sequence[Result], left_out: int, path: str) -> None:
    from dataplane.cli.report_file import ReportFile
    from dataplane.report.cases import cases_page

    try:
        with ExitStack() as stack:
            # Whether it may be written was asked before; by now it may be the page of a run before.
            ReportFile(stack, path, paths, force=True).write(cases_page(paths, results, left_out))
    except OSError as error:
        refuse(f"{path}: it cannot be written: {error.strerror}")


def _watch_library() -> None:
    from dataplane.installation import how_to_install

    try:
        import watchfiles  # noqa: F401
    except ModuleNotFoundError:
        refuse(f"--watch needs watchfiles: {how_to_install('test')} brings it")


def _changes(paths: Sequence[str], reports: Sequence[str | None]) -> Iterable[object]:
    """Each time that something changed beside the cases, but for what a run writes itself: that would never end."""
    from watchfiles import DefaultFilter, watch

    usual = DefaultFilter()
    folders = {str(path if path.is_dir() else path.parent) for path in map(Path, paths)}
    sys.stdout.flush()
    return watch(
        *sorted(folders),
        watch_filter=lambda change, path: usual(change, path) and not _is_written(path, reports),
        raise_interrupt=False,
    )


def _is_written(path: str, reports: Sequence[str | None]) -> bool:
    """Whether a file is one of the reports, or becomes one when it is whole, or takes what is printed."""
    folder, name = os.path.split(os.path.realpath(path))
    for report in map(os.path.realpath, filter(None, reports)):
        if folder == os.path.dirname(report) and name.removeprefix(".").startswith(os.path.basename(report)):
            return True
    try:
        return any(os.path.samestat(os.stat(path), os.fstat(number)) for number in (1, 2))
    except OSError:
        return False
