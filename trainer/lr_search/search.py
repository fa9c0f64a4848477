"""Run the search: one base load, captions and latents encoded once, the same network for all runs.

A probe trains one part of the model with an optimizer that estimates the learning rate, until the
estimate is flat. Its flat is only a candidate: an estimate never falls, so it is flat after the run
was ruined, too. A sweep of short AdamW runs from the same start decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, redirect_stderr
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path

import torch
from torch import Tensor

from datasetkit.core.progress import SILENT, Reporter
from datasetkit.options.train import TrainOptions
from trainer import loop, setup
from trainer.data.latent_cache import FOLDER, LatentCache
from trainer.data.text_encoding import TextStates
from trainer.errors import LossDiverged
from trainer.families.base import rates as part_rates
from trainer.files import lora
from trainer.loop import TrainingSetup
from trainer.lr_search import rules
from trainer.lr_search.rules import (
    FACTORS,
    RAISED,
    SWEEP_STEPS,
    Outcome,
    PartSearch,
    Probe,
    ProbeOptimizer,
    SearchPart,
    SweepPoint,
)
from trainer.lr_search.run_options import of_base, of_probe, of_sweep
from trainer.monitor import validation
from trainer.networks.network import Lora
from trainer.optimizers import trial
from trainer.paired import difference
from trainer.plan.plan import TrainImage, TrainingPlan


def search(
    options: TrainOptions,
    plan: TrainingPlan,
    parts: Sequence[SearchPart],
    *,
    optimizer: ProbeOptimizer = "prodigy",
    most: int = 300,
    seeds: int = 3,
    sweep_steps: int = SWEEP_STEPS,
    d0: float = rules.D0,
    reporter: Reporter = SILENT,
) -> tuple[PartSearch, ...]:
    """Search the learning rate of each part; the others are not trained meanwhile.

    most: steps of a probe at most; seeds: that many probes of each part, from the seed of the
    options on; sweep_steps: of AdamW with each rate, 0 for no sweep. Writes nothing.
    Raises ModelFileError, ConfigError.
    """
    reporter.phase("loading the base model")
    base_options = of_base(options, parts)
    base = setup.load_parts(base_options, reporter)
    reporter.phase("preparing the network")
    whole = setup.assemble(base_options, plan, base, reporter=reporter)
    _encode(whole, reporter)
    images = validation.training_images(plan, options, rules.IMAGES)
    start = [parameter.detach().clone() for parameter in whole.lora.parameters()]
    runner = Runner(options, whole, images, start, optimizer, most, sweep_steps, reporter)
    try:
        return tuple(_search_part(runner, part, seeds, d0) for part in parts)
    finally:
        reporter.finish()


def _encode(whole: TrainingSetup, reporter: Reporter) -> None:
    """Encode the latents of all images once; those that a training keeps in its folder are read."""
    encoder, plan = whole.encoder, whole.plan
    used = [image for image, n in zip(plan.images, plan.samples, strict=True) if n]
    cached = [image for image in used if not image.subset.random_crop]
    if not encoder.cache or not cached:
        return
    if whole.options.cache_latents_to_disk:
        encoder.disk = LatentCache.existing(Path(whole.options.output_dir) / FOLDER, reporter)
    encoder.fill(cached, reporter)
    if len(cached) == len(used):
        encoder.vae.to("cpu")


def _search_part(runner: Runner, part: SearchPart, seeds: int, d0: float) -> PartSearch:
    title = runner.title(part)
    probes = []
    for number in range(seeds):
        runner.label = f"{title}, probe {number + 1} of {seeds}"
        probes.append(runner.probe(part, runner.options.seed + number, d0))
    candidate = rules.candidate(probes)
    if candidate is None:
        return PartSearch(part, title, tuple(probes), None, (), None)
    if not runner.sweep_steps:
        return PartSearch(part, title, tuple(probes), candidate, (), rules.rounded(candidate))
    points = runner.sweep(part, [rules.rounded(factor * candidate) for factor in FACTORS])
    return PartSearch(part, title, tuple(probes), candidate, points, rules.taken_rate(points))


@dataclass(slots=True)
class Runner:
    """Starts one short run after another on the same model. start: the weights of the network at
    step 0 of the seed of the options; images: the grid.
    """

    options: TrainOptions
    whole: TrainingSetup
    images: Sequence[TrainImage]
    start: list[Tensor]
    optimizer: ProbeOptimizer
    most: int
    sweep_steps: int
    reporter: Reporter = SILENT
    label: str = ""
    _texts: dict[SearchPart, TextStates] = field(default_factory=dict)

    def title(self, part: SearchPart) -> str:
        """Return what messages call a part of the model."""
        return rules.title(part, self.whole.family.DENOISER)

    def probe(self, part: SearchPart, seed: int, d0: float) -> Probe:
        """Probe a part; where the estimate never leaves d0, again with ten times as much."""
        for raised in range(RAISED + 1):
            result = self.probe_once(part, seed, d0 * 10**raised)
            if result.outcome != "never left d0":
                break
        return result

    def probe_once(self, part: SearchPart, seed: int, d0: float) -> Probe:
        """Probe a part with an estimate that starts at d0."""
        run = self._run(part, of_probe(self.options, part, seed, self.optimizer, d0), self.most)
        before = self._grid(run)
        estimates: list[float] = []
        flat_from = None
        outcome: Outcome = "growing"
        self.reporter.start(self.label, self.most)
        try:
            for rate in self._estimates(run):
                estimates.append(rate)
                flat_from = rules.flat_from(estimates, d0)
                if flat_from is not None:
                    outcome = "flat"
                    break
        except LossDiverged:
            outcome = "not finite"
        if outcome == "growing" and not rules.has_left(estimates, d0):
            outcome = "never left d0"
        after = self._grid(run)
        change = None
        if before is not None and after is not None:
            change = difference(after, before)
        return Probe(seed, d0, outcome, tuple(estimates), flat_from, change)

    def _estimates(self, run: TrainingSetup) -> Iterator[float]:
        """Train, and yield the estimated rate of each step."""
        with closing(loop.steps(run)) as steps:
            for log in steps:
                self.reporter.advance()
                rate = max(log.rates.values())
                self.reporter.note(f"rate {rate:.3g}, loss {log.loss:.4f}")
                yield rate

    def sweep(self, part: SearchPart, rates: Sequence[float]) -> tuple[SweepPoint, ...]:
        """Train with each rate from the same start, and compare the losses on the grid."""
        losses: dict[float, list[list[float]] | None] = {}
        before: list[list[float]] | None = None
        for number, rate in enumerate(rates, 1):
            run = self._run(part, of_sweep(self.options, part, rate), self.sweep_steps)
            before = before or self._grid(run)
            title = f"{self.title(part)}, sweep {number} of {len(rates)}, rate {rate:g}"
            self.reporter.start(title, self.sweep_steps)
            try:
                for log in loop.steps(run):
                    self.reporter.advance()
                    self.reporter.note(f"loss {log.loss:.4f}")
                losses[rate] = self._grid(run)
            except LossDiverged:
                losses[rate] = None
        return rules.decide(losses, before or [])

    def _run(self, part: SearchPart, options: TrainOptions, steps: int) -> TrainingSetup:
        """Return a run of a part from the start: a new optimizer, the same model."""
        whole = self.whole
        self._restart(options)
        modules = [m for m in whole.lora.modules if m.part in rules.PROBED_PARTS[part]]
        network = Lora(tuple(modules), whole.lora.has_dropout)
        for name in whole.parts.names:
            whole.parts.part(name).train(name in network.parts)
        trained = set(map(id, network.parameters()))
        for parameter in whole.lora.parameters():
            parameter.requires_grad_(id(parameter) in trained)
            parameter.grad = None
        rates = part_rates(whole.family, options)
        groups = network.grouped(options.network(), rates, whole.family.BLOCKS)
        with redirect_stderr(StringIO()):  # the estimating ones print their settings each time
            optimizer, scheduler = trial.build(options, steps, *groups)
        device = whole.device_context.device.type
        return replace(
            whole,
            options=options,
            plan=replace(whole.plan, steps=steps),
            lora=network,
            texts=self._texts_of(part),
            optimizer=optimizer,
            scheduler=scheduler,
            scaler=torch.amp.GradScaler(device, enabled=whole.scaler.is_enabled()),
        )

    def _restart(self, options: TrainOptions) -> None:
        """Give the whole network its weights at step 0. Those of a file are the same for each
        seed.
        """
        with torch.no_grad():
            for parameter, value in zip(self.whole.lora.parameters(), self.start, strict=True):
                parameter.copy_(value)
        if not options.network_weights:
            lora.draw(self.whole.lora, options.seed)

    def _texts_of(self, part: SearchPart) -> TextStates:
        """Return the captions' states: encoded once while no text encoder is trained."""
        if part not in self._texts:
            texts = self.whole.texts
            self._texts[part] = TextStates(
                texts.encode, texts.dtype, part == "text", together=texts.together
            )
        return self._texts[part]

    def _grid(self, run: TrainingSetup) -> list[list[float]] | None:
        """Return the losses on the grid, (images, timesteps); None where one is not finite."""
        losses = validation.losses(run, self.images)
        if not bool(torch.isfinite(losses).all()):
            return None
        rows: list[list[float]] = losses.tolist()
        return rows
