"""`dsk caption`: let a model describe images in sentences, and write them to captions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datasetkit.captions.caption_names import misnamed_captions, misnamed_warnings
from datasetkit.captions.diffs import CaptionChange
from datasetkit.captions.grammar import ends_as_sentence
from datasetkit.core.files import display
from datasetkit.core.records import Caption, Done, ImageRecord, Outcome, RunReport
from datasetkit.core.words import counted
from datasetkit.images.scan import require_images
from datasetkit.options.caption import CaptionOptions
from datasetkit.outputs.visible import require_visible
from datasetkit.project.session import (
    DEFAULT_CONTEXT,
    Project,
    RunContext,
    open_project,
    recover_projects,
)
from datasetkit.verbs.shared import describing
from datasetkit.verbs.shared.caption_joins import Joiner, kinds_of, require_join
from datasetkit.verbs.shared.caption_writes import decide_current, scan_to_write, write_captions
from datasetkit.verbs.shared.describing import Descriptions
from datasetkit.verbs.shared.sentence_files import write_sentence_files
from datasetkit.verbs.shared.triggers import captions_of, triggers_of, triggers_to_store


@dataclass(frozen=True, slots=True)
class Mention:
    """A sentence that mentions what the trigger should absorb. words: as they are in it."""

    path: Path
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CaptionResult:
    """What caption did, or would do in a dry run.

    report: one outcome per image; Done has the caption, or the sentence alone where it went to a
    file of its own (`sidecar`). engine, device: the model, and where it ran; "" if all descriptions
    were stored. described: images that the model was asked about; waiting: those that a dry run
    would ask about. prompt: that of the first image. mentions: sentences that mention what is
    excluded.
    """

    report: RunReport[Caption]
    engine: str
    device: str
    notice: str
    join: str
    prompt: str
    changes: Sequence[CaptionChange]
    warnings: tuple[str, ...]
    mentions: tuple[Mention, ...]
    described: int
    waiting: int
    entry: int | None


# The order of the work is that of `tag`: errors first, then the model, whose answers are stored by
# image, model, prompt and settings; the captions are read again, decided, and written as one plan.
def caption(
    folder: Path, options: CaptionOptions, context: RunContext = DEFAULT_CONTEXT
) -> CaptionResult:
    """Let a model describe the images of a folder, and write its sentences to their captions.

    A dry run asks no model: images without a stored description are skipped. Raises ConfigError,
    DatasetError, MissingExtra / ModelFileError, StorageError, in this order, before any work;
    ModelFileError also where a server fails for several images in a row.
    """
    asked = describing.question(folder, options)
    recover_projects([folder], context, recursive=options.recursive)
    listing = require_images(folder, recursive=options.recursive, follow_links=options.follow_links)
    require_visible(folder, options, context)
    join = require_join(options.join, kinds_of(listing.images))
    resolved = describing.resolve(options, asked)
    if resolved.notice:
        context.reporter.warn(resolved.notice)
    with open_project(folder, context) as project:
        scanned = scan_to_write(folder, listing, project, options)
        triggers = triggers_of(captions_of(scanned.records))
        words = {path: options.trigger or triggers[path.parent].words for path in scanned.paths}
        prompts = describing.prompts(folder, scanned.records, asked, words, project.store, options)
        described = describing.describe(scanned.records, resolved, prompts, project, options)
        outcomes: Sequence[Outcome[Caption]]
        changes: Sequence[CaptionChange]
        if join == "sidecar":
            outcomes, changes, entry = write_sentence_files(
                project, _texts(scanned.records, described, words), options.existing, _title(folder)
            )
        else:
            joiner = Joiner(join, options.existing, words)
            decisions = _SentenceDecisions(described, joiner, project)
            written = write_captions(
                project,
                decisions.first(scanned.records),
                "caption",
                _title(folder),
                decide=decisions.decide,
                is_generated=decisions.is_generated,
                also_generated=joiner.sentences_of,
                triggers=lambda after: triggers_to_store(
                    _common(words.values()), captions_of(scanned.records), after, triggers
                ),
            )
            outcomes, changes, entry = written.outcomes, written.changes, written.entry
    report = RunReport("caption", (*outcomes, *scanned.failed), scanned.left_out)
    mentions = tuple(
        Mention(done.record.path, mentioned)
        for done in report.done
        if (text := described.texts.get(done.record.path))
        and (mentioned := asked.exclusions.mentioned(text))
    )
    return CaptionResult(
        report=report,
        engine=resolved.identity.name,
        device=described.device,
        notice=resolved.notice,
        join=join,
        prompt=next(iter(prompts.values()), ""),
        changes=changes,
        warnings=_warnings(described, join, changes, scanned.records),
        mentions=mentions,
        described=described.asked,
        waiting=described.waiting,
        entry=entry,
    )


def _common(words: Iterable[Sequence[str]]) -> Sequence[str]:
    """Return the trigger that all images have, () if they have different ones. It is stored: where
    it is a part of a sentence, the captions do not tell it.
    """
    different = set(map(tuple, words))
    return different.pop() if len(different) == 1 else ()


def _title(folder: Path) -> str:
    return display(folder.resolve().name)


class _SentenceDecisions:
    """Decides captions from descriptions."""

    def __init__(self, described: Descriptions, joiner: Joiner, project: Project) -> None:
        self._described, self._joiner, self._store = described, joiner, project.store

    def first(self, records: Sequence[ImageRecord]) -> Sequence[Outcome[Caption]]:
        """Decide all captions: from their texts of now if the model took its time."""
        if not self._described.asked:
            return self.decide(records)
        return decide_current(records, self.decide, any_text=True)

    def decide(self, records: Sequence[ImageRecord]) -> list[Outcome[Caption]]:
        """Decide the captions of images from their descriptions and present captions."""
        self._joiner.read_generated(self._store, (record.caption for record in records))
        return [self._decided(record) for record in records]

    def _decided(self, record: ImageRecord) -> Outcome[Caption]:
        described = self._described.of(record)
        if not isinstance(described, Done):
            return described
        return record.caption_fault or self._joiner.joined(record, described.value)

    def is_generated(self, done: Done[Caption]) -> bool:
        """Tell whether dsk wrote all of a new caption."""
        return self._joiner.is_generated(done.record)


def _texts(
    records: Iterable[ImageRecord], described: Descriptions, words: Mapping[Path, Sequence[str]]
) -> list[Outcome[str]]:
    """Return the text of the file beside each image: the trigger, then the sentence."""
    return [
        replace(outcome, value=", ".join((*words[outcome.record.path], outcome.value)))
        if isinstance(outcome, Done)
        else outcome
        for outcome in map(described.of, records)
    ]


def _is_replaced(change: CaptionChange) -> bool:
    """Tell whether a caption had tags that the new one does not have."""
    before = change.before
    if before is None or before.syntax.kind == "sentence" or ends_as_sentence(before.tags):
        return False
    return not set(before.tags) <= set(change.after.tags)


def _warnings(
    described: Descriptions,
    join: str,
    changes: Sequence[CaptionChange],
    records: Sequence[ImageRecord],
) -> tuple[str, ...]:
    warnings: list[str] = []
    if described.cut_off:
        warnings.append(
            f"{counted(described.cut_off, 'description')} had no end within --max-tokens: kept up "
            "to the last full sentence"
        )
    replaced = sum(map(_is_replaced, changes)) if join == "sentence" else 0
    if replaced:
        warnings.append(
            f"{counted(replaced, 'caption')} had tags, which the sentence replaced: with captions "
            '= "mixed" a caption has both; dsk undo restores the tags'
        )
    undeclared = join == "sentence" and any(c.after.syntax.kind == "tags" for c in changes)
    if undeclared:
        warnings.append(
            'the captions are sentences now: write captions = "sentence" under [dataset] of '
            "dsk.toml, so that rules, layouts and training keep them whole"
        )
    misnamed = misnamed_captions(record.path for record in records)
    return (*warnings, *misnamed_warnings(misnamed))
