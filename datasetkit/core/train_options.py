"""`[train]`: every number of a training run, under the names that users know from sd-scripts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

from datasetkit.core.buckets import BucketRules, default_range
from datasetkit.core.errors import ConfigError
from datasetkit.core.ranges import in_range, one_of

# Options that sd-scripts does not have.
OURS: Final = frozenset({"revision", "lora_format"})
# How sample pictures are drawn, under sd-scripts' names; not lms (it needs scipy) nor the old form of dpmsolver++.
SAMPLERS: Final = (
    "ddim", "ddpm", "pndm", "euler", "euler_a", "heun", "dpm_2", "dpm_2_a", "dpmsolver++", "dpmsingle", "k_euler",
    "k_euler_a", "k_dpm_2", "k_dpm_2_a",
)  # fmt: skip

# Least and greatest value of each number; docs/train.md prints them.
_COUNT, _RATE, _CHANCE, _MANY = (1, 1024), (0, 100), (0, 1), 10**9
RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "train_batch_size": _COUNT,
    "gradient_accumulation_steps": _COUNT,
    "max_train_epochs": (1, 100_000),
    "max_train_steps": (1, _MANY),
    "caption_dropout_rate": _CHANCE,
    "caption_dropout_every_n_epochs": (0, _MANY),
    "caption_tag_dropout_rate": _CHANCE,
    "network_dim": (1, 4096),
    "network_alpha": (0, 65536),
    "network_dropout": _CHANCE,
    "scale_weight_norms": (0, 1e6),
    "learning_rate": _RATE,
    "unet_lr": _RATE,
    "text_encoder_lr": _RATE,
    "max_grad_norm": (0, 1e9),
    "lr_scheduler_num_cycles": _COUNT,
    "clip_skip": (1, 12),
    "min_snr_gamma": (0, 1e6),
    "noise_offset": _CHANCE,
    "multires_noise_iterations": (0, 100),
    "multires_noise_discount": _CHANCE,
    "ip_noise_gamma": _CHANCE,
    "min_timestep": (0, 999),
    "max_timestep": (1, 1000),
    "save_every_n_epochs": (0, _MANY),
    "save_every_n_steps": (0, _MANY),
    "save_last_n_epochs": (1, _MANY),
    "save_last_n_steps": (1, _MANY),
    "sample_every_n_epochs": (0, _MANY),
    "sample_every_n_steps": (0, _MANY),
    "seed": (0, 2**63 - 1),
}
# The words that an option takes.
CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "network_module": ("networks.lora",),
    "mixed_precision": ("no", "fp16", "bf16"),
    "save_precision": ("float", "fp16", "bf16"),
    "lora_format": ("kohya", "diffusers", "both"),
    "sample_sampler": SAMPLERS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """`[train]`: the training numbers.

    The planner reads the geometry (resolution, buckets, batch, epochs); exports and the trainer read all of it.
    unet_lr: None takes learning_rate. A part whose rate is 0 is not trained. max_train_steps: optimizer steps, given
    they count and max_train_epochs does not. network_alpha: 0 means network_dim. revision: of a model of the hub.
    save_state: with each saved LoRA also what `--resume` needs. keep_tokens: None means 0.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"strict": True, "extra": "forbid"}

    pretrained_model_name_or_path: str = ""
    revision: str = ""
    vae: str = ""
    v_parameterization: bool = False
    output_dir: str = "output"
    output_name: str = ""
    logging_dir: str = ""
    training_comment: str = ""
    no_metadata: bool = False
    resolution: int | tuple[int, int] = 512
    train_batch_size: int = 1
    gradient_accumulation_steps: int = 1
    gradient_checkpointing: bool = False
    max_train_epochs: int = 10
    max_train_steps: int | None = None
    enable_bucket: bool = True
    bucket_no_upscale: bool = False
    min_bucket_reso: int | None = None
    max_bucket_reso: int | None = None
    bucket_reso_steps: int = 64
    shuffle_caption: bool = True
    keep_tokens: int | None = None
    keep_tokens_separator: str = ""
    caption_dropout_rate: float = 0.0
    caption_dropout_every_n_epochs: int = 0
    caption_tag_dropout_rate: float = 0.0
    flip_aug: bool = False
    random_crop: bool = False
    masked_loss: bool = False
    cache_latents: bool = True
    cache_latents_to_disk: bool = False
    network_module: str = "networks.lora"
    network_dim: int = 32
    network_alpha: float = 16
    network_dropout: float = 0.0
    network_weights: str = ""
    network_train_unet_only: bool = False
    network_train_text_encoder_only: bool = False
    scale_weight_norms: float | None = None
    learning_rate: float = 0.0001
    unet_lr: float | None = None
    text_encoder_lr: float = 0.00005
    optimizer_type: str = "AdamW"
    optimizer_args: tuple[str, ...] = ()
    max_grad_norm: float = 1.0
    lr_scheduler: str = "cosine"
    lr_scheduler_num_cycles: int = 1
    lr_scheduler_power: float = 1.0
    lr_warmup_steps: int | float | str = 0
    clip_skip: int = 1
    max_token_length: int = 75
    prior_loss_weight: float = 1.0
    min_snr_gamma: float | None = None
    debiased_estimation_loss: bool = False
    noise_offset: float = 0.0
    noise_offset_random_strength: bool = False
    adaptive_noise_scale: float = 0.0
    multires_noise_iterations: int = 0
    multires_noise_discount: float = 0.3
    ip_noise_gamma: float = 0.0
    ip_noise_gamma_random_strength: bool = False
    min_timestep: int = 0
    max_timestep: int = 1000
    mixed_precision: Literal["no", "fp16", "bf16"] = "bf16"
    save_precision: Literal["float", "fp16", "bf16"] = "fp16"
    lora_format: Literal["kohya", "diffusers", "both"] = "kohya"
    save_every_n_epochs: int = 1
    save_every_n_steps: int = 0
    save_last_n_epochs: int | None = None
    save_last_n_steps: int | None = None
    save_state: bool = True
    sample_prompts: str = ""
    sample_every_n_epochs: int | None = None
    sample_every_n_steps: int | None = None
    sample_at_first: bool = False
    sample_sampler: str = "ddim"
    seed: int = 42

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            if (number := getattr(self, name)) is not None:
                in_range(name, number, low, high)
        for name, words in CHOICES.items():
            one_of(name, getattr(self, name), *words)
        in_range("min_timestep", self.min_timestep, 0, self.max_timestep - 1)
        self._check_together()
        self.bucket_rules()  # raises for a resolution or a range that makes no buckets

    def _check_together(self) -> None:
        if self.max_token_length not in (75, 150, 225):
            raise ConfigError(f"max_token_length = {self.max_token_length}", hint="give 75, 150 or 225")
        if self.noise_offset and self.multires_noise_iterations:
            raise ConfigError(
                "noise_offset and multires_noise_iterations exclude each other", hint="set one of them to 0"
            )
        if self.adaptive_noise_scale and not self.noise_offset:
            raise ConfigError("adaptive_noise_scale needs a noise_offset", hint="set noise_offset, such as 0.02")
        if self.network_train_unet_only and self.network_train_text_encoder_only:
            raise ConfigError(
                "network_train_unet_only and network_train_text_encoder_only exclude each other", hint="set one of them"
            )
        if not self.sample_prompts and (
            self.sample_every_n_epochs or self.sample_every_n_steps or self.sample_at_first
        ):
            raise ConfigError("sample pictures need prompts", hint='set sample_prompts = "prompts.txt", one a line')
        if not any(self.rates().values()):
            raise ConfigError("nothing would be trained", hint="give unet_lr or text_encoder_lr above 0")

    def rates(self) -> dict[str, float]:
        """Return the learning rate of each part, `unet` and `text_encoder`; 0: it is not trained."""
        unet = self.learning_rate if self.unet_lr is None else self.unet_lr
        return {
            "unet": 0.0 if self.network_train_text_encoder_only else unet,
            "text_encoder": 0.0 if self.network_train_unet_only else self.text_encoder_lr,
        }

    def bucket_rules(self) -> BucketRules:
        """Return the bucket arithmetic that these options ask for."""
        size = self.resolution if isinstance(self.resolution, tuple) else (self.resolution, self.resolution)
        low, high = default_range(size)
        return BucketRules(
            resolution=size,
            min_reso=self.min_bucket_reso if self.min_bucket_reso is not None else low,
            max_reso=self.max_bucket_reso if self.max_bucket_reso is not None else high,
            step=self.bucket_reso_steps,
            no_upscale=self.bucket_no_upscale,
            enabled=self.enable_bucket,
        )
