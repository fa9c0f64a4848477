"""`python -m trainer.launch GPUS DIR ...`: train on several GPUs by `accelerate launch`, without
its report of a failure.

The processes themselves print the error in one line. ACCELERATE_USE_CPU=true launches them on a
CPU.
"""

from __future__ import annotations

import logging
import sys
from typing import Final

from datasetkit.core.errors import Exit

# One machine and a free port; everything else is decided by the run's options.
_LAUNCH: Final = (
    "--multi_gpu", "--num_machines", "1", "--main_process_port", "0", "--mixed_precision", "no",
    "--dynamo_backend", "no",
)  # fmt: skip


# What each process runs: a command line, which stands above the trainer and is named, not imported.
_PROGRAM: Final = "datasetkit.cli.launched"


def arguments(processes: str, given: list[str]) -> list[str]:
    """Return the arguments of `accelerate launch`. given: those of each process."""
    return [*_LAUNCH, "--num_processes", processes, "-m", _PROGRAM, *given]


def main(given: list[str]) -> int:
    """Launch the processes and wait; return the exit code of the first one that failed, 0
    for none.
    """
    if len(given) < 2 or not given[0].isdecimal() or int(given[0]) < 2:
        sys.stderr.write(
            "error: python -m trainer.launch GPUS DIR [--resume] [--allow-import] "
            "[KEY=VALUE ...], with 2 GPUs "
            "or more\n"
        )
        return Exit.USAGE
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    try:
        launch_command(launch_command_parser().parse_args(arguments(given[0], given[1:])))
    except ChildFailedError as failure:
        return int(failure.get_first_failure()[1].exitcode)
    except (KeyboardInterrupt, SignalException):
        sys.stderr.write(
            "error: interrupted\nhint: add --resume to continue from the newest state\n"
        )
        return Exit.INTERRUPTED
    return Exit.DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
