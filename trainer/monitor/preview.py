"""Preview images: generated from prompts during training, without any effect on the training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from datasetkit.core.progress import SILENT, Reporter
from datasetkit.options.train import TrainOptions
from trainer.data.latents import Encoder
from trainer.device import DeviceContext
from trainer.families.base import Conditioning, Family, Parts
from trainer.loop import StepLog
from trainer.monitor.prompts import Prompt
from trainer.objective.process import Process
from trainer.plan import size_conditioning


class PreviewModel(Protocol):
    """A model that generates: a run with its current LoRA, or a base model alone
    (trainer/monitor/image_generator.py).
    """

    @property
    def options(self) -> TrainOptions: ...
    @property
    def device_context(self) -> DeviceContext: ...
    @property
    def family(self) -> Family: ...
    @property
    def parts(self) -> Parts: ...
    @property
    def encoder(self) -> Encoder: ...
    @property
    def process(self) -> Process: ...
    def conditioning(self, texts: Sequence[str]) -> Conditioning:
        """Return the conditioning of prompts."""


def due(options: TrainOptions, log: StepLog, steps: int, *, now: bool = False) -> str | None:
    """Return the stem of the preview images of a step, named like the saved LoRAs; None for none.

    The last of `steps` always has some. now: the run was asked for some after this step.
    """
    every = options.sample_every_n_epochs
    if log.step == steps or (every and log.last_of_epoch and log.epoch % every == 0):
        return f"{log.epoch:06d}"
    every_steps = options.sample_every_n_steps
    if now or (every_steps and log.step % every_steps == 0):
        return f"step{log.step:08d}"
    return None


def generate(
    run: PreviewModel, prompts: Sequence[Prompt], reporter: Reporter = SILENT
) -> list[Image.Image]:
    """Generate an image for each prompt with the current model.

    torch's random state, the modules' modes and the VAE's device are restored afterwards, and the
    training's generators are not used: a run with preview images computes exactly what a run
    without them computes.
    """
    with eval_mode(run):
        images = []
        for number, prompt in enumerate(prompts, 1):
            reporter.phase(f"preview {number}/{len(prompts)}")
            images.append(_decode(run, _denoise(run, prompt)))
        return images


@contextmanager
def eval_mode(run: PreviewModel, *, decodes: bool = True) -> Iterator[None]:
    """Put the model in eval mode, and restore everything afterwards. decodes: the VAE is needed
    too.
    """
    device = run.device_context.device
    vae = run.parts.vae
    models = list(run.parts.models.values())
    modes = [(module, module.training) for model in models for module in model.modules()]
    vae_device = next(vae.parameters()).device
    with ExitStack() as stack:
        stack.enter_context(
            torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
        )
        stack.enter_context(torch.no_grad())
        try:
            for model in models:
                model.eval()
            if decodes:
                vae.to(device)
            yield
        finally:
            vae.to(vae_device)
            for module, mode in modes:
                module.training = mode
            if device.type == "cuda":
                torch.cuda.empty_cache()


def _denoise(run: PreviewModel, prompt: Prompt) -> Tensor:
    """Denoise pure noise to a latent, float32 and normalised. Guidance above 1 is classifier-free
    guidance, in models that are not given it.

    The noise is drawn on the CPU, so a seed gives the same image on every device.
    """
    context = run.device_context
    generator = torch.Generator().manual_seed(prompt.seed)
    embedded = run.parts.embeds_guidance
    guided = prompt.guidance > 1 and not embedded
    with context.autocast():
        texts = [prompt.negative, prompt.text] if guided else [prompt.text]
        conditioning = run.conditioning(texts).to(context.dtype)
    conditioning = conditioning.guided(prompt.guidance if embedded else None)
    sizes = [size_conditioning.of_image(prompt.width, prompt.height)] * len(texts)
    conditioning = conditioning.sized(
        torch.tensor(sizes, dtype=torch.float32, device=context.device)
    )
    # Prompts have multiples of 8, and tokens of some families are larger.
    divisor = run.family.DIVISOR
    size = (prompt.width // divisor * divisor, prompt.height // divisor * divisor)
    sampler = run.process.sampler(prompt.sampler, prompt.steps, size, context.device)
    shape = (1, *run.family.latent_shape(run.parts.vae, *size))
    latent = sampler.start(torch.randn(shape, generator=generator).to(context.device))
    for time in sampler.times:
        noisy = sampler.scaled(latent, time).to(context.dtype)
        with context.autocast():
            predicted = run.family.predict(
                run.parts, noisy.repeat(len(texts), 1, 1, 1), time.to(context.device), conditioning
            )
        each = predicted.float().chunk(len(texts))
        predicted = each[0] + prompt.guidance * (each[1] - each[0]) if guided else each[0]
        latent = sampler.step(predicted, time, latent, generator)
    return latent


def _decode(run: PreviewModel, latent: Tensor) -> Image.Image:
    vae = run.parts.vae
    latent = run.family.denormalise(vae, latent).to(run.encoder.dtype)
    pixels = run.family.decode(vae, latent)[0].float()
    levels = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).cpu().numpy(), "RGB")
