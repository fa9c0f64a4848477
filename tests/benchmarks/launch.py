"""Runs one command and writes what it cost, from a process so small that its own memory hides
nothing.

python -S -E launch.py COSTS COMMAND ... (exec keeps the memory mark of whoever starts a process:
Linux, getrusage(2))
"""

import json
import os
import sys
import time


def launch(costs: str, command: list[str]) -> int:
    """Run a command to its end; write [seconds, CPU seconds, peak in the system's unit] and return
    its exit code.
    """
    begun = time.perf_counter()
    child = os.posix_spawnp(command[0], command, os.environ)
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - begun
    with open(costs, "w", encoding="utf-8") as file:  # noqa: PTH123 - pathlib would cost more than all the rest
        json.dump([seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss], file)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(launch(sys.argv[1], sys.argv[2:]) != 0)
