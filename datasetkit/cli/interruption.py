"""What a command that was interrupted has left behind, and what to type next."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from datasetkit.core.files import display

# What the same command does after an interruption. A plan is either not begun, or the next command
# completes it; stages keep each finished image, scores and measurements are stored in batches.
_STAGE = "finished images are kept; the same command makes the others"
_PLAN = "the same command starts again, and first completes what is half done"
_NOTHING = "nothing was changed; the same command starts again"
_AFTER = {
    "init": _PLAN,
    "rename": _PLAN,
    "rules": _PLAN,
    "layout": _PLAN,
    "reg": _PLAN,
    "report": _PLAN,
    "export": _PLAN,
    "import": _PLAN,
    "resize": _STAGE,
    "cutout": _STAGE,
    "faces crop": _STAGE,
    "faces erase": _STAGE,
    "reg generate": "finished images are kept; the same command generates the others",
    "grid": "finished images are kept; the same command draws the others",
    "tag": "scores are stored, captions are written at the end; the same command scores the others",
    "caption": "descriptions are stored, captions are written at the end; the same command "
    "describes the others",
    "check": "measurements are stored; the same command measures the other images",
    "faces list": "faces that were found are stored; the same command searches the other images",
    "run": "finished steps and images are kept; the same command does the rest",
    "review": "edits are kept as they were made; the same command opens the page again",
    "studio": "edits and trainings are kept; the same command opens the page again",
    "models download": "what was downloaded is kept; the same command downloads the rest",
    # A second undo would undo one command more.
    "undo": "dsk history shows what is undone; the next command completes a half-done undo",
    "train": _NOTHING,  # before there is a plan
    "history": "dsk history shows what is still half done",
    "plan-repeats": _PLAN,
    "scores": _NOTHING,
    "doctor": _NOTHING,
    "find-lr": _NOTHING,
    "lora info": _NOTHING,
    "lora check": _NOTHING,
    "lora resize": _PLAN,
    "lora convert": _PLAN,
    "lora merge": _PLAN,
    "lora extract": _PLAN,
    "keep": _PLAN,
    "publish": "the hub takes all files at once or none; the same command uploads them again",
    "jobs list": _NOTHING,
    "jobs stop": _NOTHING,
    "jobs add": _NOTHING,
    "jobs ask": _NOTHING,
    "jobs resume": _NOTHING,
    "jobs log": _NOTHING,
    "jobs hold": _NOTHING,
    "jobs move": _NOTHING,
    "jobs remove": _NOTHING,
    "jobs runner": "jobs that were started go on; the same command starts those that wait",
    "models list": _NOTHING,
    "models where": _NOTHING,
    "rules groups": _NOTHING,
}


@dataclass(frozen=True, slots=True)
class NextStep:
    """What an interrupted command has left, and the command that goes on, "" for the same one."""

    hint: str
    command: str = ""


# Asked after an interruption; it knows more than the table, None where it does not.
_details: list[Callable[[Sequence[str]], NextStep | None]] = []


def ask_when_interrupted(describe: Callable[[Sequence[str]], NextStep | None]) -> None:
    """Let a command that has begun say itself what an interruption leaves.

    describe: is given the command line, without `dsk`.
    """
    _details[:] = [describe]


def forget() -> None:
    """Forget what an earlier command had to say."""
    _details.clear()


def next_step(arguments: Sequence[str], commands: Collection[str]) -> NextStep:
    """Return what the interrupted command line has left, and what to do next."""
    if step := described(arguments):
        return step
    words = [word for word in arguments if not word.startswith("-")]
    names = (" ".join(words[:2]), *words[:1])
    name = next((name for name in names if name in commands), "")
    if "--dry-run" in arguments:
        return NextStep(_NOTHING)
    return NextStep(_AFTER.get(name, _NOTHING))


def described(arguments: Sequence[str]) -> NextStep | None:
    """Return what the command itself says of an interruption, None where it says nothing."""
    for describe in _details:
        with suppress(Exception):  # a hint must not become an error
            return describe(arguments)
    return None


def typed(arguments: Sequence[str], *more: str) -> str:
    """Return a command line as one would type it, with more options."""
    words = list(arguments)
    end = words.index("--") if "--" in words else len(words)  # after it a word is not an option
    words[end:end] = [word for word in more if word not in words[:end]]
    return shell_line([*_program(), *words])


def dsk_line(*words: str) -> str:
    """Return a command of dsk as one would type it."""
    return shell_line([*_program(), *words])


def shell_line(words: Sequence[str]) -> str:
    """Return words as a line for bash and zsh that can be printed and pasted."""
    return " ".join(map(_shell_word, words))


def _shell_word(word: str) -> str:
    if display(word) == word:
        return shlex.quote(word)
    escaped = ""
    for char in word:
        if 0xDC80 <= ord(char) <= 0xDCFF:  # a byte that is not UTF-8, as Python carries it
            escaped += f"\\x{ord(char) - 0xDC00:02x}"
        elif display(char) != char:  # it would be printed as something else
            escaped += f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"
        else:
            escaped += f"\\{char}" if char in "\\'" else char
    return f"$'{escaped}'"


def _program() -> list[str]:
    """Return how dsk was called: where it is not installed, `python -m datasetkit`."""
    as_module = Path(sys.argv[0]).parts[-2:] == ("datasetkit", "__main__.py")
    return ["python", "-m", "datasetkit"] if as_module else ["dsk"]
