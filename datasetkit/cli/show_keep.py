"""What `dsk keep` prints for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datasetkit.cli.console import say, warn
from datasetkit.cli.show import from_here, history_hint
from datasetkit.core.files import display

if TYPE_CHECKING:
    from datasetkit.verbs.keep import KeepResult


def kept(result: KeepResult, dry_run: bool) -> None:
    verbs = {"copied": "copied", "replaced": "replaced", "present": "is there already:"}
    verb = "would be " + verbs[result.state] if dry_run else verbs[result.state]
    verb = verbs["present"] if result.state == "present" else verb
    undo = history_hint(result.entry, result.source)
    say(f"{display(result.source.name)} {verb} {from_here(result.file)}{undo}")
    for path in result.changed:
        if path != result.file:
            say(f"  {display(path.name)}")
    for note in result.notes:
        warn(note)
    say(f"prompt in A1111: {display(result.prompt)}")
    strength = f", strength {result.weight:g}" if result.weight else ""
    say(f"in ComfyUI: the node Load LoRA, {display(result.file.name)}{strength}")
    say(f"A1111 lists it while a checkpoint of its family is loaded: {result.family}", "dim")
