"""`accelerate launch -m trainer dsk.toml`: one run on all the processes that were launched."""

from __future__ import annotations

import sys

from datasetkit.cli.launched import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
