"""`python -m trainer.launch GPUS DIR ...`: train on several GPUs by `accelerate launch`, without
its report of a failure.

The processes themselves print the error in one line. ACCELERATE_USE_CPU=true launches them on a
CPU.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from contextlib import suppress
from types import FrameType
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
            "error: python -m trainer.launch GPUS DIR [--resume] [--extend] [--now] "
            "[--allow-import] [KEY=VALUE ...], with 2 GPUs or more\n"
        )
        return Exit.USAGE
    try:
        return _launch(given)
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted\n")
        return Exit.INTERRUPTED


def _launch(given: list[str]) -> int:
    # Importing these takes seconds.
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    _pass_signals_on()
    try:
        launch_command(launch_command_parser().parse_args(arguments(given[0], given[1:])))
    except ChildFailedError as failure:
        return int(failure.get_first_failure()[1].exitcode)
    except SignalException as error:
        raise KeyboardInterrupt from error
    return Exit.DONE


def _pass_signals_on() -> None:
    """Pass the signals that ask to stop on to the processes, which save and end by themselves.

    The launcher's own handlers would kill them after half a minute, in the middle of a long step.
    """
    if sys.platform == "win32":  # it has no signals between processes
        return
    import psutil  # accelerate needs it, too

    def send(signum: int, frame: FrameType | None) -> None:
        children = psutil.Process().children()
        if not children:
            raise KeyboardInterrupt
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.send_signal(signum)

    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGQUIT"
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, send)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
