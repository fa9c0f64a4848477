"""The process of a job from the queue: run its command line, and record how it ends.

    python -m datasetkit.cli.job ID

The options come from the job's folder, never from this process's own arguments.
"""

from __future__ import annotations

import sys

from datasetkit.cli import main
from datasetkit.cli.console import complain
from datasetkit.core.errors import DskError
from datasetkit.core.stopping import end_by_signals
from datasetkit.verbs.shared.job import execute


def run(job_id: str) -> int:
    """Run a job; return the exit code of its command."""
    end_by_signals()
    try:
        return execute(job_id, main.run)
    except DskError as error:
        complain(error.message, error.hint)
        return int(error.exit_code)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1]))
