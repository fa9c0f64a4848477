"""`[train]`: every number of a training run, under the names that users know from sd-scripts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

from datasetkit.core.errors import ConfigError
from datasetkit.core.ranges import in_range, one_of
from datasetkit.dataset.buckets import SELECTORS, BucketRules, default_range
from datasetkit.options.network_args import read as read_network
from datasetkit.options.networks import LYCORIS, MODULES, NetworkArgs

# Options that sd-scripts does not have.
OURS: Final = frozenset(
    {
        "revision",
        "lora_format",
        "save_best",
        "bucket_selector",
        "diff_output_preservation",
        "ema_decay",
    }
)
# How preview images are drawn, under sd-scripts' names; not lms (it needs scipy) nor the old form
# of dpmsolver++.
SAMPLERS: Final = (
    "ddim", "ddpm", "pndm", "euler", "euler_a", "heun", "dpm_2", "dpm_2_a", "dpmsolver++",
    "dpmsingle", "k_euler", "k_euler_a", "k_dpm_2", "k_dpm_2_a",
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
    "token_warmup_min": (0, _MANY),
    "token_warmup_step": (0, _MANY),
    "network_dim": (1, 4096),
    "network_alpha": (0, 65536),
    "network_dropout": _CHANCE,
    "scale_weight_norms": (0, 1e6),
    "ema_decay": (0, 0.99999),
    "learning_rate": _RATE,
    "unet_lr": _RATE,
    "text_encoder_lr": _RATE,
    "max_grad_norm": (0, 1e9),
    "lr_scheduler_num_cycles": _COUNT,
    "lr_scheduler_min_lr_ratio": _CHANCE,
    "lr_scheduler_timescale": (1, _MANY),
    "clip_skip": (1, 12),
    "min_snr_gamma": (0, 1e6),
    "v_pred_like_loss": (0, 1e6),
    "huber_c": (1e-6, 1),
    "huber_scale": (1e-6, 1e6),
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
    "validation_split": _CHANCE,
    "validation_seed": (0, 2**63 - 1),
    "validate_every_n_epochs": (0, _MANY),
    "validate_every_n_steps": (0, _MANY),
    "max_validation_steps": (1, _MANY),
    "seed": (0, 2**63 - 1),
}
# The words that an option takes.
CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "bucket_selector": SELECTORS,
    "loss_type": ("l2", "l1", "huber", "smooth_l1"),
    "huber_schedule": ("constant", "exponential", "snr"),
    "network_module": (*MODULES, LYCORIS),
    "mixed_precision": ("no", "fp16", "bf16"),
    "save_precision": ("float", "fp16", "bf16"),
    "lora_format": ("kohya", "diffusers", "both"),
    "sample_sampler": SAMPLERS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """`[train]`: the training numbers.

    The planner reads the geometry (resolution, buckets, batch, epochs); exports and the trainer
    read all of it. unet_lr: None takes learning_rate. A part whose rate is 0 is not trained.
    max_train_steps: optimizer steps, given they count and max_train_epochs does not. network_alpha:
    0 means network_dim. revision: of a model of the hub. v2, v_parameterization: None takes what
    the model is. text_encoder_lr: of every text encoder, or of the first and of the second.
    save_state: with each saved LoRA also what `--resume` needs. keep_tokens: None means 0.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"strict": True, "extra": "forbid"}

    pretrained_model_name_or_path: str = ""
    revision: str = ""
    vae: str = ""
    v2: bool | None = None
    v_parameterization: bool | None = None
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
    bucket_selector: str = "kohya"
    shuffle_caption: bool = True
    keep_tokens: int | None = None
    keep_tokens_separator: str = ""
    caption_dropout_rate: float = 0.0
    caption_dropout_every_n_epochs: int = 0
    caption_tag_dropout_rate: float = 0.0
    caption_prefix: str = ""
    caption_suffix: str = ""
    enable_wildcard: bool = False
    secondary_separator: str = ""
    token_warmup_min: int = 1
    token_warmup_step: int | float = 0
    weighted_captions: bool = False
    flip_aug: bool = False
    color_aug: bool = False
    random_crop: bool = False
    masked_loss: bool = False
    cache_latents: bool = True
    cache_latents_to_disk: bool = False
    network_module: str = "networks.lora"
    network_args: tuple[str, ...] = ()
    network_dim: int = 32
    network_alpha: float = 16
    network_dropout: float = 0.0
    network_weights: str = ""
    network_train_unet_only: bool = False
    network_train_text_encoder_only: bool = False
    scale_weight_norms: float | None = None
    ema_decay: float = 0.0
    learning_rate: float = 0.0001
    unet_lr: float | None = None
    text_encoder_lr: float | tuple[float, float] = 0.00005
    optimizer_type: str = "AdamW"
    optimizer_args: tuple[str, ...] = ()
    max_grad_norm: float = 1.0
    lr_scheduler: str = "cosine"
    lr_scheduler_num_cycles: int = 1
    lr_scheduler_power: float = 1.0
    lr_warmup_steps: int | float | str = 0
    lr_decay_steps: int | float | str = 0
    lr_scheduler_min_lr_ratio: float | None = None
    lr_scheduler_timescale: int | None = None
    lr_scheduler_type: str = ""
    lr_scheduler_args: tuple[str, ...] = ()
    clip_skip: int = 1
    max_token_length: int = 75
    prior_loss_weight: float = 1.0
    diff_output_preservation: bool = False
    loss_type: str = "l2"
    huber_schedule: str = "snr"
    huber_c: float = 0.1
    huber_scale: float = 1.0
    min_snr_gamma: float | None = None
    debiased_estimation_loss: bool = False
    scale_v_pred_loss_like_noise_pred: bool = False
    v_pred_like_loss: float | None = None
    zero_terminal_snr: bool = False
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
    fp8_base: bool = False
    fp8_base_unet: bool = False
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
    validation_split: float = 0.0
    validation_seed: int | None = None
    validate_every_n_epochs: int | None = None
    validate_every_n_steps: int | None = None
    max_validation_steps: int | None = None
    save_best: bool = True
    seed: int = 42

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            for number in _numbers(getattr(self, name)):
                in_range(name, number, low, high)
        for name, words in CHOICES.items():
            one_of(name, getattr(self, name), *words)
        in_range("min_timestep", self.min_timestep, 0, self.max_timestep - 1)
        self._check_together()
        self.bucket_rules()  # raises for a resolution or a range that makes no buckets

    def _check_together(self) -> None:
        if self.max_token_length not in (75, 150, 225):
            raise ConfigError(
                f"max_token_length = {self.max_token_length}", hint="give 75, 150 or 225"
            )
        if self.noise_offset and self.multires_noise_iterations:
            raise ConfigError(
                "noise_offset and multires_noise_iterations exclude each other",
                hint="set one of them to 0",
            )
        if self.adaptive_noise_scale and not self.noise_offset:
            raise ConfigError(
                "adaptive_noise_scale needs a noise_offset", hint="set noise_offset, such as 0.02"
            )
        if self.network_train_unet_only and self.network_train_text_encoder_only:
            raise ConfigError(
                "network_train_unet_only and network_train_text_encoder_only exclude each other",
                hint="set one of them",
            )
        if not self.sample_prompts and (
            self.sample_every_n_epochs or self.sample_every_n_steps or self.sample_at_first
        ):
            raise ConfigError(
                "preview images need prompts",
                hint='set sample_prompts = "prompts.txt", one a line',
            )
        if self.color_aug and (self.cache_latents or self.cache_latents_to_disk):
            hint = "set cache_latents = false and cache_latents_to_disk = false"
            raise ConfigError(
                "color_aug changes an image at each sample, so its latent cannot be kept", hint=hint
            )
        if self.v_parameterization is not None:
            self.check_prediction(v=self.v_parameterization)
        self._check_network()
        if self.validation_split == 1:
            raise ConfigError("validation_split = 1 leaves no image to train", hint="0.1 is usual")
        if not any(self.rates().values()):
            raise ConfigError(
                "nothing would be trained", hint="give unet_lr or text_encoder_lr above 0"
            )

    def check_prediction(self, *, v: bool) -> None:
        """Refuse what has a meaning for the other kind of prediction only: of velocity, or of
        noise.
        """
        if self.zero_terminal_snr and not v:
            raise ConfigError(
                "zero_terminal_snr needs a model that predicts the velocity",
                hint="its last timestep is noise alone: who predicts the noise learns nothing "
                "there, and the SNR of 0 "
                "divides its weights",
            )
        if self.scale_v_pred_loss_like_noise_pred and not v:
            hint = "a loss of noise has nothing to be scaled: take it out"
            raise ConfigError(
                "scale_v_pred_loss_like_noise_pred needs a model that predicts the velocity",
                hint=hint,
            )
        if self.v_pred_like_loss and v:
            hint = "it adds a loss of velocities to one of noise: take it out"
            raise ConfigError("v_pred_like_loss needs a model that predicts the noise", hint=hint)

    def _check_network(self) -> None:
        """Refuse what a method of network cannot do."""
        args = self.network()
        if self.network_dropout and args.algo != "lora":
            said = f"network_dropout drops inner activations, and {args.algo} has none"
            raise ConfigError(
                said, hint='set network_dropout = 0, or network_args = ["module_dropout=0.1"]'
            )
        if args.dora and self.scale_weight_norms:
            said = (
                "scale_weight_norms holds what is added to a layer, and with dora_wd a "
                "layer is also scaled"
            )
            raise ConfigError(said, hint="take one of them out")
        if args.dora and (self.fp8_base or self.fp8_base_unet):
            said = (
                "dora_wd measures the weights of the base in every step, and fp8_base keeps "
                "them in bytes"
            )
            raise ConfigError(said, hint="take one of them out")
        if self.lora_format != "kohya" and (args.dora or args.algo != "lora"):
            what = "DoRA of the input axis" if args.dora else args.algo
            said = f"lora_format = {self.lora_format!r}: diffusers has no loader for {what}"
            raise ConfigError(
                said, hint='set lora_format = "kohya", which ComfyUI and the web interfaces read'
            )

    def network(self) -> NetworkArgs:
        """Return what network_module and network_args ask for."""
        return read_network(
            self.network_module, self.network_args, dim=self.network_dim, alpha=self.network_alpha
        )

    def rates(self) -> dict[str, float]:
        """Return the learning rate of each part; 0: it is not trained.

        `text_encoder_2` is that of Stable Diffusion XL's second text encoder, which other families
        have not.
        """
        unet = self.learning_rate if self.unet_lr is None else self.unet_lr
        text = self.text_encoder_lr
        first, second = text if isinstance(text, tuple) else (text, text)
        return {
            "unet": 0.0 if self.network_train_text_encoder_only else unet,
            "text_encoder": 0.0 if self.network_train_unet_only else first,
            "text_encoder_2": 0.0 if self.network_train_unet_only else second,
        }

    def reads_float32(self) -> bool:
        """Tell whether the base is read in float32, whatever it is used in: DoRA and fp8_base are
        made of that.
        """
        return (
            self.network().dora
            or self.fp8_base
            or self.fp8_base_unet
            or self.mixed_precision == "no"
        )

    def bucket_rules(self) -> BucketRules:
        """Return the bucket arithmetic that these options ask for."""
        size = (
            self.resolution
            if isinstance(self.resolution, tuple)
            else (self.resolution, self.resolution)
        )
        low, high = default_range(size)
        return BucketRules(
            resolution=size,
            min_reso=self.min_bucket_reso if self.min_bucket_reso is not None else low,
            max_reso=self.max_bucket_reso if self.max_bucket_reso is not None else high,
            step=self.bucket_reso_steps,
            no_upscale=self.bucket_no_upscale,
            selector=self.bucket_selector,
            enabled=self.enable_bucket,
        )


def _numbers(value: Any) -> tuple[Any, ...]:
    """Return the numbers that an option holds: none where it is not given, two in a pair."""
    return () if value is None else value if isinstance(value, tuple) else (value,)
