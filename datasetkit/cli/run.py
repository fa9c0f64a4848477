"""The body that all commands share: call the verb, show its result or print it as JSON, exit with
its code.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

import typer

from datasetkit.cli import console
from datasetkit.core import file_kinds
from datasetkit.core.errors import Exit
from datasetkit.core.records import Failed, RunReport, unused_files
from datasetkit.verbs.shared import job
from datasetkit.verbs.shared.executor import connected

if TYPE_CHECKING:
    from datasetkit.api import RunContext
    from datasetkit.options.executor import ExecutorOptions

Result = TypeVar("Result")


def verb(
    name: str,
    call: Callable[[ModuleType, RunContext], Result],
    show: Callable[[Result, bool], None],
    json: bool,
    dry_run: bool = False,
    wait: bool = False,
    executor: ExecutorOptions | None = None,
    *,
    now: bool = False,
) -> Result:
    """Run a verb and show its result; raise Exit 3 when some items failed. executor: where it works
    on images. now: it uses a GPU also while another run does.
    """
    from datasetkit import api

    with (
        console.bars() as reporter,
        job.registered(name, reporter, dry_run=dry_run) as recording,
        connected(executor) as cluster,
    ):
        result = call(api, api.RunContext(dry_run, wait, recording, cluster, now))
    failed = failures(result)
    left_out = unused_files(result)
    notices = filter(None, (file_kinds.summary(left_out), file_kinds.subfolder_summary(left_out)))
    if json:
        for notice in notices:
            reporter.warn(notice)
        warnings = dict.fromkeys([*reporter.warnings, *getattr(result, "warnings", ())])
        console.show_json(
            {
                "verb": name,
                "dry_run": dry_run,
                "result": result,
                "warnings": list(warnings),
                "failed": failed,
                "unused_files": left_out,
            }
        )
    else:
        show(result, dry_run)
        for notice in notices:
            reporter.warn(notice)
        if line := file_kinds.system_summary(left_out):
            console.remark(line)
    if failed:
        raise typer.Exit(Exit.SOME_FAILED)
    return result


def look(
    name: str, call: Callable[[ModuleType], Result], show: Callable[[Result], None], json: bool
) -> Result:
    """Run a verb that changes nothing."""
    return verb(name, lambda api, _: call(api), lambda result, _: show(result), json)


def failures(result: object) -> tuple[Failed, ...]:
    """Return the items that failed in any verb's result."""
    report = getattr(result, "report", None)
    if isinstance(report, RunReport):
        captions = getattr(result, "captions", None)
        return (*report.failed, *getattr(captions, "failed", ()))
    return tuple(getattr(result, "failed", ()))
