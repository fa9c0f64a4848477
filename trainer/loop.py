"""The loop: samples become losses, losses a step of the optimizer; it yields what each step was,
and decides nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from datasetkit.options.train import TrainOptions
from trainer.data import seeds
from trainer.data.latents import Encoder
from trainer.data.prefetch import WORKERS, PreparedSample, Reader, StepBatches
from trainer.data.text_encoding import TextStates
from trainer.device import DeviceContext
from trainer.errors import LossDiverged
from trainer.families.base import Family, Parts
from trainer.files.lora import Lora
from trainer.networks.ema import WeightAverage
from trainer.networks.weight_norms import NormReport
from trainer.objective import loss_weights, losses, noise, output_preservation
from trainer.objective.noise_schedule import Prediction, alphas_cumprod, snr
from trainer.optimizers import build_optimizer
from trainer.plan import size_conditioning
from trainer.plan.plan import TrainingPlan

_Draws = Callable[[str], list[torch.Generator]]


@dataclass(frozen=True, slots=True)
class TrainingSetup:
    """All that a run is made of. The frozen fields are fixed; what they hold (weights, optimizer)
    is trained.

    average: the moving average of the weights, where it is kept.
    """

    options: TrainOptions
    plan: TrainingPlan
    place: DeviceContext
    family: Family
    parts: Parts
    lora: Lora
    encoder: Encoder
    texts: TextStates
    optimizer: Optimizer
    scheduler: LRScheduler
    scaler: torch.amp.GradScaler
    alphas: Tensor = field(default_factory=alphas_cumprod)
    average: WeightAverage | None = None

    @contextmanager
    def given(self) -> Iterator[None]:
        """Let the LoRA be what is saved, drawn with and validated: an average of its weights, where
        there is one.

        Afterwards it is what is trained again, bit by bit.
        """
        with build_optimizer.in_use(self.optimizer):
            if self.average is None:
                yield
                return
            with self.lora.showing(self.average.values):
                yield

    @property
    def prediction(self) -> Prediction:
        return "v" if self.parts.prediction == "v_prediction" else "epsilon"


@dataclass(frozen=True, slots=True)
class StepLog:
    """One optimizer step. step, epoch: the first is 1. loss: mean over its samples, weighted as
    trained.

    rates: part -> learning rate of this step, times what D-Adaptation found; scheduled: without
    that. gradient: its norm before clipping. last_of_epoch: no sample of the epoch is left. norms:
    of the modules' changes, where they are held down. waited: seconds that the step waited for its
    images to be read.
    """

    step: int
    epoch: int
    loss: float
    samples: int
    rates: dict[str, float]
    scheduled: dict[str, float]
    gradient: float
    last_of_epoch: bool
    norms: NormReport | None = None
    waited: float = 0.0


def steps(setup: TrainingSetup, *, start: int = 0, workers: int = WORKERS) -> Iterator[StepLog]:
    """Train from step `start` (0: from the beginning) to the last one, and yield each step when it
    is taken.

    workers: threads that read ahead; any number of them gives the same steps.
    """
    with closing(reader(setup).steps(start, workers=workers)) as read:
        begun = time.perf_counter()
        for work in read:
            yield _step(setup, work, time.perf_counter() - begun)
            begun = time.perf_counter()


def reader(setup: TrainingSetup) -> Reader:
    """Return what reads the samples of a run, for the process that asks."""
    return Reader(setup.options, setup.plan, setup.encoder, setup.place.process)


def _step(setup: TrainingSetup, work: StepBatches, waited: float) -> StepLog:
    step = work.number
    parameters = setup.lora.parameters()
    loss, samples = gradients(setup, work)
    if not math.isfinite(loss):
        raise LossDiverged(
            f"the loss of step {step + 1} is not a number",
            hint="lower the learning rate, or train in bf16 or float32",
        )
    setup.scaler.unscale_(setup.optimizer)
    limit = setup.options.max_grad_norm or math.inf
    gradient = torch.nn.utils.clip_grad_norm_(parameters, limit)
    rates = {
        str(group["name"]): build_optimizer.step_size(group)
        for group in setup.optimizer.param_groups
    }
    scheduled = {str(group["name"]): float(group["lr"]) for group in setup.optimizer.param_groups}
    setup.scaler.step(setup.optimizer)
    setup.scaler.update()
    setup.scheduler.step()
    setup.optimizer.zero_grad(set_to_none=True)
    held = setup.options.scale_weight_norms
    norms = setup.lora.hold(held) if held else None
    if setup.average is not None:
        setup.average.add(parameters)
    last = (step + 1) % setup.plan.totals.steps_per_epoch == 0
    return StepLog(
        step + 1, work.epoch + 1, loss, samples, rates, scheduled, float(gradient), last, norms,
        waited
    )  # fmt: skip


def gradients(setup: TrainingSetup, work: StepBatches) -> tuple[float, int]:
    """Add up the gradients of one step; return its mean loss and the number of its samples.

    Every sample weighs 1 / (batch size x accumulation x processes), also in an epoch's smaller last
    batches: so each image counts the same, whatever batch it is in.
    """
    nominal = setup.plan.batch_settings.samples_per_step
    parameters = setup.lora.parameters()
    total = torch.zeros((), dtype=setup.place.tally, device=setup.place.device)
    for position, batch in work.batches:
        if setup.lora.random:
            # The dropout draws from torch's own generator: it is set for each batch, so that a
            # resumed run goes on.
            torch.manual_seed(
                seeds.generator(
                    setup.options.seed, work.epoch, "", position, "dropout"
                ).initial_seed()
            )
        each = sample_losses(setup, batch, work.epoch)
        setup.scaler.scale(each.sum() / nominal).backward()  # type: ignore[no-untyped-call]
        total += each.detach().sum().to(total.dtype)
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    setup.place.summed([p.grad for p in parameters if p.grad is not None])
    samples = torch.tensor(float(sum(len(batch) for _, batch in work.batches)), dtype=total.dtype)
    tally = torch.stack([total, samples.to(total.device)])
    setup.place.summed([tally])
    summed, count = tally.tolist()
    return summed / count, int(count)


def sample_losses(setup: TrainingSetup, batch: Sequence[PreparedSample], epoch: int) -> Tensor:
    """Return the weighted loss of each sample of a batch, float32 of shape (samples,)."""
    options = setup.options

    def generators(purpose: str) -> list[torch.Generator]:
        return [
            seeds.generator(options.seed, epoch, seen.image.id, seen.number, purpose)
            for seen in batch
        ]

    t = noise.timesteps(generators("timestep"), options.min_timestep, options.max_timestep)
    return objective(setup, batch, draw(setup, batch, t, generators))


@dataclass(frozen=True, slots=True)
class NoisyBatch:
    """A batch with its noise, on the CPU. noisy: what the UNet sees; timesteps: (samples,)."""

    latents: Tensor
    noise: Tensor
    noisy: Tensor
    timesteps: Tensor

    def rows(self, places: Sequence[int]) -> NoisyBatch:
        """Return some of the samples."""
        return NoisyBatch(
            *(t[list(places)] for t in (self.latents, self.noise, self.noisy, self.timesteps))
        )


def draw(
    setup: TrainingSetup,
    batch: Sequence[PreparedSample],
    t: Tensor,
    generators: _Draws,
    *,
    perturbed: bool = True,
) -> NoisyBatch:
    """Draw the latents and the noise of a batch. perturbed: with the noise of ip_noise_gamma, which
    is for training.
    """
    options = setup.options
    sampled = [
        setup.encoder.moments(seen.image, seen.at, seen.flip, seen.pixels).sample(generator)
        for seen, generator in zip(batch, generators("latent"), strict=True)
    ]
    latents = torch.stack(sampled) * setup.family.LATENT_SCALE
    eps = _noise(options, latents, generators)
    input_noise = eps
    if options.ip_noise_gamma and perturbed:
        input_noise = noise.perturbed(
            eps, generators("perturbation"), options.ip_noise_gamma,
            random_strength=options.ip_noise_gamma_random_strength,
        )  # fmt: skip
    return NoisyBatch(latents, eps, noise.add_noise(latents, input_noise, t, setup.alphas), t)


def objective(setup: TrainingSetup, batch: Sequence[PreparedSample], drawn: NoisyBatch) -> Tensor:
    """Return the weighted loss of each sample, float32 of shape (samples,)."""
    options, place, t = setup.options, setup.place, drawn.timesteps
    target = place.sent(
        losses.TARGETS[setup.prediction](drawn.latents, drawn.noise, t, setup.alphas)
    )
    predicted = predict(setup, batch, drawn)
    if kept := output_preservation.places(batch):
        target = output_preservation.with_base_predictions(
            target,
            kept,
            setup.lora,
            lambda rows: predict(setup, [batch[i] for i in rows], drawn.rows(rows)),
        )
    clear = snr(setup.alphas)[t]
    c = place.sent(
        losses.HUBER_SCHEDULES[options.huber_schedule](
            t, clear, options.huber_c, options.huber_scale
        )
    )
    each = losses.each(predicted, target, _masks(batch, drawn.latents), kind=options.loss_type, c=c)
    weight = loss_weights.weights(
        clear, setup.prediction, {name: getattr(options, name) for name in loss_weights.WEIGHTS}
    )
    prior = torch.tensor(
        [options.prior_loss_weight if seen.image.subset.is_reg else 1.0 for seen in batch]
    )
    return each * place.sent(weight * prior)


def predict(setup: TrainingSetup, batch: Sequence[PreparedSample], drawn: NoisyBatch) -> Tensor:
    """Return what the UNet makes of a batch, with the LoRA as it is now."""
    place = setup.place
    with place.autocast():
        told = setup.texts.states([seen.caption for seen in batch]).sized(place.sent(_sizes(batch)))
        predicted: Tensor = setup.family.predict(
            setup.parts, place.sent(drawn.noisy.to(place.dtype)), place.sent(drawn.timesteps), told
        )
    return predicted


def _sizes(batch: Sequence[PreparedSample]) -> Tensor:
    """Return what the samples tell of their images' sizes, (samples, 6)."""
    return torch.tensor(
        [size_conditioning.told(seen.image, seen.at, seen.flip) for seen in batch],
        dtype=torch.float32,
    )


def _noise(options: TrainOptions, latents: Tensor, generators: _Draws) -> Tensor:
    """Draw the noise of a batch, with what the options add to it."""
    eps = noise.noise_like(latents, generators("noise"))
    if options.noise_offset:
        return noise.with_offset(
            eps, latents, generators("offset"), options.noise_offset,
            adaptive=options.adaptive_noise_scale,
            random_strength=options.noise_offset_random_strength,
        )  # fmt: skip
    if options.multires_noise_iterations:
        return noise.with_pyramid(
            eps,
            generators("pyramid"),
            options.multires_noise_iterations,
            options.multires_noise_discount,
        )
    return eps


def _masks(batch: Sequence[PreparedSample], like: Tensor) -> Tensor | None:
    """Return the masks of a batch at the size of its latents, from 0 to 1; None where nothing is
    masked.
    """
    if all(seen.mask is None or seen.image.mask is None for seen in batch):
        return None
    masks = torch.stack(
        [torch.from_numpy(seen.mask.copy()) for seen in batch if seen.mask is not None]
    )
    return losses.latent_mask(masks[:, None].float() / 255, (like.shape[2], like.shape[3]))
