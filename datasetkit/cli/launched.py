"""One process of a training that was launched on several: the main one shows the plan, and the
first to fail reports the error.

    accelerate launch -m datasetkit.cli.launched dsk.toml [--resume] [--dry-run] [--allow-import]
        [KEY=VALUE ...]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from datasetkit.api import RunContext, plan_training, train
from datasetkit.cli import console, show_train
from datasetkit.core.errors import DskError, Exit
from datasetkit.core.progress import SILENT
from datasetkit.verbs.train import is_first_failure, launched_processes, read_setting

_SWITCHES: Final = ("--resume", "--dry-run", "--allow-import")


def main(arguments: list[str]) -> int:
    """Train as a dsk.toml (or its folder) says; return the exit code.

    An error is printed once, by the process that failed first; the launcher ends the others.
    """
    try:
        return _run(arguments)
    except DskError as error:
        if is_first_failure():
            console.complain(error.message, error.hint, error.details)
        return error.exit_code
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except Exception:
        # A process that waits for another one fails when that one ends: its error is not the cause.
        if is_first_failure():
            raise
        return Exit.INTERNAL


def _run(arguments: list[str]) -> int:
    resume, dry_run, allow_import = (switch in arguments for switch in _SWITCHES)
    rest = [argument for argument in arguments if argument not in _SWITCHES]
    path = Path(rest[0]) if rest else Path()
    settings = dict(read_setting(text) for text in rest[1:])
    processes = launched_processes()
    plan = plan_training(
        path,
        settings=settings,
        processes=processes.num_processes,
        allow_import=allow_import,
        resume=resume,
    )
    if not processes.is_main_process:
        train(plan, RunContext(dry_run=dry_run, reporter=SILENT), resume=resume)
        return Exit.DONE
    show_train.plan(plan, dry_run)
    with console.bars() as reporter:
        result = train(plan, RunContext(dry_run=dry_run, reporter=reporter), resume=resume)
    show_train.trained(result, dry_run)
    return Exit.SOME_FAILED if result.failed else Exit.DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
