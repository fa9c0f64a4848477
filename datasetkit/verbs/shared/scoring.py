"""Scores of images: from the store where they are known, from the models where they are not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datasetkit.core.errors import ConfigError
from datasetkit.core.records import Done, Failed, ImageRecord, Outcome
from datasetkit.executors import batches
from datasetkit.options.tag import TagOptions
from datasetkit.project.session import Project
from datasetkit.project.store import Store
from datasetkit.stages.tag import PackedScores, TagStage
from taggers import models, registry, sessions
from taggers.base import Labels, ResolvedTagger, TaggerOptions
from taggers.combine import Combination
from taggers.selection import KeptScores, Thresholds, choose

# Scores are kept in handfuls, so that an interrupted run loses little and the disk is synced
# rarely.
_KEEP_EVERY = 32
# So many images' rows are read from the store at once.
_READ_AT_ONCE = 256
# Of a faster way, a tenth of the images is tagged the exact way too: no fewer than 3, no more
# than 20.
_FEWEST_COMPARED, _MOST_COMPARED = 3, 20


@dataclass(frozen=True, slots=True)
class TaggerUse:
    """One tagger of a run. device: what it ran on, "" where every score was known. inferred:
    images it was run on.
    """

    name: str
    key: str
    device: str
    inferred: int


@dataclass(frozen=True, slots=True)
class TagDrift:
    """What a faster way changes: of the `tags` tags that the exact way gives `images` images.

    lost: tags that only the exact way gives. gained: tags that only the faster way gives.
    """

    tagger: str
    images: int
    tags: int
    lost: int
    gained: int


@dataclass(frozen=True, slots=True)
class ScoringResult:
    """Where a run's scores are: in the store under the taggers' keys, or the failure that stands in
    their place.
    """

    store: Store
    taggers: tuple[TaggerUse, ...]
    several: tuple[Labels, ...]
    combination: Combination
    failed: dict[str, Failed]

    @property
    def labels(self) -> Labels:
        return self.combination.labels

    def only(self, number: int) -> ScoringResult:
        """Return the same for one of the taggers alone."""
        labels = self.several[number]
        one = Combination.of([labels], "union")
        return ScoringResult(self.store, (self.taggers[number],), (labels,), one, self.failed)

    def each(
        self, records: Sequence[ImageRecord]
    ) -> Iterator[tuple[ImageRecord, KeptScores | Failed]]:
        """Yield every record with its scores; a few hundred rows are in memory at a time."""
        for at in range(0, len(records), _READ_AT_ONCE):
            some = records[at : at + _READ_AT_ONCE]
            rows = [
                self.store.scores_of([record.id for record in some], used.key)
                for used in self.taggers
            ]
            for record in some:
                yield record, self._one(record, rows)

    def _one(self, record: ImageRecord, rows: Sequence[dict[str, bytes]]) -> KeptScores | Failed:
        failure = self.failed.get(record.id)
        if failure is not None:
            return Failed(record.path, failure.error, failure.hint)
        if not all(record.id in known for known in rows):
            return Failed(record.path, "was not scored")
        opinions = zip(rows, self.several, strict=True)
        return self.combination.row(
            [KeptScores.stored(known[record.id], labels) for known, labels in opinions]
        )


def names(options: TagOptions) -> tuple[str, ...]:
    """Return the taggers that are asked for. Raises ConfigError for what cannot be meant."""
    found = tuple(name.strip() for name in options.tagger.split(","))
    for name in found:
        registry.require_known(name)
    if len(set(found)) < len(found):
        raise ConfigError(
            f"--tagger {options.tagger}: a tagger is named twice", hint="name each once"
        )
    if len(found) > 1 and options.model_dir:
        raise ConfigError(
            "--model-dir holds one tagger, and several are named", hint="leave one of the two out"
        )
    if len(found) > 1 and options.threshold == "pr":
        raise ConfigError(
            "--threshold pr: each tagger's card gives another value",
            hint="give a number, e.g. 0.35, for several taggers",
        )
    known = models.MODELS.get(found[0])
    if options.threshold == "pr" and (
        found[0] == registry.BASIC or (known and known.pr_threshold is None)
    ):
        raise no_card_value(found[0])
    sessions.require_provider(options.provider, options.precision)
    return found


def no_card_value(name: str) -> ConfigError:
    """Return the error for `--threshold pr` with a tagger whose card has no such value."""
    return ConfigError(
        f"--threshold pr: the card of {name} gives no such value", hint="give a number, e.g. 0.35"
    )


def tagger_options(options: TagOptions) -> TaggerOptions:
    """Return what the taggers themselves are told."""
    return TaggerOptions(
        model_dir=Path(options.model_dir) if options.model_dir else None,
        provider=options.provider,
        batch_size=options.batch_size or None,
        precision=options.precision,
        fast_decode=options.fast_decode,
    )


def resolve(options: TagOptions) -> tuple[ResolvedTagger, ...]:
    """Find every tagger that is asked for, without loading any."""
    found = tuple(registry.resolve(name, tagger_options(options)) for name in names(options))
    if len({resolved.identity for resolved in found}) < len(found):
        raise ConfigError(
            f"--tagger {options.tagger}: two of the names are one tagger", hint="name each once"
        )
    return found


def score(
    records: Sequence[ImageRecord],
    found: Sequence[ResolvedTagger],
    project: Project,
    options: TagOptions,
) -> ScoringResult:
    """Run each tagger on the images whose scores are not in the store yet; each distinct image
    once.
    """
    failed: dict[str, Failed] = {}
    used: list[TaggerUse] = []
    several: list[Labels] = []
    for resolved in found:
        left = [record for record in records if record.id not in failed]
        one, labels = _score(left, resolved, project, options, failed)
        used.append(one)
        several.append(labels)
    return ScoringResult(
        project.store, tuple(used), tuple(several), Combination.of(several, options.combine), failed
    )


def drift(
    records: Sequence[ImageRecord],
    scored: ScoringResult,
    project: Project,
    options: TagOptions,
    cut: Thresholds,
) -> tuple[TagDrift, ...]:
    """Compare each tagger, where a faster way was asked for, with its exact way on a sample of the
    images.

    The exact scores are kept as all others, so the same sample costs no second inference.
    """
    if tagger_options(options).exact:
        return ()
    if not any(used.inferred for used in scored.taggers):
        return ()
    usable = [record for record in records if record.id not in scored.failed]
    wanted = min(max(len(usable) // 10, _FEWEST_COMPARED), _MOST_COMPARED, len(usable))
    sample = usable[:: len(usable) // wanted][:wanted] if wanted else []
    exact = replace(options, precision="float32", fast_decode=False)
    found = []
    for number, (resolved, used) in enumerate(zip(resolve(exact), scored.taggers, strict=True)):
        reference = score(sample, [resolved], project, exact)
        pairs = list(
            zip(
                _chosen(reference, sample, cut),
                _chosen(scored.only(number), sample, cut),
                strict=True,
            )
        )
        found.append(
            TagDrift(
                used.name,
                len(pairs),
                sum(len(right) for right, _ in pairs),
                sum(len(right - fast) for right, fast in pairs),
                sum(len(fast - right) for right, fast in pairs),
            )
        )
    return tuple(found)


def _chosen(
    scored: ScoringResult, records: Sequence[ImageRecord], cut: Thresholds
) -> list[set[str]]:
    """Return the names of each image's tags; none for an image that failed."""
    return [
        {tag.name for tag in choose(kept, scored.labels, cut)}
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
    known = store.scored(key)
    todo = list({record.id: record for record in records if record.id not in known}.values())
    pairs = store.labels(key)
    if not todo and pairs is not None:
        return TaggerUse(name, key, "", 0), Labels.from_pairs(pairs)
    resolved.fetch()
    stage = TagStage(resolved, options.max_pixels)
    with batches.opened(stage) as worker:
        tagger = worker.tagger
        if tagger.notice and tagger.notice not in resolved.notice:
            project.context.reporter.warn(tagger.notice)
        store.put_labels(key, tagger.labels.pairs())
        stage = replace(stage, batch_size=tagger.batch_size)
        outcomes = batches.work(
            worker,
            stage,
            todo,
            workers=options.workers,
            in_turns=tagger.fills_cores,
            reporter=project.context.reporter,
        )
        new = _keep(outcomes, todo, store, key)
        failed |= new
        return TaggerUse(name, key, tagger.device, len(todo) - len(new)), tagger.labels


def _keep(
    outcomes: Iterable[Outcome[PackedScores]], todo: Sequence[ImageRecord], store: Store, key: str
) -> dict[str, Failed]:
    """Store scores as they come; return the failures by image id."""
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
