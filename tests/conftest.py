"""What the whole test run depends on."""

import importlib.util
import os
import signal
import tempfile

TRAINER = importlib.util.find_spec("torch") is not None
collect_ignore_glob = [] if TRAINER else ["trainer/*"]
if not TRAINER:  # plans are tested all the same; only their last line needs the packages
    from trainer.plan import run_checks

    run_checks.PACKAGES = ()
# A shell that starts a command in the background has it ignore Ctrl-C, and nohup has it ignore the
# end of the terminal. Tests send both, and child processes ignore what their parent does.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
# The secret that signs journals: not that of the person who runs the tests. Child processes get it.
_STATE = tempfile.TemporaryDirectory(prefix="dsk-tests-state-")
os.environ["XDG_STATE_HOME"] = _STATE.name


def pytest_report_header() -> str:
    return (
        ""
        if TRAINER
        else "without PyTorch: the trainer's tests are left out; make test TRAIN=1 runs them"
    )
