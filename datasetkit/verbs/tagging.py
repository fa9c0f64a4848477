"""`dsk tag`: scores from the model or the store, the chosen tags through the rules, and captions as one plan."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datasetkit.core.captions import Caption, dedupe, file_text
from datasetkit.core.config import TagOptions
from datasetkit.core.diffs import CaptionChange
from datasetkit.core.errors import ConfigError, DatasetError, DskError
from datasetkit.core.files import caption_path, display, list_images, read_caption, require_writable, sweep
from datasetkit.core.plans import Plan, WriteText
from datasetkit.core.records import Done, Failed, ImageRecord, Outcome, RunReport, Skipped
from datasetkit.core.rules import Applied, RuleHits, RuleSet, apply, summary
from datasetkit.core.store import Store, caption_hash
from datasetkit.executors import local
from datasetkit.scan import Scan, require_folder, scan
from datasetkit.stages.tag import Scores, TagStage
from datasetkit.verbs.project import JUST_DO_IT, How, Project, finish_interrupted, open_project
from datasetkit.verbs.rules import edges_only, finish, rule_set
from taggers import registry
from taggers.base import Labels, Resolved, ScoredTag, TaggerOptions, select, unpack

# Scores are kept in handfuls, so that an interrupted run loses little and the disk is synced rarely.
_KEEP_EVERY = 32


@dataclass(frozen=True, slots=True)
class Tagged:
    """What tag did, or in a dry run would do.

    report: one outcome a picture; Done carries the caption. changes: captions that are new or other than before.
    hits: what each rule did. inferred: pictures that the model was run on; the others' scores were known.
    keep_tokens: how many leading tags are fixed (triggers and additional), for the trainer's option of that name.
    """

    report: RunReport[Caption]
    tagger: str
    notice: str
    changes: tuple[CaptionChange, ...]
    hits: tuple[RuleHits, ...]
    warnings: tuple[str, ...]
    inferred: int
    keep_tokens: int
    entry: int | None


def tag(folder: Path, options: TagOptions, how: How = JUST_DO_IT) -> Tagged:
    """Write a caption beside every picture of a folder.

    A caption that a person edited is kept unless options.existing says otherwise. Pictures that the tagger has seen
    are not inferred again, whatever thresholds and rules are asked for.
    Raises ConfigError, DatasetError, MissingExtra / ModelFileError, StorageError, in this order, before any work.
    """
    rules = rule_set(options)
    finish_interrupted(folder, how)
    listing = list_images(require_folder(folder), recursive=options.recursive, follow_links=options.follow_links)
    if not listing.images and not listing.failed:
        raise DatasetError(f"{display(folder)} holds no pictures", hint="name the folder that holds the pictures")
    resolved = registry.resolve(
        options.tagger,
        TaggerOptions(model_dir=Path(options.model_dir) if options.model_dir else None, provider=options.provider),
    )
    if resolved.notice:
        how.reporter.warn(resolved.notice)
    threshold = _threshold(options, resolved)
    with open_project(folder, how) as project:
        for place in {folder, *(path.parent for path in listing.images)} if not how.dry_run else ():
            require_writable(place)
            sweep(place)
        found = _scan(folder, project, options)
        scored = _score(found.records, resolved, project, options)
        labels = scored.labels
        captions: list[Outcome[Caption]] = []
        applied: list[Applied] = []
        for record in found.records:
            row = scored.row(record)
            if isinstance(row, Failed):
                captions.append(row)
                continue
            now = _as_it_is_now(record)
            if isinstance(now, Failed):
                captions.append(now)
                continue
            chosen = select(
                unpack(row, len(labels)),
                labels,
                threshold=threshold,
                character_threshold=options.character_threshold,
                mcut=options.mcut,
                rating=options.rating,
            )
            captions.append(_caption(now, chosen, rules, options, project.store, applied))
        changes, generated = _changes(captions, project.store, options)
        plan = Plan(tuple(WriteText(caption_path(c.path), file_text(c.after)) for c in changes))
        entry = project.apply(plan, "tag", display(folder.name), generated=generated)
    hits = summary(rules, applied)
    warnings = (*rules.warnings, *(hit.warning for hit in hits if hit.warning))
    return Tagged(
        RunReport("tag", (*captions, *found.failed)),
        resolved.identity.key(),
        resolved.notice,
        tuple(changes),
        hits,
        warnings,
        scored.inferred,
        len(options.trigger) + len(options.additional),
        entry,
    )


def _as_it_is_now(record: ImageRecord) -> ImageRecord | Failed:
    """Read a caption again: inference takes minutes, in which a person may have edited it."""
    try:
        return replace(record, caption=read_caption(record.path))
    except DskError as error:
        return Failed(record.path, error.message, error.hint)


def _threshold(options: TagOptions, resolved: Resolved) -> float:
    if not isinstance(options.threshold, str):
        return options.threshold
    if resolved.pr_threshold is None:
        raise ConfigError(
            f"--threshold pr: the card of {resolved.identity.name} gives no such value", hint="give a number, e.g. 0.35"
        )
    return resolved.pr_threshold


def _scan(folder: Path, project: Project, options: TagOptions) -> Scan:
    return scan(
        folder,
        project.store,
        recursive=options.recursive,
        follow_links=options.follow_links,
        max_pixels=options.max_pixels,
        with_ids=True,
        reporter=project.how.reporter,
    )


@dataclass(frozen=True, slots=True)
class _Scored:
    """Where a run's scores are: in the store, or the failure that stands in their place."""

    store: Store
    key: str
    labels: Labels
    failed: dict[str, Failed]
    inferred: int

    def row(self, record: ImageRecord) -> bytes | Failed:
        failure = self.failed.get(record.id)
        if failure is not None:
            return Failed(record.path, failure.error, failure.hint)
        row = self.store.scores(record.id, self.key)
        return row if row is not None else Failed(record.path, "was not scored")


def _score(records: Sequence[ImageRecord], resolved: Resolved, project: Project, options: TagOptions) -> _Scored:
    """Run the model on the pictures whose scores are not in the store yet; each distinct picture once."""
    store, key = project.store, resolved.identity.key()
    known = store.scored(key)
    todo = list({record.id: record for record in records if record.id not in known}.values())
    failed: dict[str, Failed] = {}
    pairs = store.labels(key)
    if todo or pairs is None:
        resolved.fetch()
        stage = TagStage(resolved, options.max_pixels)
        with local.opened(stage) as worker:
            if worker.tagger.notice and worker.tagger.notice not in resolved.notice:
                project.how.reporter.warn(worker.tagger.notice)
            pairs = [list(pair) for pair in worker.tagger.labels.pairs()]
            store.put_labels(key, worker.tagger.labels.pairs())
            outcomes = local.work(worker, stage, todo, workers=options.workers, reporter=project.how.reporter)
            failed = _keep(outcomes, todo, store, key)
    return _Scored(store, key, Labels.from_pairs(pairs), failed, len(todo) - len(failed))


def _keep(
    outcomes: Iterable[Outcome[Scores]], todo: Sequence[ImageRecord], store: Store, key: str
) -> dict[str, Failed]:
    """Store scores as they come; return the failures by picture id."""
    failed: dict[str, Failed] = {}
    waiting: list[tuple[str, bytes]] = []
    ids = {record.path: record.id for record in todo}
    try:
        for outcome in outcomes:
            if isinstance(outcome, Failed):
                failed[ids[outcome.path]] = outcome
            elif isinstance(outcome, Done):
                waiting.append((outcome.record.id, outcome.value.row))
            if len(waiting) >= _KEEP_EVERY:
                store.put_scores(key, waiting)
                waiting.clear()
    finally:
        store.put_scores(key, waiting)
    return failed


def _caption(
    record: ImageRecord,
    chosen: Sequence[ScoredTag],
    rules: RuleSet,
    options: TagOptions,
    store: Store,
    applied: list[Applied],
) -> Outcome[Caption]:
    """Decide one picture's caption: made anew, joined to what a person wrote, or left as it is."""
    before = record.caption
    by_person = before is not None and before.tags and not store.is_generated(before)
    if by_person and options.existing == "skip":
        return Skipped(record, "its caption was edited by a person")
    categories = {scored.name: scored.category for scored in chosen}
    result = apply(rules, [scored.name for scored in chosen], category=categories.get)
    applied.append(result)
    tags = result.tags
    if by_person and before is not None and options.existing in ("append", "prepend"):
        joined = (*before.tags, *tags) if options.existing == "append" else (*tags, *before.tags)
        tags = apply(edges_only(rules), dedupe(joined), category=categories.get).tags
    if not tags:
        return Skipped(record, "no tag reaches the threshold, and an empty caption would stop the trainers")
    return Done(record, Caption(finish(tags, options)))


def _changes(
    captions: Sequence[Outcome[Caption]], store: Store, options: TagOptions
) -> tuple[list[CaptionChange], list[str]]:
    """Return the captions that change, and the hashes of those that are dsk's own work from end to end."""
    changes: list[CaptionChange] = []
    generated: list[str] = []
    for outcome in captions:
        if not isinstance(outcome, Done):
            continue
        before, after = outcome.record.caption, outcome.value
        joined = (
            options.existing in ("append", "prepend")
            and before is not None
            and before.tags
            and not store.is_generated(before)
        )
        if not joined:
            generated.append(caption_hash(after))
        if before != after:
            changes.append(CaptionChange(outcome.record.path, before, after))
    return changes, generated
