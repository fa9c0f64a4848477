"""Measure the LoRAs of a grid: losses on held-out images, tags, distances, drift."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from datasetkit.captions.caption import normal_form, parse
from datasetkit.core.errors import ConfigError, DatasetError
from datasetkit.core.files import display
from datasetkit.core.progress import Reporter
from datasetkit.core.words import counted
from datasetkit.images import pixels
from datasetkit.options import toml
from datasetkit.options.grid import GridOptions
from datasetkit.options.tag import TagOptions
from datasetkit.options.train import TrainOptions
from datasetkit.verbs.shared.triggers import triggers_of, words_of
from datasetkit.vision import similarity
from taggers import models, registry
from taggers.selection import select
from trainer.config import data_folder
from trainer.grid import scores
from trainer.grid.axes import FILE_AXES, WEIGHT_AXES, Axis, whole_word
from trainer.grid.cells import Cell, Grid
from trainer.grid.scores import GridScores, Values, VariantMeasures
from trainer.monitor import validation
from trainer.plan.plan import TrainImage, TrainingPlan, find_subsets, make_plan

_MOST: Final = 16  # held-out images that are measured, and as many training images
_MOST_USUAL: Final = 32  # images whose mean is a usual one


@dataclass(frozen=True, slots=True)
class ScoringImages:
    """The images that LoRAs are measured with. usual: regularisation images, whose mean shows what
    all images share. trigger: words without which a prompt must not show the subject.
    """

    held_out: tuple[TrainImage, ...]
    trained: tuple[TrainImage, ...]
    usual: tuple[Path, ...]
    trigger: tuple[str, ...]


def find_images(near: Path, options: GridOptions, train: TrainOptions) -> ScoringImages:
    """Return the images of the training. near: a LoRA file or its folder, whose dsk.toml names the
    dataset. Raises DatasetError without one.
    """
    folder = near if near.is_dir() else near.parent
    config = toml.find(folder)
    data = Path(options.data) if options.data else config.root
    if data is None:
        raise DatasetError(
            "--score needs the dataset of the training, and there is no dsk.toml",
            hint="name it with --data",
        )
    subsets, _ = find_subsets(data_folder(data, config), train)
    plan = make_plan(subsets, train)
    held = plan.held_out
    if options.held_out:
        held = _of_folder(Path(options.held_out), plan, train)
    held = held[:_MOST]
    first = [p for p in plan.images if not p.subset.is_reg]
    trained = validation.training_images(plan, train, len(held) or _MOST)
    trigger = options.trigger or words_of(triggers_of((p.path, parse(p.caption)) for p in first))
    usual = tuple(dict.fromkeys(p.path for p in plan.images if p.subset.is_reg))[:_MOST_USUAL]
    return ScoringImages(held, trained, usual, tuple(trigger))


def _of_folder(folder: Path, plan: TrainingPlan, train: TrainOptions) -> tuple[TrainImage, ...]:
    """Return the images of a folder as if they were trained. Raises ConfigError for images that
    were.
    """
    if not folder.is_dir():
        raise ConfigError(
            f"held_out = {display(folder)} is not a folder",
            hint="name a folder of images with captions",
        )
    like = next(p.subset for p in plan.images if not p.subset.is_reg)
    subset = replace(like, folder=folder, repeats=1)
    images = make_plan([subset], replace(train, validation_split=0.0)).images
    seen = {p.id for p in plan.images}
    if both := [p for p in images if p.id in seen]:
        raise ConfigError(
            f"{display(both[0].path)} is a training image: it is not held out",
            hint="name a folder of other images with --held-out",
        )
    return images


# ---- which cells are needed beside those of the grid


@dataclass(frozen=True, slots=True)
class ScoredCells:
    """The cells that are measured. with_trigger, without: cell -> what the base alone makes of it;
    extra: those that the grid does not have, by file.
    """

    with_trigger: Mapping[str, tuple[Cell, Cell]]
    without: Mapping[str, tuple[Cell, Cell]]
    extra: Mapping[str, Cell]


def cells_to_score(grid: Grid, trigger: Sequence[str]) -> ScoredCells:
    """Sort the cells of a grid by whether their prompt has the trigger. Where none is without it,
    each prompt is also drawn without it.
    """
    has = [whole_word(word) for word in trigger]
    named: dict[str, tuple[Cell, Cell]] = {}
    others: dict[str, tuple[Cell, Cell]] = {}
    for file, cell in grid.unique.items():
        text = cell.request.prompt.text
        group = named if not has or any(p.search(text) for p in has) else others
        group[file] = (cell, _alone(cell))
    if not others and has:
        for cell, _ in list(named.values()):
            stripped = _without_trigger(cell, trigger)
            if stripped is not None:
                others[stripped.file] = (stripped, _alone(stripped))
    pairs = [*named.values(), *others.values()]
    needed = {cell.file: cell for pair in pairs for cell in pair}
    return ScoredCells(named, others, {f: c for f, c in needed.items() if f not in grid.unique})


def _alone(cell: Cell) -> Cell:
    return replace(cell, request=replace(cell.request, lora=None))


def _without_trigger(cell: Cell, trigger: Sequence[str]) -> Cell | None:
    """Return the cell of the same prompt without the trigger's tags; None if nothing is left."""
    words = {normal_form(word) for word in trigger}
    prompt = cell.request.prompt
    tags = [tag.strip() for tag in prompt.text.split(",")]
    kept = [tag for tag in tags if tag and normal_form(tag) not in words]
    text = ", ".join(kept)
    if not text or any(whole_word(word).search(text) for word in trigger):
        return None
    return replace(cell, request=replace(cell.request, prompt=replace(prompt, text=text)))


# ---- measuring


class GridScorer:
    """Measures the LoRAs of a grid whose cells are drawn.

    known: losses of an earlier run, by key; they are not computed again.
    """

    def __init__(
        self,
        grid: Grid,
        cells: ScoredCells,
        images: ScoringImages,
        options: GridOptions,
        folder: Path,
        reporter: Reporter,
        known: Mapping[str, Any],
    ) -> None:
        self._grid, self._cells, self._images = grid, cells, images
        self._options, self._folder, self._reporter = options, folder, reporter
        self._known = known
        self.losses: dict[str, Any] = {}
        self._drawn: dict[str, similarity.Features] = {}

    def measure(self, model_of: Callable[[Cell], Any]) -> GridScores:
        """Return the scores. model_of: returns the loaded model of a cell."""
        variants = self._variants()
        losses = self._all_losses(variants, model_of)
        self._reporter.phase("comparing images")
        distances = self._similarity()
        recall, tagger = self._recall()
        measures = {
            variant: VariantMeasures(
                held_out=losses[variant][0],
                trained=losses[variant][1],
                to_held_out=distances["held_out"].get(variant),
                to_trained=distances["trained"].get(variant),
                recall=recall.get(variant),
                drift=distances["drift"].get(variant),
                diversity=distances["diversity"].get(variant),
            )
            for variant in variants
        }
        return self._scored(variants, measures, tagger)

    def _variants(self) -> dict[tuple[Any, ...], Cell]:
        """Return a cell of each LoRA at its weights, for each base the base alone first."""
        variants: dict[tuple[Any, ...], Cell] = {}
        for cell in self._grid.unique.values():
            alone = _alone(cell)
            variants.setdefault(alone.variant, alone)
            variants.setdefault(cell.variant, cell)
        return variants

    # ---- losses

    def _all_losses(
        self, variants: Mapping[tuple[Any, ...], Cell], model_of: Callable[[Cell], Any]
    ) -> dict[tuple[Any, ...], tuple[Values | None, Values | None]]:
        every: dict[tuple[Any, ...], tuple[Values | None, Values | None]] = {}
        measured: dict[str, Any] = {}
        self._reporter.start("measuring the loss", len(variants))
        try:
            for variant, cell in variants.items():
                key = self._key(cell)
                if key not in self._known:
                    self.losses[key] = self._losses_of(cell, model_of, measured)
                else:
                    self.losses[key] = self._known[key]
                held, trained = (np.asarray(rows, np.float64) for rows in self.losses[key])
                every[variant] = (
                    held if len(held) else None,
                    trained if len(held) else None,
                )
                self._reporter.advance()
        finally:
            self._reporter.finish()
        return every

    def _losses_of(
        self, cell: Cell, model_of: Callable[[Cell], Any], measured: dict[str, Any]
    ) -> list[list[list[float]]]:
        from trainer.grid import losses

        if not self._images.held_out:
            return [[], []]
        model = model_of(cell)
        base = cell.request.base
        if base not in measured:
            measured.clear()  # of the base before
            measured[base] = losses.measured(model)
        now = replace(measured[base], options=model.options)
        return [
            losses.losses(now, images).tolist()
            for images in (self._images.held_out, self._images.trained)
        ]

    def _key(self, cell: Cell) -> str:
        """Return a hash of what the losses of a variant depend on."""
        _, *variant = cell.variant
        images = [
            [p.id, p.caption, p.bucket.bucket]
            for p in (*self._images.held_out, *self._images.trained)
        ]
        facts = [cell.base.hash, cell.base.settings, variant, cell.request.clip_skip, images]
        return hashlib.sha256(json.dumps(facts).encode("utf-8")).hexdigest()

    # ---- distances

    def _similarity(self) -> dict[str, dict[tuple[Any, ...], Values]]:
        model = similarity.SimilarityModel()
        cells = {
            cell.file: cell
            for pairs in (self._cells.with_trigger, self._cells.without)
            for pair in pairs.values()
            for cell in pair
        }
        drawn = {file: self._scores_of(model, [self._folder / file]) for file in cells}
        alone = [drawn[f] for f, cell in cells.items() if cell.lora is None]
        usual_scores = [self._scores_of(model, self._images.usual)] if self._images.usual else alone
        usual = similarity.mean_scores(usual_scores)
        features = {file: similarity.features(rows, usual) for file, rows in drawn.items()}
        others = {
            name: similarity.features(self._scores_of(model, paths), usual)
            for name, paths in (
                ("held_out", [p.path for p in self._images.held_out]),
                ("trained", [p.path for p in self._images.trained]),
            )
            if paths
        }
        distances: dict[str, dict[tuple[Any, ...], Values]] = {"held_out": {}, "trained": {}}

        def nearest(name: str) -> Callable[[Cell, Cell], Values]:
            return lambda cell, _: similarity.to_nearest(features[cell.file], others[name])

        for name in others:
            distances[name] = _by_variant(self._cells.with_trigger, nearest(name))
        distances["drift"] = _by_variant(
            self._cells.without,
            lambda cell, base: similarity.pairwise(features[cell.file], features[base.file]),
        )
        distances["diversity"] = diversity(self._cells.with_trigger, features)
        return distances

    @staticmethod
    def _scores_of(model: similarity.SimilarityModel, paths: Iterable[Path]) -> similarity.Features:
        return model.scores(pixels.load(path) for path in paths)

    # ---- tags

    def _recall(self) -> tuple[dict[tuple[Any, ...], Values], str]:
        """Return the share of each prompt's tags that the tagger finds, and the tagger's name."""
        name = self._options.tagger or _installed_tagger()
        resolved = registry.resolve(name, reporter=self._reporter)
        resolved.fetch()
        tagger = resolved.open()
        defaults = TagOptions()
        vocabulary = {normal_form(label) for label in tagger.labels.names}
        trigger = {normal_form(word) for word in self._images.trigger}
        least = defaults.threshold if isinstance(defaults.threshold, float) else 0.35

        def share(cell: Cell, _: Cell) -> Values:
            wanted = {normal_form(tag) for tag in parse(cell.request.prompt.text).tags}
            wanted = (wanted & vocabulary) - trigger
            if not wanted:
                return np.zeros(0)
            image = tagger.prepare(pixels.load(self._folder / cell.file))
            (row,) = tagger.scores([image])
            tags = select(
                row, tagger.labels, threshold=least,
                character_threshold=defaults.character_threshold,
            )  # fmt: skip
            shown = {normal_form(tag.name) for tag in tags}
            return np.asarray([len(wanted & shown) / len(wanted)])

        try:
            every = {**self._cells.with_trigger, **self._cells.without}
            return _by_variant(every, share), tagger.identity.name
        finally:
            tagger.close()

    # ---- the table

    def _scored(
        self,
        variants: Mapping[tuple[Any, ...], Cell],
        measures: Mapping[tuple[Any, ...], VariantMeasures],
        tagger: str,
    ) -> GridScores:
        several = len({cell.request.base for cell in variants.values()}) > 1
        rows = []
        for variant, cell in variants.items():
            alone = measures[_alone(cell).variant]
            label = _label(cell, self._grid.axes, several=several)
            name = "" if cell.lora is None else cell.lora.name
            base = None if cell.lora is None else alone
            rows.append(scores.score(label, name, variant[2:], measures[variant], base))
        suggestion = self._suggestion(variants, measures)
        return GridScores(
            tuple(rows), suggestion, tagger, len(self._images.held_out),
            len(self._images.trained), tuple(self._notes(tagger)),
        )  # fmt: skip

    def _suggestion(
        self,
        variants: Mapping[tuple[Any, ...], Cell],
        measures: Mapping[tuple[Any, ...], VariantMeasures],
    ) -> scores.FileSuggestion:
        """Suggest among the files at the weight nearest 1, on the first base."""
        base = next(iter(variants.values())).request.base
        cells = [c for c in variants.values() if c.lora is not None and c.request.base == base]
        nearest = min((c.request.weights for c in cells), key=lambda w: sum(abs(x - 1) for x in w))
        chosen = [c for c in cells if c.request.weights == nearest and c.lora is not None]
        chosen.sort(key=lambda c: c.lora.age if c.lora is not None else (False, 0, 0, False))
        first = chosen[0]
        if len({c.lora.run for c in chosen if c.lora is not None}) > 1:
            return scores.FileSuggestion("", "", ("the files are not of one run",))
        plain = [c for c in chosen if c.lora is not None and not c.lora.best]
        listed = [
            (_label(c, self._grid.axes, several=False), c.lora.name, measures[c.variant])
            for c in plain
            if c.lora is not None
        ]
        return scores.suggest(listed, measures[_alone(first).variant])

    def _notes(self, tagger: str) -> list[str]:
        images = self._images
        notes = []
        if images.held_out:
            notes.append(
                f"loss: on {counted(len(images.held_out), 'held-out image')} and as many training "
                "images, with the same noise each time; changes are since the base, ± their "
                "standard error over images"
            )
        else:
            notes.append(
                "no held-out images: give them with --held-out, or train with validation_split"
            )
        few = ", which knows few of them; WD14 is not on this machine"
        notes.append(
            f"tags: the share of the prompts' tags that the tagger {tagger} finds"
            + (few if tagger == registry.BASIC and not self._options.tagger else "")
        )
        notes.append(
            "distances: 1 - cosine of the features of EfficientNet-Lite0 to the nearest image; "
            + ("those of prompts with " + ", ".join(images.trigger) if images.trigger else
               "those of all prompts, as no trigger is known")
        )  # fmt: skip
        if self._cells.without:
            notes.append(
                "drift: the distance of images without the trigger to what the base draws of the "
                "same prompt and seed"
            )
        notes.append(
            "diversity: the mean distance of the images of a prompt that differ in their seeds "
            "alone; it needs two seeds or more"
        )
        return notes


def _installed_tagger() -> str:
    is_here = models.cached(models.MODELS[models.DEFAULT]) is not None
    return models.DEFAULT if is_here else registry.BASIC


def diversity(
    pairs: Mapping[str, tuple[Cell, Cell]], features: Mapping[str, similarity.Features]
) -> dict[tuple[Any, ...], Values]:
    """Return for each variant the mean distance of the images of each prompt over its seeds, of
    those prompts that have several.
    """
    drawn: dict[tuple[Any, ...], dict[str, dict[str, similarity.Features]]] = {}
    for pair in pairs.values():
        for cell in pair:
            request = replace(cell.request, prompt=replace(cell.request.prompt, seed=0))
            images = drawn.setdefault(cell.variant, {}).setdefault(repr(request), {})
            images[cell.file] = features[cell.file]
    return {
        variant: np.asarray(values)
        for variant, prompts in drawn.items()
        if (
            values := [
                similarity.mean_distance(np.concatenate(list(images.values())))
                for _, images in sorted(prompts.items())
                if len(images) > 1
            ]
        )
    }


def _by_variant(
    pairs: Mapping[str, tuple[Cell, Cell]], measure: Callable[[Cell, Cell], Values]
) -> dict[tuple[Any, ...], Values]:
    """Return the values of each variant, in the order of the prompts and seeds, so that those of
    two variants can be compared one by one.
    """
    every: dict[tuple[Any, ...], dict[str, Values]] = {}
    for cell, base in pairs.values():
        for shown in (cell, base):
            measured = every.setdefault(shown.variant, {})
            if base.file not in measured:
                measured[base.file] = measure(shown, base)
    # every variant has a value for each of the base's cells
    return {
        variant: np.concatenate([values[file] for file in sorted(values)])
        for variant, values in every.items()
        if values
    }


def _label(cell: Cell, axes: Sequence[Axis], *, several: bool) -> str:
    """Return what a variant is called: as its values on the axes of the LoRA."""
    lora = cell.lora
    parts = [cell.base.name] if several else []
    if lora is None:
        return ", ".join([*parts, "without"])
    named = [
        value.label
        for axis in axes
        if axis.name in FILE_AXES
        for value in axis.values
        if value.value is not None and value.value.hash == lora.hash
    ]
    parts.append(" = ".join(named) or lora.name)  # the best file may be that of an epoch
    unet, text = cell.request.weights
    if any(axis.name in WEIGHT_AXES for axis in axes):
        parts.append(f"weight {unet:g}" if unet == text else f"weights {unet:g} and {text:g}")
    return ", ".join(parts)
