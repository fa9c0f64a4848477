"""The loop: visits become losses, losses a step of the optimizer; it yields what each step was, and decides nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from datasetkit.core.config import TrainOptions
from trainer import captions as pipeline
from trainer import losses, noise, optim, pixels, seeds
from trainer.epochs import Batch, Visit, epoch_batches, step_batches
from trainer.errors import Diverged
from trainer.families.base import Family, Parts
from trainer.latents import Encoder
from trainer.lora import Lora
from trainer.norms import NormReport, scale_weight_norms
from trainer.place import Place
from trainer.plan import Picture, TrainPlan
from trainer.schedule import Prediction, alphas_cumprod, snr

_Draws = Callable[[str], list[torch.Generator]]


@dataclass(frozen=True, slots=True)
class Setup:
    """All that a run is made of. The frozen fields are fixed; what they hold (weights, optimizer) is trained."""

    options: TrainOptions
    plan: TrainPlan
    place: Place
    family: Family
    parts: Parts
    lora: Lora
    encoder: Encoder
    optimizer: Optimizer
    scheduler: LRScheduler
    scaler: torch.amp.GradScaler
    alphas: Tensor = field(default_factory=alphas_cumprod)

    @property
    def prediction(self) -> Prediction:
        return "v" if self.options.v_parameterization else "epsilon"


@dataclass(frozen=True, slots=True)
class StepLog:
    """One optimizer step. step, epoch: the first is 1. loss: mean over its visits, weighted as trained.

    rates: part -> learning rate of this step, times what D-Adaptation found. gradient: its norm before clipping.
    last_of_epoch: no visit of the epoch is left. norms: of the modules' changes, where they are held down.
    """

    step: int
    epoch: int
    loss: float
    visits: int
    rates: dict[str, float]
    gradient: float
    last_of_epoch: bool
    norms: NormReport | None = None


def steps(setup: Setup, *, start: int = 0) -> Iterator[StepLog]:
    """Train from step `start` (0: from the beginning) to the last one, and yield each step when it is taken."""
    per_epoch = setup.plan.totals.steps_per_epoch
    batches: list[Batch] = []
    for step in range(start, setup.plan.steps):
        epoch, of_epoch = divmod(step, per_epoch)
        if of_epoch == 0 or not batches:
            batches = epoch_batches(setup.plan, setup.options.seed, epoch)
        yield _step(setup, batches, step, epoch, of_epoch)


def _step(setup: Setup, batches: Sequence[Batch], step: int, epoch: int, of_epoch: int) -> StepLog:
    parameters = setup.lora.parameters()
    loss, visits = gradients(setup, batches, epoch, of_epoch)
    if not math.isfinite(loss):
        raise Diverged(
            f"the loss of step {step + 1} is not a number", hint="lower the learning rate, or train in bf16 or float32"
        )
    setup.scaler.unscale_(setup.optimizer)
    limit = setup.options.max_grad_norm or math.inf
    gradient = torch.nn.utils.clip_grad_norm_(parameters, limit)
    rates = {str(group["name"]): optim.step_size(group) for group in setup.optimizer.param_groups}
    setup.scaler.step(setup.optimizer)
    setup.scaler.update()
    setup.scheduler.step()
    setup.optimizer.zero_grad(set_to_none=True)
    held = setup.options.scale_weight_norms
    norms = scale_weight_norms(setup.lora.factors(), held) if held else None
    last = of_epoch + 1 == setup.plan.totals.steps_per_epoch
    return StepLog(step + 1, epoch + 1, loss, visits, rates, float(gradient), last, norms)


def gradients(setup: Setup, batches: Sequence[Batch], epoch: int, of_epoch: int) -> tuple[float, int]:
    """Add up the gradients of one step; return its mean loss and the number of its visits.

    Every visit weighs 1 / (batch size x accumulation x processes), also in an epoch's smaller last batches: so each
    picture counts the same, whatever batch it is in.
    """
    schedule = setup.plan.schedule
    nominal = schedule.batch_size * schedule.gradient_accumulation * schedule.processes
    parameters = setup.lora.parameters()
    tally = torch.zeros(2, dtype=torch.float64, device=setup.place.device)
    for position, batch in step_batches(batches, setup.plan, of_epoch, setup.place.process):
        if setup.options.network_dropout:
            # The dropout draws from torch's own generator: it is set for each batch, so that a resumed run goes on.
            torch.manual_seed(seeds.generator(setup.options.seed, epoch, "", position, "dropout").initial_seed())
        each = sample_losses(setup, batch, epoch)
        setup.scaler.scale(each.sum() / nominal).backward()  # type: ignore[no-untyped-call]
        tally += torch.stack([each.detach().sum().double(), torch.tensor(float(len(batch)), device=each.device)])
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    setup.place.summed([p.grad for p in parameters if p.grad is not None])
    setup.place.summed([tally])
    total, visits = tally.tolist()
    return total / visits, int(visits)


def sample_losses(setup: Setup, batch: Batch, epoch: int) -> Tensor:
    """Return the weighted loss of each visit of a batch, float32 of shape (visits,)."""
    options, place = setup.options, setup.place
    pictures = [setup.plan.pictures[visit.picture] for visit in batch]

    def generators(purpose: str) -> list[torch.Generator]:
        return [
            seeds.generator(options.seed, epoch, picture.id, visit.number, purpose)
            for picture, visit in zip(pictures, batch, strict=True)
        ]

    views = [_view(options, p, v, epoch) for p, v in zip(pictures, batch, strict=True)]
    sampled = [
        setup.encoder.moments(p, at, flip).sample(generator)
        for p, (at, flip), generator in zip(pictures, views, generators("latent"), strict=True)
    ]
    latents = torch.stack(sampled) * setup.family.LATENT_SCALE
    eps = _noise(options, latents, generators)
    t = noise.timesteps(generators("timestep"), options.min_timestep, options.max_timestep)
    input_noise = eps
    if options.ip_noise_gamma:
        input_noise = noise.perturbed(
            eps, generators("perturbation"), options.ip_noise_gamma,
            random_strength=options.ip_noise_gamma_random_strength,
        )  # fmt: skip
    noisy = noise.add_noise(latents, input_noise, t, setup.alphas)
    target = losses.TARGETS[setup.prediction](latents, eps, t, setup.alphas)
    read = [_caption(options, p, v, epoch) for p, v in zip(pictures, batch, strict=True)]
    with place.autocast():
        with torch.set_grad_enabled("text_encoder" in setup.lora.parts):
            text = setup.family.encode_text(
                setup.parts, read, clip_skip=options.clip_skip, max_tokens=options.max_token_length
            )
        noisy = noisy.to(place.device, place.dtype)
        predicted = setup.family.predict(setup.parts, noisy, t.to(place.device), text.to(place.dtype))
    each = losses.mse(predicted, target.to(place.device), _masks(options, pictures, views, latents))
    weight = losses.weights(
        snr(setup.alphas)[t], setup.prediction, min_snr_gamma=options.min_snr_gamma,
        debiased_estimation_loss=options.debiased_estimation_loss,
    )  # fmt: skip
    prior = torch.tensor([options.prior_loss_weight if p.subset.is_reg else 1.0 for p in pictures])
    return each * (weight * prior).to(each.device)


def _view(options: TrainOptions, picture: Picture, visit: Visit, epoch: int) -> tuple[pixels.Corner, bool]:
    """Return which part of a picture a visit sees, and whether it is flipped."""
    key = (options.seed, epoch, picture.id, visit.number)
    draw = seeds.rng(*key, "crop").randint if picture.subset.random_crop else None
    flip = picture.subset.flip and seeds.rng(*key, "flip").random() < 0.5
    return pixels.corner(picture.bucket, draw), flip


def _caption(options: TrainOptions, picture: Picture, visit: Visit, epoch: int) -> str:
    random = seeds.rng(options.seed, epoch, picture.id, visit.number, "caption")
    return pipeline.visit(picture.caption, picture.subset.captions, epoch + 1, random)


def _noise(options: TrainOptions, latents: Tensor, generators: _Draws) -> Tensor:
    """Draw the noise of a batch, with what the options add to it."""
    eps = noise.noise_like(latents, generators("noise"))
    if options.noise_offset:
        return noise.with_offset(
            eps, latents, generators("offset"), options.noise_offset, adaptive=options.adaptive_noise_scale,
            random_strength=options.noise_offset_random_strength,
        )  # fmt: skip
    if options.multires_noise_iterations:
        return noise.with_pyramid(
            eps, generators("pyramid"), options.multires_noise_iterations, options.multires_noise_discount
        )
    return eps


def _masks(
    options: TrainOptions, pictures: Sequence[Picture], views: Sequence[tuple[pixels.Corner, bool]], like: Tensor
) -> Tensor | None:
    """Return the masks of a batch at the size of its latents, from 0 to 1; None where nothing is masked."""
    if not options.masked_loss or all(p.mask is None for p in pictures):
        return None
    read = [pixels.read_mask(p, at, flip=flip) for p, (at, flip) in zip(pictures, views, strict=True)]
    masks = torch.stack([torch.from_numpy(mask.copy()) for mask in read])[:, None].float() / 255
    return losses.latent_mask(masks, (like.shape[2], like.shape[3]))
