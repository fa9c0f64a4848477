"""Score images with taggers, and store the scores; stored scores are not computed again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datasetkit.core.errors import ConfigError
from datasetkit.core.packed import PackedList
from datasetkit.core.records import Done, Failed, ImageRecord, Outcome
from datasetkit.executors import place
from datasetkit.executors.work import BatchWork
from datasetkit.options.tag import TagOptions
from datasetkit.project.session import Project
from datasetkit.project.store import Store
from datasetkit.stages.tag import PackedScores, TagStage
from taggers import models, registry, sessions
from taggers.base import Labels, ResolvedTagger, TaggerOptions
from taggers.combine import Combination
from taggers.selection import KeptScores, Thresholds, choose

# Scores are stored in batches: an interrupted run loses little, and the disk is synced rarely.
_KEEP_EVERY = 32
# The images whose rows are read from the store at once.
_READ_AT_ONCE = 256
# With a faster precision or decoding, a tenth of the images, from 3 to 20, is also tagged exactly.
_FEWEST_COMPARED, _MOST_COMPARED = 3, 20


@dataclass(frozen=True, slots=True)
class TaggerUse:
    """One tagger of a run. device: that it ran on, "" if all scores were stored. inferred: images
    that it was run on.
    """

    name: str
    key: str
    device: str
    inferred: int


@dataclass(frozen=True, slots=True)
class TagDrift:
    """How a faster precision or decoding changes the `tags` exact tags of `images` images.

    lost: exact tags that are missing. gained: tags that are not among the exact ones.
    """

    tagger: str
    images: int
    tags: int
    lost: int
    gained: int


@dataclass(frozen=True, slots=True)
class ScoringResult:
    """The scores of a run: in the store under the taggers' keys; failed: image id -> failure."""

    store: Store
    taggers: tuple[TaggerUse, ...]
    several: tuple[Labels, ...]
    combination: Combination
    failed: dict[str, Failed]

    @property
    def labels(self) -> Labels:
        return self.combination.labels

    def only(self, number: int) -> ScoringResult:
        """Return the scores of one of the taggers."""
        labels = self.several[number]
        combination = Combination.of([labels], "union")
        taggers = (self.taggers[number],)
        return ScoringResult(self.store, taggers, (labels,), combination, self.failed)

    def each(
        self, records: Sequence[ImageRecord]
    ) -> Iterator[tuple[ImageRecord, KeptScores | Failed]]:
        """Yield every record with its scores, reading a few hundred rows at a time."""
        for at in range(0, len(records), _READ_AT_ONCE):
            chunk = records[at : at + _READ_AT_ONCE]
            rows = [
                self.store.scores_of([record.id for record in chunk], used.key)
                for used in self.taggers
            ]
            for record in chunk:
                yield record, self._scores_of(record, rows)

    def _scores_of(
        self, record: ImageRecord, rows: Sequence[dict[str, bytes]]
    ) -> KeptScores | Failed:
        failure = self.failed.get(record.id)
        if failure is not None:
            return Failed(record.path, failure.error, failure.hint)
        if not all(record.id in stored for stored in rows):
            return Failed(record.path, "was not scored")
        pairs = zip(rows, self.several, strict=True)
        return self.combination.row(
            [KeptScores.stored(stored[record.id], labels) for stored, labels in pairs]
        )


def names(options: TagOptions) -> tuple[str, ...]:
    """Return the names of the selected taggers. Raises ConfigError for options that conflict."""
    selected = tuple(name.strip() for name in options.tagger.split(","))
    for name in selected:
        registry.require_known(name)
    if len(set(selected)) < len(selected):
        raise ConfigError(
            f"--tagger {options.tagger}: a tagger is named twice", hint="name each once"
        )
    if len(selected) > 1 and options.model_dir:
        raise ConfigError(
            "--model-dir has one tagger, but --tagger names several",
            hint="leave out one of the two",
        )
    if len(selected) > 1 and options.threshold == "pr":
        raise ConfigError(
            "--threshold pr: each tagger has its own value",
            hint="use a number for several taggers, e.g. 0.35",
        )
    model = (
        models.find(selected[0]) if selected[0] == models.WD14 else models.MODELS.get(selected[0])
    )
    if options.threshold == "pr" and (
        selected[0] == registry.BASIC or (model and model.pr_threshold is None)
    ):
        raise no_card_value(selected[0])
    sessions.require_provider(options.provider, options.precision)
    return selected


def no_card_value(name: str) -> ConfigError:
    """Return the error for `--threshold pr` with a tagger whose card has no such value."""
    return ConfigError(
        f"--threshold pr: the card of {name} has no such value", hint="use a number, e.g. 0.35"
    )


def tagger_options(options: TagOptions) -> TaggerOptions:
    """Return the options of the taggers."""
    return TaggerOptions(
        model_dir=Path(options.model_dir) if options.model_dir else None,
        provider=options.provider,
        batch_size=options.batch_size or None,
        precision=options.precision,
        fast_decode=options.fast_decode,
    )


def resolve(options: TagOptions) -> tuple[ResolvedTagger, ...]:
    """Find the selected taggers without loading them."""
    resolved = tuple(registry.resolve(name, tagger_options(options)) for name in names(options))
    if len({tagger.identity for tagger in resolved}) < len(resolved):
        raise ConfigError(
            f"--tagger {options.tagger}: two of the names are one tagger", hint="name each once"
        )
    return resolved


def score(
    records: Sequence[ImageRecord],
    taggers: Sequence[ResolvedTagger],
    project: Project,
    options: TagOptions,
) -> ScoringResult:
    """Run each tagger on the images without stored scores, once per content."""
    failed: dict[str, Failed] = {}
    used: list[TaggerUse] = []
    several: list[Labels] = []
    for tagger in taggers:
        readable = _without(records, failed)
        use, labels = _score(readable, tagger, project, options, failed)
        used.append(use)
        several.append(labels)
    return ScoringResult(
        project.store, tuple(used), tuple(several), Combination.of(several, options.combine), failed
    )


def drift(
    records: Sequence[ImageRecord],
    scored: ScoringResult,
    project: Project,
    options: TagOptions,
    thresholds: Thresholds,
) -> tuple[TagDrift, ...]:
    """Compare a faster precision or decoding with the exact one, on some of the images.

    The exact scores are stored too, so a second run needs no second inference.
    """
    if tagger_options(options).exact:
        return ()
    if not any(used.inferred for used in scored.taggers):
        return ()
    usable = _without(records, scored.failed)
    count = min(max(len(usable) // 10, _FEWEST_COMPARED), _MOST_COMPARED, len(usable))
    compared = usable[:: len(usable) // count][:count] if count else []
    exact = replace(options, precision="float32", fast_decode=False)
    drifts = []
    for number, (resolved, used) in enumerate(zip(resolve(exact), scored.taggers, strict=True)):
        reference = score(compared, [resolved], project, exact)
        pairs = list(
            zip(
                _chosen(reference, compared, thresholds),
                _chosen(scored.only(number), compared, thresholds),
                strict=True,
            )
        )
        drifts.append(
            TagDrift(
                used.name,
                len(pairs),
                sum(len(right) for right, _ in pairs),
                sum(len(right - fast) for right, fast in pairs),
                sum(len(fast - right) for right, fast in pairs),
            )
        )
    return tuple(drifts)


def _chosen(
    scored: ScoringResult, records: Sequence[ImageRecord], thresholds: Thresholds
) -> list[set[str]]:
    """Return the names of the tags of each image; none for a failed image."""
    return [
        {tag.name for tag in choose(kept, scored.labels, thresholds)}
        if isinstance(kept, KeptScores)
        else set()
        for _, kept in scored.each(records)
    ]


def _score(
    records: Sequence[ImageRecord],
    resolved: ResolvedTagger,
    project: Project,
    options: TagOptions,
    failed: dict[str, Failed],
) -> tuple[TaggerUse, Labels]:
    store, key, name = project.store, resolved.identity.key(), resolved.identity.name
    scored = store.scored(key)
    todo = PackedList(_first_of_each(records, scored))
    pairs = store.labels(key)
    if not todo and pairs is not None:
        return TaggerUse(name, key, "", 0), Labels.from_pairs(pairs)
    resolved.fetch()
    stage = TagStage(resolved, options.max_pixels)
    context = project.context
    with place.opened(
        BatchWork(stage),
        cluster=context.cluster,
        workers=options.workers,
        reporter=context.reporter,
    ) as placed:
        facts = placed.facts
        if facts.notice and facts.notice not in resolved.notice and not resolved.fallback:
            context.reporter.warn(facts.notice)
        store.put_labels(key, facts.labels)
        failures = _store(placed.run(todo), todo, store, key)
        failed |= failures
        use = TaggerUse(name, key, facts.device, len(todo) - len(failures))
        return use, Labels.from_pairs(facts.labels)


def _without(records: Sequence[ImageRecord], failed: Mapping[str, Failed]) -> Sequence[ImageRecord]:
    """Return the images that no tagger has failed at."""
    return PackedList(r for r in records if r.id not in failed) if failed else records


def _first_of_each(records: Iterable[ImageRecord], scored: set[str]) -> Iterator[ImageRecord]:
    """Yield an image of each content that is not scored."""
    contents = set(scored)
    for record in records:
        if record.id not in contents:
            contents.add(record.id)
            yield record


def _store(
    outcomes: Iterable[Outcome[PackedScores]], todo: Sequence[ImageRecord], store: Store, key: str
) -> dict[str, Failed]:
    """Store scores in batches; return the failures by image id."""
    failed: dict[str, Failed] = {}
    waiting: list[tuple[str, bytes]] = []
    try:
        for record, outcome in zip(todo, outcomes, strict=True):
            if isinstance(outcome, Failed):
                failed[record.id] = outcome
            elif isinstance(outcome, Done):
                waiting.append((outcome.record.id, outcome.value.row))
            if len(waiting) >= _KEEP_EVERY:
                store.put_scores(key, waiting)
                waiting.clear()
    finally:
        store.put_scores(key, waiting)
    return failed
