"""The one body that all commands share: bars on, call the api, show or print JSON, exit code."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TypeVar

import typer

from datasetkit.cli import console
from datasetkit.core.errors import Exit
from datasetkit.core.records import Failed, RunReport
from datasetkit.project.session import RunContext

Result = TypeVar("Result")


def verb(
    name: str,
    call: Callable[[ModuleType, RunContext], Result],
    show: Callable[[Result, bool], None],
    json: bool,
    dry_run: bool = False,
    wait: bool = False,
) -> Result:
    """Run a verb that works on a project; exit 3 when some items failed."""
    from datasetkit import api

    with console.bars() as reporter:
        result = call(api, RunContext(dry_run=dry_run, wait=wait, reporter=reporter))
    if json:
        console.show_json(
            {"verb": name, "dry_run": dry_run, "result": result, "warnings": reporter.warnings}
        )
    else:
        show(result, dry_run)
    if failures(result):
        raise typer.Exit(Exit.SOME_FAILED)
    return result


def look(
    name: str, call: Callable[[ModuleType], Result], show: Callable[[Result], None], json: bool
) -> Result:
    """Run a verb that only looks."""
    from datasetkit import api

    result = call(api)
    if json:
        console.show_json({"verb": name, "result": result})
    else:
        show(result)
    return result


def failures(result: object) -> tuple[Failed, ...]:
    """Return the items that failed in any verb's result."""
    report = getattr(result, "report", None)
    if isinstance(report, RunReport):
        return tuple(report.failed)
    return tuple(getattr(result, "failed", ()))
