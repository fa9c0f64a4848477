"""`dsk tag`: scores from the model or the store, the chosen tags through the rules, and captions as
one plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datasetkit.captions.caption import file_text, read_caption
from datasetkit.captions.diffs import CaptionChange
from datasetkit.captions.rules import RuleHits, RuleResult, summary
from datasetkit.core.errors import DskError
from datasetkit.core.files import (
    Listing,
    caption_path,
    display,
    list_images,
    require_writable,
    sweep,
)
from datasetkit.core.records import Caption, Done, Failed, ImageRecord, Outcome, RunReport
from datasetkit.images.scan import Scan, require_images, scan
from datasetkit.options.tag import TagOptions
from datasetkit.project.plans import Plan, WriteText
from datasetkit.project.session import (
    DEFAULT_CONTEXT,
    Project,
    RunContext,
    finish_interrupted,
    open_project,
)
from datasetkit.project.store import caption_hash
from datasetkit.verbs.shared import scoring
from datasetkit.verbs.shared.caption_rules import decide_caption, is_by_person, rule_set
from datasetkit.verbs.shared.scoring import TagDrift, TaggerUse
from taggers.base import ResolvedTagger
from taggers.selection import Thresholds, choose


@dataclass(frozen=True, slots=True)
class TagResult:
    """What tag did, or in a dry run would do.

    report: one outcome an image; Done carries the caption. changes: captions that are new or other
    than before. hits: what each rule did. inferred: images that a model was run on; the others'
    scores were known. keep_tokens: how many leading tags are fixed (triggers and additional), for
    the trainer's option of that name. taggers: each one of the run, and what it ran on. drift: what
    a faster way changed, where one was asked for.
    """

    report: RunReport[Caption]
    tagger: str
    taggers: tuple[TaggerUse, ...]
    notice: str
    changes: tuple[CaptionChange, ...]
    hits: tuple[RuleHits, ...]
    warnings: tuple[str, ...]
    inferred: int
    drift: tuple[TagDrift, ...]
    keep_tokens: int
    entry: int | None


def tag(folder: Path, options: TagOptions, context: RunContext = DEFAULT_CONTEXT) -> TagResult:
    """Write a caption beside every image of a folder.

    A caption that a person edited is kept unless options.existing says otherwise. Images that the
    tagger has seen are not inferred again, whatever thresholds and rules are asked for. Raises
    ConfigError, DatasetError, MissingExtra / ModelFileError, StorageError, in this order, before
    any work.
    """
    rules = rule_set(options)
    scoring.names(options)
    finish_interrupted(folder, context)
    listing = require_images(folder, recursive=options.recursive, follow_links=options.follow_links)
    resolved = scoring.resolve(options)
    notice = "; ".join(dict.fromkeys(one.notice for one in resolved if one.notice))
    if notice:
        context.reporter.warn(notice)
    cut = cut_of(options, resolved)
    with open_project(folder, context) as project:
        if context.wait:  # the run that was waited for may have renamed them
            listing = list_images(
                folder, recursive=options.recursive, follow_links=options.follow_links
            )
        for place in (
            {folder, *(path.parent for path in listing.images)} if not context.dry_run else ()
        ):
            require_writable(place)
            sweep(place)
        found = _scan(folder, listing, project, options)
        scored = scoring.score(found.records, resolved, project, options)
        drift = scoring.drift(found.records, scored, project, options, cut)
        project.store.mark_used(scored.taggers[0].key)
        inferred = sum(used.inferred for used in scored.taggers)
        # Inference takes minutes, in which a person may have edited a caption.
        now = [_as_it_is_now(record) for record in found.records] if inferred else found.records
        ours = project.store.generated(
            record.caption for record in now if not isinstance(record, Failed)
        )
        captions: list[Outcome[Caption]] = []
        applied: list[RuleResult] = []
        for record, (_, kept) in zip(now, scored.each(found.records), strict=True):
            if isinstance(record, Failed):
                captions.append(record)
            elif isinstance(kept, Failed):
                captions.append(kept)
            else:
                chosen = choose(kept, scored.labels, cut)
                captions.append(
                    decide_caption(
                        record, chosen, rules, options, is_by_person(record, ours), applied
                    )
                )
        changes, generated = changed(captions, ours, options)
        plan = Plan(tuple(WriteText(caption_path(c.path), file_text(c.after)) for c in changes))
        entry = project.apply(plan, "tag", display(folder.name), generated=generated)
    hits = (
        summary(rules, applied) if applied else ()
    )  # where all are kept, no rule had anything to look for
    return TagResult(
        report=RunReport("tag", (*captions, *found.failed)),
        tagger=" ".join(used.key for used in scored.taggers),
        taggers=scored.taggers,
        notice=notice,
        changes=tuple(changes),
        hits=hits,
        warnings=(*rules.warnings, *(hit.warning for hit in hits if hit.warning)),
        inferred=inferred,
        drift=drift,
        keep_tokens=rules.keep_tokens,
        entry=entry,
    )


def cut_of(options: TagOptions, resolved: Sequence[ResolvedTagger]) -> Thresholds:
    """Return where tags are cut off. Raises ConfigError for `pr` where the model's card gives no
    such value.
    """
    threshold = options.threshold
    if isinstance(threshold, str):
        value = resolved[0].pr_threshold
        if value is None:
            raise scoring.no_card_value(resolved[0].identity.name)
        threshold = value
    return Thresholds(threshold, options.character_threshold, options.mcut, options.rating)


def _as_it_is_now(record: ImageRecord) -> ImageRecord | Failed:
    """Read a caption again."""
    try:
        return replace(record, caption=read_caption(record.path))
    except DskError as error:
        return Failed(record.path, error.message, error.hint)


def _scan(folder: Path, listing: Listing, project: Project, options: TagOptions) -> Scan:
    return scan(
        folder,
        project.store,
        recursive=options.recursive,
        follow_links=options.follow_links,
        max_pixels=options.max_pixels,
        with_ids=True,
        listing=listing,
        reporter=project.context.reporter,
    )


def changed(
    captions: Sequence[Outcome[Caption]], ours: set[Caption], options: TagOptions
) -> tuple[list[CaptionChange], list[str]]:
    """Return the captions that change, and the hashes of those that are dsk's own work from end to
    end.
    """
    changes: list[CaptionChange] = []
    generated: list[str] = []
    for outcome in captions:
        if not isinstance(outcome, Done):
            continue
        before, after = outcome.record.caption, outcome.value
        if options.existing not in ("append", "prepend") or not is_by_person(outcome.record, ours):
            generated.append(caption_hash(after))
        if before != after:
            changes.append(CaptionChange(outcome.record.path, before, after))
    return changes, generated
