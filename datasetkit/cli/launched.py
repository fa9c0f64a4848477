"""What each process of a launched training does: the main one shows the plan, and whoever fails
first says why.
"""

from __future__ import annotations

from pathlib import Path

from datasetkit.cli import console, train, train_plan
from datasetkit.core.errors import DskError, Exit
from datasetkit.core.progress import SILENT
from trainer.config import setting
from trainer.device import first_to_fail, processes
from trainer.monitor.prompts import read as read_prompts


def main(arguments: list[str]) -> int:
    """Train as a dsk.toml (or its folder) says. Arguments: its path, `--resume`, and settings as
    key=value.

    Return the exit code. What goes wrong is said once, by the process that it befell first; the
    launcher ends the others.
    """
    try:
        return _run(arguments)
    except DskError as error:
        if first_to_fail():
            console.complain(error.message, error.hint)
        return error.exit_code
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except Exception:
        # A process that waits for another one fails too when that one ends; what was amiss has been
        # said.
        if first_to_fail():
            raise
        return Exit.INTERNAL


def _run(arguments: list[str]) -> int:
    resume, dry_run = "--resume" in arguments, "--dry-run" in arguments
    rest = [argument for argument in arguments if argument not in ("--resume", "--dry-run")]
    path = Path(rest[0]) if rest else Path()
    folder = path.parent if path.is_file() else path
    given = dict(setting(text) for text in rest[1:])
    state = processes()
    options, plan, _ = train.planned(folder, None, None, given, processes=state.num_processes)
    read_prompts(options)  # what is wrong with them is said before the plan is
    if not state.is_main_process:
        if not dry_run:
            train.trained(options, plan, resume, False, SILENT)
        return Exit.DONE
    train_plan.show(train_plan.look(options, plan, {}))
    with console.bars() as reporter:
        for notice in plan.notices:
            reporter.warn(notice)
        if not dry_run:
            train.show_result(train.trained(options, plan, resume, False, reporter))
    return Exit.SOME_FAILED if plan.failed else Exit.DONE
