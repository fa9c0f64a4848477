"""One process of a training that was launched on several: the main one shows the plan, and the
first to fail reports the error.

    accelerate launch -m datasetkit.cli.launched dsk.toml [--resume] [--extend] [--dry-run]
        [--now] [--allow-import] [KEY=VALUE ...]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from datasetkit.api import RunContext, plan_training, train
from datasetkit.cli import console, show_train
from datasetkit.cli.interruption import shell_line
from datasetkit.core.errors import DskError, Exit
from datasetkit.core.stopping import RunPause, Terminated
from datasetkit.verbs.train import is_first_failure, launched_processes, read_setting

if TYPE_CHECKING:
    from datasetkit.verbs.shared.training_plan import PlanTrainingResult

_SWITCHES: Final = ("--resume", "--extend", "--dry-run", "--now", "--allow-import")


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
    except Terminated as error:
        return 128 + error.signum
    except Exception:
        # A process that waits for another one fails when that one ends: its error is not the cause.
        if is_first_failure():
            raise
        return Exit.INTERNAL


def _run(arguments: list[str]) -> int:
    resume, extend, dry_run, now, allow_import = (switch in arguments for switch in _SWITCHES)
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
        extend=extend,
    )
    if not processes.is_main_process:
        return _train_silently(plan, RunContext(dry_run=dry_run, now=now), processes)
    show_train.plan(plan, dry_run)
    command = shell_line(
        ["python", "-m", "trainer.launch", str(processes.num_processes), *arguments]
        + ["--resume"] * (not resume)
    )
    try:
        with console.bars() as reporter:
            result = train(plan, RunContext(dry_run=dry_run, now=now, reporter=reporter))
    except RunPause as pause:
        console.paused(pause.message, command)
        processes.wait_for_everyone()  # the first process that ends would end this one
        return pause.exit_code
    except (KeyboardInterrupt, Terminated):
        step = show_train.next_step(plan, command)
        console.complain("interrupted", step.hint, step.command)
        raise
    show_train.trained(result, dry_run)
    return Exit.SOME_FAILED if result.failed else Exit.DONE


def _train_silently(plan: PlanTrainingResult, context: RunContext, processes: Any) -> int:
    try:
        train(plan, context, as_job=False)
    except RunPause as pause:
        processes.wait_for_everyone()
        return pause.exit_code
    return Exit.DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
