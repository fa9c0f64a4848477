"""The training loop: a generator that computes a loss, takes an optimizer step and yields its log.

Read from the top: `steps` -> `_step` -> `gradients` -> `sample_losses` -> `add_noise`,
`weighted_losses`, `predict`. What to log, save or preview after a step is decided in `run`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from datasetkit.options.train import TrainOptions
from trainer import finite
from trainer.data import seeds, weighted_text
from trainer.data.latents import Encoder
from trainer.data.prefetch import WORKERS, PreparedSample, Reader, StepBatches
from trainer.data.text_encoding import TextStates
from trainer.device import DeviceContext
from trainer.families.base import Conditioning, Family, Parts
from trainer.files.lora import Lora
from trainer.networks.ema import WeightAverage
from trainer.networks.weight_norms import NormReport
from trainer.objective import losses, noise, output_preservation
from trainer.objective.process import Process
from trainer.optimizers import build_optimizer
from trainer.plan import size_conditioning
from trainer.plan.plan import TrainingPlan

# Purpose ("noise", "latent", ...) -> one generator per sample; see `data.seeds`.
_Generators = Callable[[str], list[torch.Generator]]


@dataclass(frozen=True, slots=True)
class TrainingSetup:
    """All objects of a run. The fields never change; the weights and the optimizer state do.

    average: the moving average (EMA) of the weights, if one is kept.
    """

    options: TrainOptions
    plan: TrainingPlan
    device_context: DeviceContext
    family: Family
    parts: Parts
    lora: Lora
    encoder: Encoder
    texts: TextStates
    optimizer: Optimizer
    scheduler: LRScheduler
    scaler: torch.amp.GradScaler
    process: Process
    average: WeightAverage | None = None

    def conditioning(self, texts: Sequence[str]) -> Conditioning:
        """Return the conditioning of prompts with the current weights."""
        if self.texts.is_complete:
            return self.texts.states(texts)
        return weighted_text.encode_text(self.family, self.parts, texts, self.options)

    @contextmanager
    def inference_weights(self) -> Iterator[None]:
        """Use the weights that are saved, previewed and validated: their average, if there is one.

        Afterwards the trained weights are restored bit by bit.
        """
        with build_optimizer.eval_mode(self.optimizer):
            if self.average is None:
                yield
                return
            with self.lora.with_values(self.average.values):
                yield


@dataclass(frozen=True, slots=True)
class StepLog:
    """One optimizer step. step, epoch: counted from 1. loss: weighted mean over the samples.

    rates: part -> effective learning rate, including D-Adaptation's factor; scheduled: without that
    factor. grad_norm: before clipping. last_of_epoch: this step ends its epoch. norms: of the
    modules' changes, if scale_weight_norms limits them. seconds: that the step took; waited: the
    part of them spent waiting for images.
    """

    step: int
    epoch: int
    loss: float
    samples: int
    rates: dict[str, float]
    scheduled: dict[str, float]
    grad_norm: float
    last_of_epoch: bool
    norms: NormReport | None = None
    waited: float = 0.0
    seconds: float = 0.0


def steps(setup: TrainingSetup, *, start: int = 0, workers: int = WORKERS) -> Generator[StepLog]:
    """Train from step `start` (0: the first) to the last one, and yield the log of each step.

    workers: threads that read images ahead; their number does not change the result.
    """
    with closing(reader(setup).steps(start, workers=workers)) as batches:
        began = time.perf_counter()
        for work in batches:
            waited = time.perf_counter() - began
            log = _step(setup, work)
            yield replace(log, waited=waited, seconds=time.perf_counter() - began)
            began = time.perf_counter()


def reader(setup: TrainingSetup) -> Reader:
    """Return the reader of this process's samples."""
    return Reader(setup.options, setup.plan, setup.encoder, setup.device_context.process)


def _step(setup: TrainingSetup, work: StepBatches) -> StepLog:
    optimizer, options = setup.optimizer, setup.options
    step = work.number
    parameters = setup.lora.parameters()
    loss, samples = gradients(setup, work)
    if not math.isfinite(loss):
        raise finite.diverged(
            f"the loss of step {step + 1}", step + 1, options, setup.device_context.dtype
        )
    setup.scaler.unscale_(optimizer)
    grad_norm = torch.nn.utils.clip_grad_norm_(parameters, options.max_grad_norm or math.inf)
    # Before the optimizer steps, so that the weights stay good. In fp16 the scaler leaves such a
    # step out and lowers its scale.
    if not setup.scaler.is_enabled() and not bool(torch.isfinite(grad_norm)):
        raise finite.diverged(
            f"the gradient of step {step + 1}", step + 1, options, setup.device_context.dtype
        )
    groups = {str(group["name"]): group for group in optimizer.param_groups}
    rates = {name: build_optimizer.effective_lr(group) for name, group in groups.items()}
    scheduled = {name: float(group["lr"]) for name, group in groups.items()}
    setup.scaler.step(optimizer)
    setup.scaler.update()
    setup.scheduler.step()
    optimizer.zero_grad(set_to_none=True)
    max_norm = options.scale_weight_norms
    norms = setup.lora.limit_norms(max_norm) if max_norm else None
    if setup.average is not None:
        setup.average.add(parameters)
    return StepLog(
        step=step + 1,
        epoch=work.epoch + 1,
        loss=loss,
        samples=samples,
        rates=rates,
        scheduled=scheduled,
        grad_norm=float(grad_norm),
        last_of_epoch=(step + 1) % setup.plan.totals.steps_per_epoch == 0,
        norms=norms,
    )


def gradients(setup: TrainingSetup, work: StepBatches) -> tuple[float, int]:
    """Accumulate the gradients of one step; return its mean loss and its number of samples.

    Every sample weighs 1 / (batch size of its block x accumulation x processes), also in the
    smaller last batches of an epoch, so each image of a block counts the same in every batch. A
    full batch counts the same in every block, as in sd-scripts.
    """
    batch_settings = setup.plan.batch_settings
    batches = batch_settings.gradient_accumulation * batch_settings.processes
    parameters = setup.lora.parameters()
    context = setup.device_context
    total = torch.zeros((), dtype=context.loss_dtype, device=context.device)
    for position, batch in work.batches:
        if setup.lora.has_dropout:
            # Dropout draws from torch's global generator. It is seeded for each batch, so that a
            # resumed run draws the same.
            stream = seeds.generator(setup.options.seed, work.epoch, "", position, "dropout")
            torch.manual_seed(stream.initial_seed())
        each = sample_losses(setup, batch, work.epoch)
        nominal = batch[0].image.subset.block.batch_size * batches
        setup.scaler.scale(each.sum() / nominal).backward()  # type: ignore[no-untyped-call]
        total += each.detach().sum().to(total.dtype)
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    context.sum_over_processes([p.grad for p in parameters if p.grad is not None])
    samples = torch.tensor(float(sum(len(batch) for _, batch in work.batches)), dtype=total.dtype)
    sums = torch.stack([total, samples.to(total.device)])
    context.sum_over_processes([sums])
    loss_sum, count = sums.tolist()
    return loss_sum / count, int(count)


def sample_losses(setup: TrainingSetup, batch: Sequence[PreparedSample], epoch: int) -> Tensor:
    """Return the weighted loss of each sample of a batch, float32 of shape (samples,)."""
    options = setup.options

    def generators(purpose: str) -> list[torch.Generator]:
        return [
            seeds.generator(options.seed, epoch, sample.image.id, sample.number, purpose)
            for sample in batch
        ]

    times = setup.process.draw(generators("timestep"), batch[0].image.bucket.bucket)
    return weighted_losses(setup, batch, add_noise(setup, batch, times, generators))


@dataclass(frozen=True, slots=True)
class NoisyBatch:
    """A batch with its noise, on the CPU. latents: normalised; noisy: the denoiser's input; times:
    (samples,), of the process.
    """

    latents: Tensor
    noise: Tensor
    noisy: Tensor
    times: Tensor

    def rows(self, indices: Sequence[int]) -> NoisyBatch:
        """Return some of the samples."""
        return NoisyBatch(
            *(t[list(indices)] for t in (self.latents, self.noise, self.noisy, self.times))
        )


def add_noise(
    setup: TrainingSetup,
    batch: Sequence[PreparedSample],
    times: Tensor,
    generators: _Generators,
    *,
    perturbed: bool = True,
) -> NoisyBatch:
    """Draw the latents of a batch and add noise to them. perturbed: apply ip_noise_gamma, which is
    for training only.
    """
    options = setup.options
    latents = torch.stack(
        [
            (s.latent or setup.encoder.moments(s.image, s.at, s.flip, s.pixels)).sample(generator)
            for s, generator in zip(batch, generators("latent"), strict=True)
        ]
    )
    latents = setup.family.normalise(setup.parts.vae, latents)
    eps = _noise(options, latents, generators)
    input_noise = eps
    if options.ip_noise_gamma and perturbed:
        input_noise = noise.perturbed(
            eps, generators("perturbation"), options.ip_noise_gamma,
            random_strength=options.ip_noise_gamma_random_strength,
        )  # fmt: skip
    noisy = setup.process.mix(latents, input_noise, times)
    return NoisyBatch(latents, eps, noisy, times)


def weighted_losses(
    setup: TrainingSetup, batch: Sequence[PreparedSample], noised: NoisyBatch
) -> Tensor:
    """Return the weighted loss of each sample at its time, float32 of shape (samples,)."""
    options, context, process = setup.options, setup.device_context, setup.process
    target = context.to_device(process.target(noised.latents, noised.noise, noised.times))
    predicted = predict(setup, batch, noised)
    if preserved := output_preservation.preserved_rows(batch):
        target = output_preservation.with_base_predictions(
            target,
            preserved,
            setup.lora,
            lambda rows: predict(setup, [batch[i] for i in rows], noised.rows(rows)),
        )
    c = context.to_device(process.huber_c(noised.times))
    masks = _masks(batch, noised.latents)
    per_sample = losses.each(predicted, target, masks, kind=options.loss_type, c=c)
    prior = torch.tensor(
        [options.prior_loss_weight if sample.image.subset.is_reg else 1.0 for sample in batch]
    )
    return per_sample * context.to_device(process.weight(noised.times) * prior)


def predict(setup: TrainingSetup, batch: Sequence[PreparedSample], noised: NoisyBatch) -> Tensor:
    """Return the denoiser's prediction for a batch, with the current LoRA."""
    context = setup.device_context
    with context.autocast():
        conditioning = setup.texts.states([sample.caption for sample in batch])
        conditioning = conditioning.sized(context.to_device(_sizes(batch)))
        conditioning = conditioning.guided(setup.options.guidance_scale)
        predicted: Tensor = setup.family.predict(
            setup.parts,
            context.to_device(noised.noisy.to(context.dtype)),
            context.to_device(noised.times),
            conditioning,
        )
    return predicted


def _sizes(batch: Sequence[PreparedSample]) -> Tensor:
    """Return the size conditioning of the samples, (samples, 6)."""
    return torch.tensor(
        [size_conditioning.of_sample(sample.image, sample.at, sample.flip) for sample in batch],
        dtype=torch.float32,
    )


def _noise(options: TrainOptions, latents: Tensor, generators: _Generators) -> Tensor:
    """Draw the noise of a batch, with an offset or a pyramid if the options ask for one."""
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
    """Return the masks of a batch at the size of its latents, from 0 to 1; None if no image has
    one.
    """
    if all(sample.mask is None or sample.image.mask is None for sample in batch):
        return None
    masks = torch.stack(
        [torch.from_numpy(sample.mask.copy()) for sample in batch if sample.mask is not None]
    )
    return losses.latent_mask(masks[:, None].float() / 255, (like.shape[2], like.shape[3]))
