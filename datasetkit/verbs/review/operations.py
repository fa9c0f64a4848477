"""Operations of the review page: which captions of a scope each would change, decided by the rules
of `dsk rules` and `dsk tag`. Nothing here writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeGuard

from datasetkit.captions.caption import lines_of, normal_form, parse, with_source, with_tags
from datasetkit.captions.diffs import CaptionChange
from datasetkit.captions.grammar import is_group
from datasetkit.captions.invisible import invisible
from datasetkit.captions.pruning import PRUNE_KINDS, Suggestion, taken
from datasetkit.captions.rules import (
    Exclude,
    Replace,
    RuleResult,
    RuleSet,
    apply_to,
    build,
    load_groups,
)
from datasetkit.captions.rulesets import writable
from datasetkit.captions.selectors import Exact
from datasetkit.captions.vocabulary import Vocabulary
from datasetkit.core.errors import InputError
from datasetkit.core.records import Caption, Done, Skipped
from datasetkit.dataset.trigger import KnownTrigger
from datasetkit.options.tag import TagOptions
from datasetkit.project.caption_syntax import syntax_of
from datasetkit.project.store import caption_hash
from datasetkit.verbs.review.images import ReviewImage
from datasetkit.verbs.shared.caption_rules import (
    IS_SENTENCE,
    NO_TAG_LEFT,
    build_rule_set,
    decide_caption,
    is_by_person,
)
from datasetkit.verbs.shared.pruning_table import scored, table_of
from datasetkit.verbs.shared.stored_scores import StoredScores, threshold_of
from taggers.selection import Thresholds, choose, threshold_steps

# How many tags the title of an edit names.
_NAMED = 3
EDITED = "their captions were edited by hand"


@dataclass(frozen=True, slots=True)
class EditPlan:
    """What an operation would do.

    kept: how many images it leaves alone although they are in its scope, for `reason`. generated:
    hashes of the new captions that count as written by dsk. without_scores: how many images no
    tagger has seen. trigger: the words that it puts first. replaced: the tags that it replaces.
    """

    title: str
    changes: tuple[tuple[ReviewImage, Caption], ...]
    unchanged: int = 0
    kept: int = 0
    reason: str = ""
    generated: tuple[str, ...] = ()
    without_scores: int = 0
    warnings: tuple[str, ...] = ()
    trigger: tuple[str, ...] = ()
    replaced: tuple[Replace, ...] = ()

    def tag_counts(self) -> tuple[int, int]:
        """Return how many tags are added and how many removed, over all captions."""
        diffs = [CaptionChange(image.path, image.caption, after) for image, after in self.changes]
        return sum(len(d.added) for d in diffs), sum(len(d.removed) for d in diffs)


@dataclass(slots=True)
class OperationContext:
    """What operations need to know of the dataset. trigger_of: returns the known trigger of the
    folder of an image. decided: captions already computed for the score slider, by image.
    """

    vocabulary: Vocabulary
    scores: StoredScores
    options: Sequence[TagOptions]
    trigger_of: Callable[[ReviewImage], KnownTrigger]
    generated: set[Caption]
    decided: dict[int, dict[tuple[object, ...], tuple[str, Caption | None]]] = field(
        default_factory=dict
    )


PlanOperation = Callable[[OperationContext, Sequence[ReviewImage], Any], EditPlan]


def by_rules(
    images: Sequence[ReviewImage],
    title: str,
    rules: RuleSet,
    category: Callable[[str], str | None],
    among: Iterable[str] = (),
    trigger_of: Callable[[ReviewImage], KnownTrigger] = lambda _: KnownTrigger(),
) -> EditPlan:
    """Apply rules to existing captions as `dsk rules` does; the other tags keep their order.

    among: if given, only captions with one of these tags can change. trigger_of: the trigger of an
    image, before which nothing is added.
    """
    forms = frozenset(map(normal_form, among))
    changes: list[tuple[ReviewImage, Caption]] = []
    unchanged = kept = 0
    for image in images:
        if (
            image.caption is None
            or image.caption.is_empty
            or (forms and forms.isdisjoint(image.facts.forms))
        ):
            unchanged += 1
            continue
        trigger_forms = trigger_of(image).forms
        result = apply_to(rules, image.caption, category=category, trigger=trigger_forms)
        after = result.caption
        if after == image.caption:
            unchanged += 1
        elif after.is_empty:
            kept += 1
        else:
            changes.append((image, after))
    return EditPlan(title, tuple(changes), unchanged, kept, NO_TAG_LEFT if kept else "")


def remove(context: OperationContext, images: Sequence[ReviewImage], tags: object) -> EditPlan:
    """Remove exactly these tags: `@me` and `a*` are tags here, not selectors."""
    names = _names(tags, "remove")
    rules = RuleSet(exclude=tuple((Exclude(name), Exact(normal_form(name))) for name in names))
    title = f"remove {', '.join(names)}"
    return by_rules(images, title, rules, context.vocabulary.category, names)


def exclude(
    context: OperationContext, images: Sequence[ReviewImage], selectors: object
) -> EditPlan:
    """Remove the tags that selectors match."""
    names = _names(selectors, "exclude")
    rules = build(exclude=names, vocabulary=context.vocabulary, groups=load_groups())
    title = f"exclude {', '.join(names)}"
    return by_rules(images, title, rules, context.vocabulary.category)


def replace_tags(
    context: OperationContext, images: Sequence[ReviewImage], pairs: object
) -> EditPlan:
    """Replace tags; a new tag that the caption already has is written once."""
    if (
        not isinstance(pairs, list)
        or not pairs
        or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs)
    ):
        raise InputError("replace needs pairs of tags", hint='e.g. [["old", "new"]]')
    rules = []
    for pair in pairs:
        old, new = _names(pair, "replace")
        rules.append(Replace(old, _spelled(context, new, "new tag")))
    if len({normal_form(rule.old) for rule in rules}) < len(rules):
        raise InputError("a tag has two replacements", hint="keep one of them")
    title = "replace " + ", ".join(f"{rule.old} with {rule.new}" for rule in rules)
    together = RuleSet(replace=tuple(rules))
    among = [rule.old for rule in rules]
    edits = by_rules(images, title, together, context.vocabulary.category, among)
    return replace(edits, replaced=together.replace)


def add(context: OperationContext, images: Sequence[ReviewImage], tags: object) -> EditPlan:
    """Add tags to every caption: behind the trigger, or at the front of a caption without it."""
    names = [_spelled(context, name, "added tag") for name in _names(tags, "add")]
    rules = build(additional=names, vocabulary=context.vocabulary, groups=load_groups())
    title = f"add {', '.join(names)}"
    category = context.vocabulary.category
    return by_rules(images, title, rules, category, trigger_of=context.trigger_of)


def _spelled(context: OperationContext, name: str, what: str) -> str:
    """Return a tag in the vocabulary's spelling. Raises InputError if no file can hold it."""
    return context.vocabulary.spelling(writable(name, what)) or name


def trigger(context: OperationContext, images: Sequence[ReviewImage], names: object) -> EditPlan:
    """Put these words at the start of every caption, each exactly once."""
    words = _names(names, "trigger")
    rules = build(words, vocabulary=context.vocabulary, groups=load_groups())
    title = f"trigger {', '.join(words)}"
    edits = by_rules(images, title, rules, context.vocabulary.category)
    return replace(edits, warnings=rules.warnings, trigger=rules.triggers)


def threshold(
    context: OperationContext, images: Sequence[ReviewImage], wanted: Mapping[str, Any]
) -> EditPlan:
    """Rewrite captions from the stored scores, as `dsk tag` would with these thresholds; no model
    runs.
    """
    given = _threshold_options(wanted)
    options = [replace(concept_options, **given) for concept_options in context.options]
    rules = [build_rule_set(concept_options) for concept_options in options]
    changes: list[tuple[ReviewImage, Caption]] = []
    generated: list[str] = []
    unchanged = without = 0
    kept: dict[str, int] = {}
    for image in images:
        if context.scores.of(image.facts.record.id) is None:
            without += 1
            continue
        reason, caption = _tagged(context, image, options[image.concept], rules[image.concept])
        if caption is None:
            kept[reason] = kept.get(reason, 0) + 1
            continue
        if caption == image.caption:
            unchanged += 1
        else:
            changes.append((image, caption))
        generated.append(caption_hash(caption))
    shown = given.get("threshold", options[0].threshold)
    return EditPlan(
        f"threshold {shown}" if isinstance(shown, str) else f"threshold {shown:g}",
        tuple(changes), unchanged, sum(kept.values()), "; ".join(kept), tuple(generated), without,
    )  # fmt: skip


def _threshold_options(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tag options that a request sets. Raises InputError."""
    existing = wanted.get("existing", "skip")
    if existing not in ("skip", "overwrite"):
        raise InputError(f"existing must be skip or overwrite, not {existing!r}")
    given = {key: wanted[key] for key in ("threshold", "character_threshold") if key in wanted}
    for key, value in given.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InputError(f"{key} must be a number", hint="e.g. 0.35")
    return {"existing": existing, **given}


def _tagged(
    context: OperationContext, image: ReviewImage, options: TagOptions, rules: RuleSet
) -> tuple[str, Caption | None]:
    """Return the caption that the stored scores give, or why the current one is kept and None.

    For most images two positions of the slider choose the same tags. Their number identifies them,
    so it is the cache key.
    """
    stored = context.scores.of(image.facts.record.id)
    if stored is None:
        return "without scores", None
    kept, source = stored
    if options.existing == "skip" and is_by_person(image.facts.record, context.generated):
        return EDITED, None
    cut_at = threshold_of(options, source.keys[0])
    cut = Thresholds(cut_at, options.character_threshold, options.mcut, options.rating)
    counted = kept.counted
    forms = context.trigger_of(image).forms
    existing = image.caption.tags if image.caption is not None else ()
    key = (
        tuple(tag for tag in existing if normal_form(tag) in forms),
        int((counted >= threshold_steps(cut_at)).sum()),
        int((counted >= threshold_steps(options.character_threshold)).sum()),
        options.mcut,
    )
    cache = context.decided.setdefault(image.id, {})
    if key not in cache:
        applied: list[RuleResult] = []
        outcome = decide_caption(
            image.facts.record,
            choose(kept, source.labels, cut),
            rules,
            replace(options, existing="overwrite"),
            False,
            applied,
            forms,
        )
        is_sentence = isinstance(outcome, Skipped) and outcome.reason == IS_SENTENCE
        reason = IS_SENTENCE if is_sentence else NO_TAG_LEFT
        cache[key] = ("", outcome.value) if isinstance(outcome, Done) else (reason, None)
    return cache[key]


def tagger_caption(context: OperationContext, image: ReviewImage) -> Caption | None:
    """Return the caption that `dsk tag` would write from the stored scores; None without scores."""
    options = replace(context.options[image.concept], existing="overwrite")
    _, caption = _tagged(context, image, options, build_rule_set(options))
    return caption


def edit(image: ReviewImage, text: object) -> EditPlan:
    """Write one caption as it was typed."""
    if not is_text(text):
        raise InputError("caption must be text")
    caption = _typed(image, text)
    if caption.is_empty:
        raise InputError(
            "an empty caption would stop the trainers", hint="add a tag, or exclude the image"
        )
    written = "" if image.caption is None else image.caption.source or ""
    if new := [name for name in invisible(text) if name not in invisible(written)]:
        raise InputError(
            f"the caption has invisible characters: {', '.join(new)}", hint="type it without them"
        )
    before = set(() if image.caption is None else image.caption.tags)
    for tag in caption.tags:
        if tag not in before and not is_group(tag, caption.syntax):
            writable(tag, "edited tag")
    same = caption == image.caption
    return EditPlan(f"edit {image.name}", () if same else ((image, caption),), int(same))


def _typed(image: ReviewImage, text: str) -> Caption:
    """Return the caption of a typed text. The spaces and line ends of the file stay where only tags
    were added or removed.
    """
    text = text.strip()
    typed = with_source(parse(text, syntax_of(image.path.parent)), f"{text}\n")
    if image.caption is None or image.caption.is_empty:
        return typed
    lines = list(lines_of(typed))
    if len(lines) != len(lines_of(image.caption)):
        return typed
    edited = with_tags(image.caption, lambda tags: lines.pop(0) if tags and lines else tags)
    return edited if edited == typed else typed


def is_text(value: object) -> TypeGuard[str]:
    """Tell whether a JSON value is text that a file can hold: JSON allows lone surrogates."""
    return isinstance(value, str) and not any("\ud800" <= char <= "\udfff" for char in value)


def _names(value: object, what: str) -> list[str]:
    """Return a list of tags without surrounding spaces. Raises InputError for anything else."""
    if (
        not isinstance(value, list)
        or not value
        or not all(is_text(name) and name.strip() for name in value)
    ):
        raise InputError(f"{what} needs a list of tags", hint='e.g. ["lips"]')
    return [name.strip() for name in value]


def suggestions(
    context: OperationContext, images: Sequence[ReviewImage], kind: object
) -> tuple[Suggestion, ...]:
    """Return the table of `dsk rules --suggest` for some images. Raises InputError."""
    if kind not in PRUNE_KINDS:
        raise InputError(f"unknown kind {kind!r}", hint=f"use one of {', '.join(PRUNE_KINDS)}")
    options = {image.facts.record.id: context.options[image.concept] for image in images}
    return table_of(
        [(image.path, image.facts.record.id, image.caption) for image in images],
        {image.path.parent: context.trigger_of(image) for image in images},
        next(known for known in PRUNE_KINDS if known == kind),
        lambda image_id: scored(context.scores, options[image_id], image_id),
    )


def _wanted_rows(wanted: object) -> tuple[object, set[tuple[str, ...]]]:
    """Return the kind and the keys of the rows that a request takes. Raises InputError."""
    keys = wanted.get("rows") if isinstance(wanted, dict) else None
    if not isinstance(keys, list) or not all(isinstance(key, list) for key in keys) or not keys:
        raise InputError("prune needs rows of the suggestions", hint="tick one of them")
    kind = wanted.get("kind") if isinstance(wanted, dict) else None
    return kind, {tuple(map(str, key)) for key in keys}


def prune(context: OperationContext, images: Sequence[ReviewImage], wanted: object) -> EditPlan:
    """Take rows of the table of suggestions, each by its folder, action, tag and reason."""
    kind, names = _wanted_rows(wanted)
    table = suggestions(context, images, kind)
    rows = [row for row in table if row.key in names and row.action != "keep"]
    changes: list[tuple[ReviewImage, Caption]] = []
    kept = 0
    for image in images:
        if image.caption is None or image.caption.is_empty:
            continue
        after = taken(image.caption, image.path, rows)
        if after.is_empty:
            kept += 1
        elif after != image.caption:
            changes.append((image, after))
    title = f"prune {', '.join(row.tag for row in rows[:_NAMED])}"
    title += ", ..." if len(rows) > _NAMED else ""
    unchanged = len(images) - len(changes) - kept
    return EditPlan(title, tuple(changes), unchanged, kept, NO_TAG_LEFT if kept else "")


OPERATIONS: Mapping[str, PlanOperation] = {
    "remove": remove,
    "exclude": exclude,
    "replace": replace_tags,
    "add": add,
    "trigger": trigger,
    "prune": prune,
}
