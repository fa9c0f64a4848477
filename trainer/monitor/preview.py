"""Preview images: what the model draws from the prompts while its LoRA is trained, without a trace
on the training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from inspect import signature
from typing import Any, Final, Protocol

import torch
from PIL import Image
from torch import Tensor

from datasetkit.captions import tokens
from datasetkit.core.files import display
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

# Stable Diffusion's noise schedule, as the training has it.
_SCHEDULE: Final[Mapping[str, Any]] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}
# Latents go beyond 1 and are not clipped; the first step is not 0, as in Stable Diffusion's own
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
# sd-scripts' name -> diffusers' class and what it is told beside the schedule.
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
    """What draws: a run with its LoRA as it is now, or a base model by itself
    (trainer/monitor/image_generator.py).
    """

    @property
    def options(self) -> TrainOptions: ...
    @property
    def place(self) -> DeviceContext: ...
    @property
    def family(self) -> Family: ...
    @property
    def parts(self) -> Parts: ...
    @property
    def encoder(self) -> Encoder: ...
    @property
    def prediction(self) -> Prediction: ...


def due(options: TrainOptions, log: StepLog, steps: int) -> str | None:
    """Return the stem of the images that are drawn after a step, as saved LoRAs are named; None
    for none.

    After the last step (of `steps`) some are always drawn.
    """
    every = options.sample_every_n_epochs
    if log.step == steps or (every and log.last_of_epoch and log.epoch % every == 0):
        return f"{log.epoch:06d}"
    if options.sample_every_n_steps and log.step % options.sample_every_n_steps == 0:
        return f"step{log.step:08d}"
    return None


def warn_of_long(prompts: Sequence[Prompt], limit: int, reporter: Reporter) -> None:
    """Say which prompts are longer than what the text encoder reads of a caption."""
    for place, prompt in enumerate(prompts, 1):
        for text in (prompt.text, prompt.negative):
            if (length := tokens.count(text)) > limit:
                said = display(text if len(text) <= 40 else f"{text[:39]}…")
                reporter.warn(
                    f"prompt {place}: {length} tokens, the first {limit} are read: {said}"
                )


def draw(
    run: PreviewModel, prompts: Sequence[Prompt], reporter: Reporter = SILENT
) -> list[Image.Image]:
    """Draw an image of each prompt with the model as it is now.

    torch's random state, the modes of the modules and the place of the VAE are afterwards what they
    were, and no generator of the training is touched: a run with preview images trains what one
    without them trains.
    """
    with at_rest(run):
        images = []
        for number, prompt in enumerate(prompts, 1):
            reporter.phase(f"preview {number}/{len(prompts)}")
            images.append(_decoded(run, _latent(run, prompt)))
        return images


@contextmanager
def at_rest(run: PreviewModel, *, decodes: bool = True) -> Iterator[None]:
    """Bring the model into evaluation, and leave everything as it was found. decodes: the VAE is
    needed too.
    """
    device = run.place.device
    vae = run.parts.vae
    models = [run.parts.part(name) for name in run.parts.names]
    modes = [(module, module.training) for model in models for module in model.modules()]
    home = next(vae.parameters()).device
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
            vae.to(home)
            for module, mode in modes:
                module.training = mode
            if device.type == "cuda":
                torch.cuda.empty_cache()


def _latent(run: PreviewModel, prompt: Prompt) -> Tensor:
    """Denoise from pure noise to a latent, float32, of the VAE's form; classifier-free guidance
    above 1.

    The noise is drawn on the CPU, so that a seed is the same image on every device.
    """
    options, place = run.options, run.place
    generator = torch.Generator().manual_seed(prompt.seed)
    guided = prompt.guidance > 1
    with place.autocast():
        texts = [prompt.negative, prompt.text] if guided else [prompt.text]
        told = weighted_text.encode_text(run.family, run.parts, texts, options).to(place.dtype)
    of_each = [size_conditioning.whole(prompt.width, prompt.height)] * len(texts)
    told = told.sized(torch.tensor(of_each, dtype=torch.float32, device=place.device))
    scheduler = _scheduler(run, prompt)
    vae = run.parts.vae.config
    shrinks = 2 ** (len(vae.block_out_channels) - 1)  # 8 in Stable Diffusion
    form = (1, vae.latent_channels, prompt.height // shrinks, prompt.width // shrinks)
    latent = torch.randn(form, generator=generator)
    latent = latent.to(place.device) * float(scheduler.init_noise_sigma)
    more = {"generator": generator} if "generator" in signature(scheduler.step).parameters else {}
    for t in scheduler.timesteps:
        noisy = scheduler.scale_model_input(latent, t).to(place.dtype)
        with place.autocast():
            predicted = run.family.predict(
                run.parts, noisy.repeat(len(texts), 1, 1, 1), t.to(place.device), told
            )
        each = predicted.float().chunk(len(texts))
        predicted = each[0] + prompt.guidance * (each[1] - each[0]) if guided else each[0]
        latent = scheduler.step(predicted, t, latent, return_dict=False, **more)[0]
    return latent


def _scheduler(run: PreviewModel, prompt: Prompt) -> Any:
    import diffusers

    name, told = SAMPLERS[prompt.sampler]
    made_by = getattr(diffusers, name)
    prediction = "v_prediction" if run.prediction == "v" else "epsilon"
    trained = {**_SCHEDULE, **told, "prediction_type": prediction}
    if run.options.zero_terminal_snr:
        # The first step has to be the last timestep, or the noise alone would never be seen
        # (arXiv:2305.08891, 3.3).
        trained |= {
            "trained_betas": betas(alphas_of(zero_terminal_snr=True)),
            "timestep_spacing": "trailing",
        }
        trained = {
            key: value for key, value in trained.items() if key in signature(made_by).parameters
        }
    made = made_by(**trained)
    made.set_timesteps(prompt.steps, device=run.place.device)
    return made


def _decoded(run: PreviewModel, latent: Tensor) -> Image.Image:
    vae = run.parts.vae
    pixels = vae.decode((latent / run.family.LATENT_SCALE).to(run.encoder.dtype)).sample[0].float()
    levels = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).cpu().numpy(), "RGB")
