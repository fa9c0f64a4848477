"""Operations of the review page: what each would do to the captions of a scope, decided by the
rules of `dsk rules`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeGuard

from datasetkit.captions.caption import normal_form, parse
from datasetkit.captions.diffs import CaptionChange
from datasetkit.captions.rules import (
    Exclude,
    Replace,
    RuleResult,
    RuleSet,
    apply,
    build,
    load_groups,
)
from datasetkit.captions.rulesets import writable
from datasetkit.captions.selectors import Exact
from datasetkit.captions.vocabulary import Vocabulary
from datasetkit.core.errors import InputError
from datasetkit.core.records import Caption, Done
from datasetkit.options.tag import TagOptions
from datasetkit.project.store import caption_hash
from datasetkit.verbs.review.images import ReviewImage
from datasetkit.verbs.shared.caption_rules import decide_caption, is_by_person, rule_set
from datasetkit.verbs.shared.stored_scores import StoredScores, threshold_of
from taggers.selection import Thresholds, choose, threshold_steps

NO_TAG_LEFT = "no tag would be left, and an empty caption would stop the trainers"
EDITED = "their captions were edited by a person"


@dataclass(frozen=True, slots=True)
class EditPlan:
    """What an operation would do. kept: images that it leaves alone although it means them, and
    why.

    generated: hashes of the new captions that are dsk's own work. without_scores: images that no
    tagger saw.
    """

    title: str
    changes: tuple[tuple[ReviewImage, Caption], ...]
    unchanged: int = 0
    kept: int = 0
    why: str = ""
    generated: tuple[str, ...] = ()
    without_scores: int = 0
    warnings: tuple[str, ...] = ()

    def tags(self) -> tuple[int, int]:
        """Return how many tags come and how many go, in all captions."""
        diffs = [CaptionChange(image.path, image.caption, after) for image, after in self.changes]
        return sum(len(d.added) for d in diffs), sum(len(d.removed) for d in diffs)


@dataclass(slots=True)
class OperationContext:
    """What operations need to know of the dataset. remembered: captions found for the score
    slider, by image.
    """

    vocabulary: Vocabulary
    scores: StoredScores
    options: Sequence[TagOptions]
    triggers: Sequence[tuple[str, ...]]
    generated: set[Caption]
    remembered: dict[int, dict[tuple[object, ...], tuple[str, Caption | None]]] = field(
        default_factory=dict
    )


Decide = Callable[[OperationContext, Sequence[ReviewImage], Any], EditPlan]


def by_rules(
    images: Sequence[ReviewImage],
    title: str,
    rules: Callable[[ReviewImage], RuleSet],
    category: Callable[[str], str | None],
    among: Iterable[str] = (),
) -> EditPlan:
    """Apply rules to the captions that there are, as `dsk rules` does; the tags that stay keep
    their order.

    among: where it is given, only captions that have one of these tags are touched.
    """
    forms = frozenset(map(normal_form, among))
    changes: list[tuple[ReviewImage, Caption]] = []
    unchanged = kept = 0
    for image in images:
        if (
            image.caption is None
            or not image.caption.tags
            or (forms and forms.isdisjoint(image.facts.forms))
        ):
            unchanged += 1
            continue
        tags = apply(rules(image), image.caption.tags, category=category).tags
        if tags == image.caption.tags:
            unchanged += 1
        elif not tags:
            kept += 1
        else:
            changes.append((image, Caption(tags)))
    return EditPlan(title, tuple(changes), unchanged, kept, NO_TAG_LEFT if kept else "")


def remove(bench: OperationContext, images: Sequence[ReviewImage], tags: object) -> EditPlan:
    """Take exactly these tags out: `@me` and `a*` are read as tags, not as selectors."""
    names = _names(tags, "remove")
    rules = RuleSet(exclude=tuple((Exclude(name), Exact(normal_form(name))) for name in names))
    return by_rules(
        images, f"remove {', '.join(names)}", lambda _: rules, bench.vocabulary.category, names
    )


def exclude(bench: OperationContext, images: Sequence[ReviewImage], selectors: object) -> EditPlan:
    """Take out what selectors mean."""
    names = _names(selectors, "exclude")
    rules = build(exclude=names, vocabulary=bench.vocabulary, groups=load_groups())
    return by_rules(
        images, f"exclude {', '.join(names)}", lambda _: rules, bench.vocabulary.category
    )


def replace_tags(bench: OperationContext, images: Sequence[ReviewImage], pairs: object) -> EditPlan:
    """Write one tag in place of another; where that stands already, they become one."""
    if (
        not isinstance(pairs, list)
        or not pairs
        or not all(isinstance(p, list) and len(p) == 2 for p in pairs)
    ):
        raise InputError("replace takes pairs of tags", hint='e.g. [["old", "new"]]')
    rules = []
    for old, new in pairs:
        old, new = _names([old, new], "replace")
        spelled = bench.vocabulary.spelling(writable(new, "new tag")) or new
        rules.append(Replace(old, spelled))
    if len({normal_form(rule.old) for rule in rules}) < len(rules):
        raise InputError("one tag is to become two others", hint="keep one of the replacements")
    title = "replace " + ", ".join(f"{rule.old} by {rule.new}" for rule in rules)
    together = RuleSet(replace=tuple(rules))
    olds = [rule.old for rule in rules]
    return by_rules(images, title, lambda _: together, bench.vocabulary.category, olds)


def add(bench: OperationContext, images: Sequence[ReviewImage], tags: object) -> EditPlan:
    """Write tags into every caption: in front, but behind the triggers that open it."""
    names = [
        bench.vocabulary.spelling(writable(name, "added tag")) or name
        for name in _names(tags, "add")
    ]
    known: dict[tuple[str, ...], RuleSet] = {}

    def rules(image: ReviewImage) -> RuleSet:
        opening = _opening(image, bench.triggers[image.concept])
        if opening not in known:
            known[opening] = build(
                opening, names, vocabulary=bench.vocabulary, groups=load_groups()
            )
        return known[opening]

    return by_rules(images, f"add {', '.join(names)}", rules, bench.vocabulary.category)


def _opening(image: ReviewImage, triggers: Sequence[str]) -> tuple[str, ...]:
    """Return the tags with which a caption begins that are its concept's triggers, as they are
    written there.
    """
    forms = {normal_form(trigger) for trigger in triggers}
    tags = image.caption.tags if image.caption is not None else ()
    number = next((n for n, tag in enumerate(tags) if normal_form(tag) not in forms), len(tags))
    return tags[:number]


def trigger(bench: OperationContext, images: Sequence[ReviewImage], names: object) -> EditPlan:
    """Begin every caption with these words, each exactly once."""
    words = _names(names, "trigger")
    rules = build(words, vocabulary=bench.vocabulary, groups=load_groups())
    decided = by_rules(
        images, f"trigger {', '.join(words)}", lambda _: rules, bench.vocabulary.category
    )
    return replace(decided, warnings=rules.warnings)


def threshold(
    bench: OperationContext, images: Sequence[ReviewImage], wanted: Mapping[str, Any]
) -> EditPlan:
    """Make captions anew from the stored scores, as `dsk tag` would with these thresholds; no model
    is run.
    """
    existing = wanted.get("existing", "skip")
    given = {key: wanted[key] for key in ("threshold", "character_threshold") if key in wanted}
    for key, value in given.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InputError(f"{key} must be a number", hint="e.g. 0.35")
    if existing not in ("skip", "overwrite"):
        raise InputError(f"existing = {existing!r}", hint="skip or overwrite")
    options = [replace(one, existing=existing, **given) for one in bench.options]
    rules = [rule_set(one) for one in options]
    changes: list[tuple[ReviewImage, Caption]] = []
    generated: list[str] = []
    unchanged = without = 0
    kept: dict[str, int] = {}
    for image in images:
        found = bench.scores.of(image.facts.record.id)
        if found is None:
            without += 1
            continue
        why, caption = _anew(bench, image, options[image.concept], rules[image.concept])
        if caption is None:
            kept[why] = kept.get(why, 0) + 1
            continue
        if caption == image.caption:
            unchanged += 1
        else:
            changes.append((image, caption))
        generated.append(caption_hash(caption))
    shown = given.get("threshold", options[0].threshold)
    reasons = "; ".join(kept)
    return EditPlan(
        f"threshold {shown:g}" if not isinstance(shown, str) else f"threshold {shown}",
        tuple(changes), unchanged, sum(kept.values()), reasons, tuple(generated), without,
    )  # fmt: skip


def _anew(
    bench: OperationContext, image: ReviewImage, options: TagOptions, rules: RuleSet
) -> tuple[str, Caption | None]:
    """Return the caption that the scores give, or None and why the one that stands is kept.

    Between two positions of the slider the chosen tags of most images are the same: their number
    tells.
    """
    found = bench.scores.of(image.facts.record.id)
    if found is None:
        return "without scores", None
    kept, source = found
    if options.existing == "skip" and is_by_person(image.facts.record, bench.generated):
        return EDITED, None
    cut_at = threshold_of(options, source.keys[0])
    cut = Thresholds(cut_at, options.character_threshold, options.mcut, options.rating)
    counted = kept.counted
    asked = (
        int((counted >= threshold_steps(cut_at)).sum()),
        int((counted >= threshold_steps(options.character_threshold)).sum()),
        options.mcut,
    )
    memory = bench.remembered.setdefault(image.id, {})
    if asked not in memory:
        applied: list[RuleResult] = []
        chosen = choose(kept, source.labels, cut)
        outcome = decide_caption(
            image.facts.record,
            chosen,
            rules,
            replace(options, existing="overwrite"),
            False,
            applied,
        )
        memory[asked] = ("", outcome.value) if isinstance(outcome, Done) else (NO_TAG_LEFT, None)
    return memory[asked]


def edit(image: ReviewImage, text: object) -> EditPlan:
    """Write one caption as it was typed."""
    if not is_text(text):
        raise InputError("a caption is text")
    caption = parse(text)
    if not caption.tags:
        raise InputError(
            "an empty caption would stop the trainers", hint="give it a tag, or exclude the image"
        )
    before = set(() if image.caption is None else image.caption.tags)
    for tag in caption.tags:
        if tag not in before:
            writable(tag, "edited tag")
    same = caption == image.caption
    return EditPlan(f"edit {image.name}", () if same else ((image, caption),), int(same))


def is_text(value: object) -> TypeGuard[str]:
    """Tell whether a value from a call is text that a file can hold; JSON also carries halves of
    characters.
    """
    return isinstance(value, str) and not any("\ud800" <= sign <= "\udfff" for sign in value)


def _names(value: object, what: str) -> list[str]:
    """Return a list of tags as they came in, without outer spaces; each must be text and
    not empty.
    """
    if (
        not isinstance(value, list)
        or not value
        or not all(is_text(one) and one.strip() for one in value)
    ):
        raise InputError(f"{what} takes a list of tags", hint='e.g. ["lips"]')
    return [one.strip() for one in value]


OPERATIONS: Mapping[str, Decide] = {
    "remove": remove,
    "exclude": exclude,
    "replace": replace_tags,
    "add": add,
    "trigger": trigger,
}


def tagger_caption(bench: OperationContext, image: ReviewImage) -> Caption | None:
    """Return the caption that `dsk tag` would write from the stored scores; None where there are
    none.
    """
    options = replace(bench.options[image.concept], existing="overwrite")
    _, caption = _anew(bench, image, options, rule_set(options))
    return caption
