"""`accelerate launch -m trainer dsk.toml`: one run on all the processes that were launched."""

from __future__ import annotations

import sys
from pathlib import Path

from datasetkit.core.config import find
from datasetkit.core.errors import DskError
from trainer.config import data_folder, of_project, setting
from trainer.place import processes
from trainer.plan import find_subsets, make_plan
from trainer.run import train


def main(arguments: list[str]) -> int:
    """Train as a dsk.toml (or its folder) says. Arguments: its path, `--resume`, and settings as key=value."""
    resume = "--resume" in arguments
    rest = [argument for argument in arguments if argument != "--resume"]
    path = Path(rest[0]) if rest else Path()
    folder = path.parent if path.is_file() else path
    config = find(folder)
    options = of_project(config, dict(setting(text) for text in rest[1:]))
    subsets, notices = find_subsets(data_folder(folder, config), options)
    state = processes()
    plan = make_plan(subsets, options, processes=state.num_processes, notices=notices)
    result = train(options, plan, resume=resume)
    if state.is_main_process:
        told = [*plan.notices, f"{result.steps - result.start} steps, loss {result.loss:.4f}", *map(str, result.files)]
        sys.stderr.write("".join(f"{line}\n" for line in told))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except DskError as failure:
        sys.stderr.write(f"error: {failure.message}\n" + (f"hint: {failure.hint}\n" if failure.hint else ""))
        sys.exit(failure.exit_code)
