"""The process of a dry run of the page: it reads a command line from stdin, as a JSON list, and
prints what `--dry-run --json` prints.

    echo '["tag", "imgs"]' | python -m datasetkit.cli.dry_run
"""

from __future__ import annotations

import json
import sys

from datasetkit.cli import main
from datasetkit.core.stopping import end_by_signals

if __name__ == "__main__":
    end_by_signals()
    sys.exit(main.run([*json.loads(sys.stdin.buffer.read()), "--dry-run", "--json"]))
