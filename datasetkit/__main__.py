"""`dsk`, also as `python -m datasetkit`. An interrupt while the program is still imported ends it
with the exit code and without a traceback; nothing heavy is imported before that holds.
"""

import gc
import os
import signal

_INTERRUPTED = 130  # Exit.INTERRUPTED, which is not imported yet


def main() -> None:
    """Import the commands, run `dsk` and exit with its code."""
    # A signal that was ignored when the process started, as by nohup, stays ignored.
    listens = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if listens:
        signal.signal(signal.SIGINT, lambda *_: os._exit(_INTERRUPTED))
    # Importing leaves no garbage, and at exit the process frees everything at once: collecting
    # would take 50 ms of 350. A command enables it.
    gc.disable()
    from datasetkit.cli import main as command_line

    command_line.register_commands()
    if listens:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        command_line.main()
    except KeyboardInterrupt:  # before or after all that a command does
        os._exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
