"""Preview images: generated from prompts during training, without any effect on the training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from inspect import signature
from typing import Any, Final, Protocol

import torch
from PIL import Image
from torch import Tensor

from datasetkit.core.progress import SILENT, Reporter
from datasetkit.options.train import TrainOptions
from trainer.data import weighted_text
from trainer.data.latents import Encoder
from trainer.device import DeviceContext
from trainer.families.base import Family, Parts
from trainer.loop import StepLog
from trainer.monitor.prompts import Prompt
from trainer.objective.noise_schedule import Prediction, alphas_of, betas
from trainer.plan import size_conditioning

# Stable Diffusion's noise schedule, the same as in training.
_SCHEDULE: Final[Mapping[str, Any]] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}
# Latents exceed 1 and are not clipped; the steps start at 1, as in Stable Diffusion's own
# configuration.
_DDIM: Final[Mapping[str, Any]] = {
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
_PNDM: Final[Mapping[str, Any]] = {
    "skip_prk_steps": True,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
# sd-scripts' sampler name -> diffusers' class and its arguments beside the noise schedule.
SAMPLERS: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "ddim": ("DDIMScheduler", _DDIM),
    "ddpm": ("DDPMScheduler", {"clip_sample": False}),
    "pndm": ("PNDMScheduler", _PNDM),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpm_2": ("KDPM2DiscreteScheduler", {}),
    "dpm_2_a": ("KDPM2AncestralDiscreteScheduler", {}),
    "dpmsolver++": ("DPMSolverMultistepScheduler", {}),
    "dpmsingle": ("DPMSolverSinglestepScheduler", {}),
    "k_euler": ("EulerDiscreteScheduler", {}),
    "k_euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "k_dpm_2": ("KDPM2DiscreteScheduler", {}),
    "k_dpm_2_a": ("KDPM2AncestralDiscreteScheduler", {}),
}


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
    def prediction(self) -> Prediction: ...


def due(options: TrainOptions, log: StepLog, steps: int) -> str | None:
    """Return the stem of the preview images of a step, named like the saved LoRAs; None for none.

    The last of `steps` always has some.
    """
    every = options.sample_every_n_epochs
    if log.step == steps or (every and log.last_of_epoch and log.epoch % every == 0):
        return f"{log.epoch:06d}"
    if options.sample_every_n_steps and log.step % options.sample_every_n_steps == 0:
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
    models = [run.parts.part(name) for name in run.parts.names]
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
    """Denoise pure noise to a latent, float32 of the VAE's shape; guidance above 1 is
    classifier-free guidance.

    The noise is drawn on the CPU, so a seed gives the same image on every device.
    """
    options, context = run.options, run.device_context
    generator = torch.Generator().manual_seed(prompt.seed)
    guided = prompt.guidance > 1
    with context.autocast():
        texts = [prompt.negative, prompt.text] if guided else [prompt.text]
        conditioning = weighted_text.encode_text(run.family, run.parts, texts, options).to(
            context.dtype
        )
    sizes = [size_conditioning.of_image(prompt.width, prompt.height)] * len(texts)
    conditioning = conditioning.sized(
        torch.tensor(sizes, dtype=torch.float32, device=context.device)
    )
    scheduler = _scheduler(run, prompt)
    vae = run.parts.vae.config
    factor = 2 ** (len(vae.block_out_channels) - 1)  # 8 in Stable Diffusion
    shape = (1, vae.latent_channels, prompt.height // factor, prompt.width // factor)
    latent = torch.randn(shape, generator=generator)
    latent = latent.to(context.device) * float(scheduler.init_noise_sigma)
    step_args = (
        {"generator": generator} if "generator" in signature(scheduler.step).parameters else {}
    )
    for t in scheduler.timesteps:
        noisy = scheduler.scale_model_input(latent, t).to(context.dtype)
        with context.autocast():
            predicted = run.family.predict(
                run.parts, noisy.repeat(len(texts), 1, 1, 1), t.to(context.device), conditioning
            )
        each = predicted.float().chunk(len(texts))
        predicted = each[0] + prompt.guidance * (each[1] - each[0]) if guided else each[0]
        latent = scheduler.step(predicted, t, latent, return_dict=False, **step_args)[0]
    return latent


def _scheduler(run: PreviewModel, prompt: Prompt) -> Any:
    import diffusers

    name, arguments = SAMPLERS[prompt.sampler]
    scheduler_class = getattr(diffusers, name)
    prediction = "v_prediction" if run.prediction == "v" else "epsilon"
    config = {**_SCHEDULE, **arguments, "prediction_type": prediction}
    if run.options.zero_terminal_snr:
        # Sampling has to start at the last timestep, where only noise is left (arXiv:2305.08891,
        # 3.3).
        config |= {
            "trained_betas": betas(alphas_of(zero_terminal_snr=True)),
            "timestep_spacing": "trailing",
        }
        parameters = signature(scheduler_class).parameters
        config = {key: value for key, value in config.items() if key in parameters}
    scheduler = scheduler_class(**config)
    scheduler.set_timesteps(prompt.steps, device=run.device_context.device)
    return scheduler


def _decode(run: PreviewModel, latent: Tensor) -> Image.Image:
    vae = run.parts.vae
    pixels = vae.decode((latent / run.family.LATENT_SCALE).to(run.encoder.dtype)).sample[0].float()
    levels = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).cpu().numpy(), "RGB")
