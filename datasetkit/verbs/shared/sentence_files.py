"""Sentences in files of their own: `<stem>.caption` beside the `.txt` with the tags."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from datasetkit.captions import encodings
from datasetkit.captions.caption import joined_lines
from datasetkit.captions.diffs import CaptionChange
from datasetkit.core.errors import DskError
from datasetkit.core.files import MAX_CAPTION_BYTES, read_regular
from datasetkit.core.records import Caption, Done, Failed, Outcome, Skipped
from datasetkit.project.kept_edits import keep_edits, kept_edit
from datasetkit.project.plans import Plan, WriteText
from datasetkit.project.session import Project
from datasetkit.project.store import caption_hash

SUFFIX = ".caption"
BY_PERSON = "its .caption file was written or edited by a person"


def write_sentence_files(
    project: Project, texts: Sequence[Outcome[str]], existing: str, title: str
) -> tuple[tuple[Outcome[Caption], ...], tuple[CaptionChange, ...], int | None]:
    """Write the files that differ, as one plan; a file that is saved meanwhile is kept."""
    decided = [_decided(project, text, existing) for text in texts]

    def attempt(kept: Collection[Path], _: Collection[Path]) -> int | None:
        writes = [op for _, op, _ in decided if op is not None and op.path not in kept]
        hashes = [
            caption_hash(outcome.value)
            for outcome, op, is_own in decided
            if isinstance(outcome, Done) and op is not None and op.path not in kept and is_own
        ]
        return project.apply(Plan(tuple(writes)), "caption", title, generated=hashes)

    entry, kept = keep_edits(project, attempt, again=False)
    outcomes: list[Outcome[Caption]] = []
    changes: list[CaptionChange] = []
    for outcome, op, _ in decided:
        if op is not None and op.path in kept and isinstance(outcome, Done):
            outcomes.append(kept_edit(outcome.record.path))
            continue
        outcomes.append(outcome)
        if op is not None and isinstance(outcome, Done):
            old = encodings.decode_utf8(op.over or b"")
            before = Caption((" ".join(old.split()),)) if old and old.strip() else None
            changes.append(CaptionChange(op.path, before, outcome.value))
    return tuple(outcomes), tuple(changes), entry


def _decided(
    project: Project, text: Outcome[str], existing: str
) -> tuple[Outcome[Caption], WriteText | None, bool]:
    """Return the outcome of an image, the write if its file changes, and whether dsk wrote all of
    the new text.
    """
    if not isinstance(text, Done):
        return text, None, False
    path = text.record.path.with_suffix(SUFFIX)
    try:
        data = read_regular(path, limit=MAX_CAPTION_BYTES)
    except DskError as error:
        return Failed(text.record.path, error.message, error.hint), None, False
    old = encodings.decode_utf8(data or b"")
    if old is None:
        return (
            Failed(text.record.path, f"{path.name} is not UTF-8 text", "save it as UTF-8"),
            None,
            False,
        )
    new, plain = text.value, " ".join(old.split())
    is_by_person = bool(plain) and not project.store.generated([Caption((plain,))])
    if is_by_person and existing == "skip":
        return Skipped(text.record, BY_PERSON), None, False
    if is_by_person and existing != "overwrite":
        new = joined_lines([plain, new] if existing == "append" else [new, plain])
    caption = Caption((new,))
    is_own = not is_by_person or existing == "overwrite"
    op = None if plain == new else WriteText(path, f"{new}\n", data)
    return Done(text.record, caption), op, is_own
