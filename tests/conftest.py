"""What the whole test run depends on."""

import importlib.util

TRAINER = importlib.util.find_spec("torch") is not None
collect_ignore_glob = [] if TRAINER else ["trainer/*"]


def pytest_report_header() -> str:
    return (
        ""
        if TRAINER
        else "without PyTorch: the trainer's tests are left out; make test TRAIN=1 runs them"
    )
