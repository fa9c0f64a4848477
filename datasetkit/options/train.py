"""`[train]`: every number of a training run, under the names that users know from sd-scripts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from datasetkit.core.errors import ConfigError
from datasetkit.core.ranges import in_range
from datasetkit.dataset.buckets import SELECTORS, BucketRules, default_range
from datasetkit.dataset.repeats import DatasetBlock
from datasetkit.options.declare import MANY, CheckedOptions, check, option
from datasetkit.options.network_args import read as read_network
from datasetkit.options.networks import LYCORIS, MODULES, NetworkArgs

# Samplers of preview images, under sd-scripts' names; not lms (it needs scipy) nor the old form
# of dpmsolver++.
SAMPLERS: Final = (
    "ddim", "ddpm", "pndm", "euler", "euler_a", "heun", "dpm_2", "dpm_2_a", "dpmsolver++",
    "dpmsingle", "k_euler", "k_euler_a", "k_dpm_2", "k_dpm_2_a",
)  # fmt: skip

_COUNT, _RATE, _SHARE = (1, 1024), (0, 100), (0, 1)
# The sections of sd-scripts' config.toml in the order in which they are written; sd-scripts itself
# looks at the options only.
NETWORK: Final = "additional_network_arguments"
OPTIMIZER: Final = "optimizer_arguments"
TRAINING: Final = "training_arguments"
MODEL: Final = "model_arguments"
SAVING: Final = "saving_arguments"
DREAMBOOTH: Final = "dreambooth_arguments"
DATASET: Final = "dataset_arguments"
SECTIONS: Final = (NETWORK, OPTIMIZER, TRAINING, MODEL, SAVING, DREAMBOOTH, DATASET)

# Packages of which a file may name a class: torch's, those of the extra `optimizers`, and the
# schedules of tutorials.
OPTIMIZER_PACKAGES: Final = (
    "torch.optim", "bitsandbytes.optim", "transformers.optimization", "lion_pytorch", "prodigyopt",
    "dadaptation", "schedulefree", "prodigyplus", "trainer.optimizers",
)  # fmt: skip
SCHEDULER_PACKAGES: Final = (
    "torch.optim", "cosine_annealing_warmup", "LoraEasyCustomOptimizer",
)  # fmt: skip


def _everywhere(low: float, high: float) -> dict[str, tuple[float, float]]:
    """Return a range that is usual in every family."""
    return dict.fromkeys(("sd1", "sd2", "sdxl"), (low, high))


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions(CheckedOptions):
    """`[train]`: the training numbers.

    The planner reads the geometry (resolution, buckets, batch, epochs); exports and the trainer
    read all of it.
    """

    preset: str = option(
        "",
        "Take the values of a preset where this table says nothing: a family and a goal, such as "
        "`sdxl-character@1`, and perhaps how tight memory is, `sdxl-character-tight@1`. The number "
        "is the version of the presets.",
        group="Preset",
        change="you begin with the usual values of a family and a goal",
        see="train.md#presets",
        applies="on resume",
    )

    # ---- Model
    pretrained_model_name_or_path: str = option(
        "",
        "The base model: a `.safetensors` file, a diffusers folder, a name on "
        "the hub, or `tiny`, which is part of the package.",
        group="Model",
        change="always: it must be given",
        shown="must be given",
        see="train.md#the-base-model",
        slot=1,
        path="model",
        section=MODEL,
    )
    revision: str = option(
        "",
        "The commit, 40 hex digits, of a model of the hub.",
        change=(
            "the base is named on the hub: without its commit it could be another model tomorrow"
        ),
        shown="none",
    )
    vae: str = option(
        "",
        "A VAE in place of the model's own: a file, a folder, or a name on the "
        "hub with its `@commit`.",
        change="the model's VAE is known to be poor",
        shown="none",
        path="model",
        section=MODEL,
    )
    base_folder: str = option(
        "",
        "The folder in diffusers' layout, or the name on the hub with its `@commit`, that has the "
        "text encoder, the tokenizer and the VAE of a base model that is a transformer alone.",
        change="the base is a single file of a transformer",
        shown="none",
        path="model",
    )
    base_is_distilled: bool = option(
        False,
        "Train on a base that is distilled to few steps.",
        change="you know that its results drift: a LoRA that is trained on the undistilled base "
        "works with both",
    )
    v_parameterization: bool | None = option(
        None,
        "The model predicts the velocity and not the noise.",
        change="the base is a single file of a v-prediction model that does not say so",
        shown="as the model says",
        section=MODEL,
    )
    v2: bool | None = option(
        None,
        "The model is of Stable Diffusion 2. It is read from the model's files; "
        "a wrong value is rejected.",
        change="never: it exists only for compatibility with sd-scripts configs",
        shown="as the model is",
        families=("sd1", "sd2"),
        section=MODEL,
    )
    clip_skip: int = option(
        1,
        "The layer of the text encoder, counted from its end, that captions are "
        "read from. It changes nothing in Stable Diffusion XL.",
        change="2 for models of the anime family",
        range=(1, 12),
        usual={"sd1": (1, 2)},
        families=("sd1", "sd2"),
        section=TRAINING,
        in_metadata=True,
    )
    max_token_length: int = option(
        75,
        "CLIP tokens of a caption that count; what is beyond is cut off.",
        change="the plan says that captions are longer",
        choices=(75, 150, 225),
        unit="tokens",
        section=TRAINING,
        in_metadata=True,
    )
    # ---- Output
    output_dir: str = option(
        "output",
        "The folder of the LoRA files, metrics and states.",
        group="Output",
        change="you train more than one LoRA",
        path="output folder",
        applies="on resume",
        section=TRAINING,
    )
    output_name: str = option(
        "",
        "The name of the files.",
        change="the concept's name does not suit",
        shown="the first concept",
        applies="on resume",
        section=TRAINING,
    )
    logging_dir: str = option(
        "",
        "The folder of TensorBoard's files.",
        panel="How it runs",
        change="you watch runs in TensorBoard",
        shown="none",
        path="output folder",
        applies="on resume",
        section=TRAINING,
    )
    log_prefix: str = option(
        "",
        "What the name of a run's folder in `logging_dir` begins with; the time follows.",
        panel="How it runs",
        change="the name of the files does not tell runs apart",
        shown="output_name and -",
        applies="on resume",
        section=TRAINING,
        needs="logging_dir",
    )
    training_comment: str = option(
        "",
        "A comment in the metadata of the LoRA file.",
        change="you pass the file on",
        shown="none",
        applies="on resume",
        section=TRAINING,
        in_metadata=True,
    )
    no_metadata: bool = option(
        False,
        "Write only rank, alpha and base to the metadata of the LoRA file.",
        change="nobody should read tags and folder names in it",
        applies="on resume",
        section=SAVING,
    )
    # ---- Images
    resolution: int | tuple[int, int] = option(
        512,
        "The area to which images are scaled: a side, or `[width, height]`.",
        group="Images",
        change=(
            "512 for Stable Diffusion 1, 768 for 2.x of that size, 1024 for XL; more "
            "shows more detail and takes more memory and time"
        ),
        no_range="BucketRules checks it",
        unit="pixels",
        instead="for several of them write resolutions = [512, 768]",
        slot=4,
        usual={"sd1": (512, 768), "sd2": (512, 768), "sdxl": (1024, 1024)},
        section=DATASET,
        level="dataset",
    )
    resolutions: tuple[int, ...] = option(
        (),
        "Train every image at each of these resolutions, each with its own buckets; they replace "
        "`resolution`, whose list is one size.",
        change=(
            "a LoRA is used at several sizes; an epoch has so many times the samples, and the "
            "largest decides the memory"
        ),
        shown="none",
        see="train.md#several-resolutions",
        no_range="BucketRules checks it",
        unit="pixels",
    )
    enable_bucket: bool = option(
        True,
        ("Sort images into buckets by their shape; without, all are cut to `resolution`."),
        change="all images have one shape",
        see="concepts/buckets.md",
        section=DATASET,
        level="dataset",
        sd_default=False,
        in_metadata=True,
    )
    bucket_no_upscale: bool = option(
        False,
        "Never enlarge an image for its bucket.",
        change="the plan says that many are enlarged",
        section=DATASET,
        level="dataset",
        in_metadata=True,
    )
    min_bucket_reso: int | None = option(
        None,
        "The shortest side of a bucket.",
        change="images are very long",
        shown="by resolution",
        no_range="BucketRules checks it",
        unit="pixels",
        section=DATASET,
        level="dataset",
        sd_default=256,
        in_metadata=True,
    )
    max_bucket_reso: int | None = option(
        None,
        "The longest side of a bucket.",
        change="images are very long",
        shown="by resolution",
        no_range="BucketRules checks it",
        unit="pixels",
        section=DATASET,
        level="dataset",
        sd_default=1024,
        in_metadata=True,
    )
    bucket_reso_steps: int = option(
        64,
        "Sides of buckets are multiples of it; it is a multiple of 8.",
        change=(
            "32, for Stable Diffusion XL, cuts off half as much, and makes more "
            "buckets with fewer images each"
        ),
        no_range="BucketRules checks it",
        unit="pixels",
        section=DATASET,
        level="dataset",
    )
    bucket_selector: str = option(
        "kohya",
        "`kohya` takes the bucket of the nearest ratio; `fit` the one that cuts "
        "off least, of down to four fifths of the area.",
        change="`fit` where the plan says that much is cut off, and step 32 is not wanted",
        see="concepts/buckets.md#fit",
        choices=SELECTORS,
    )
    resize_interpolation: str | None = option(
        None,
        "How an image is scaled to its bucket. Without it by Lanczos; sd-scripts then takes `area` "
        "for an image that becomes smaller. All but `lanczos` and `box` need the extra `opencv`.",
        change="a run of sd-scripts is repeated with its pixels",
        shown="Lanczos",
        see="from-sd-scripts.md#kept-on-purpose",
        choices=(
            "lanczos",
            "nearest",
            "bilinear",
            "linear",
            "bicubic",
            "cubic",
            "area",
            "box",
        ),
        section=DATASET,
        level="subset",
        in_metadata=True,
    )
    flip_aug: bool = option(
        False,
        "Half of the samples are mirrored.",
        change="the subject is not asymmetric",
        section=DATASET,
        level="subset",
        in_metadata=True,
    )
    color_aug: bool = option(
        False,
        "A third of the samples see other colours: the hue turned by up to 16 "
        "degrees, or a gamma of 0.95 to 1.05. Latents cannot be cached.",
        change="all photos share the same lighting; never if colour is what should be learned",
        section=DATASET,
        level="subset",
        in_metadata=True,
    )
    random_crop: bool = option(
        False,
        ("Cut at another place for each sample and not in the middle; latents are not cached."),
        change="images show textures or places",
        section=DATASET,
        level="subset",
        in_metadata=True,
    )
    masked_loss: bool = option(
        False,
        ("`masks/<stem>.png` says where an image counts: white fully, black not at all."),
        change="you made masks",
        section=TRAINING,
    )
    cache_latents: bool = option(
        True,
        "Encode each image once, before the first step.",
        panel="How it runs",
        change="never, unless memory is short for a very large set",
        applies="on resume",
        section=DATASET,
        sd_default=False,
        in_metadata=True,
    )
    cache_latents_to_disk: bool = option(
        False,
        "Keep the latents in `output_dir` for the next run.",
        panel="How it runs",
        change="you train the same images again and again",
        applies="on resume",
        section=DATASET,
    )
    cache_text_encoder_outputs: bool | None = option(
        None,
        "Encode every caption of the run before the first step, and then free the text encoders, "
        "which must not be trained.",
        panel="How it runs",
        change="memory is short, and the text encoders are not trained",
        shown="for models whose text encoders are never trained",
        section=MODEL,
    )
    cache_text_encoder_outputs_to_disk: bool = option(
        False,
        "Keep the encoded captions in `output_dir/text-cache` and not in main memory.",
        panel="How it runs",
        change="main memory is short, or you train the same captions again",
        applies="on resume",
        section=MODEL,
    )
    text_wordings: int = option(
        0,
        "How many wordings a caption has that is shuffled or loses tags: they repeat after so many "
        "epochs. 0: each epoch has its own.",
        panel="How it runs",
        change="the encoded captions take too much memory or disk: a few wordings vary enough",
        range=(0, 1_000_000),
    )
    # ---- Captions
    shuffle_caption: bool = option(
        True,
        "Another order of tags for each sample.",
        group="Captions",
        change="off for sentences",
        section=DATASET,
        level="subset",
        sd_default=False,
        in_metadata=True,
    )
    keep_tokens: int | None = option(
        None,
        "The leading tags that stay in place: the trigger words.",
        change="the number of trigger words",
        shown="none",
        range=(0, MANY),
        unit="tags",
        slot=2,
        section=DATASET,
        level="subset",
        in_metadata=True,
    )
    keep_tokens_separator: str = option(
        "",
        ("A separator in captions, such as `|||`: what stands before it stays in place."),
        change="the number differs by caption",
        shown="none",
        section=DATASET,
        level="subset",
    )
    caption_dropout_rate: float = option(
        0.0,
        "Chance that a sample reads an empty caption.",
        change="0.05 to 0.1 for a style that should show without its word",
        range=_SHARE,
        usual=_everywhere(0.05, 0.1),
        section=DATASET,
        level="subset",
        in_metadata=True,
        off=0,
    )
    caption_dropout_every_n_epochs: int = option(
        0,
        "Every n-th epoch reads no captions.",
        change="rarely",
        shown="0: none does",
        range=(0, MANY),
        unit="epochs",
        section=DATASET,
        level="subset",
        in_metadata=True,
        off=0,
    )
    caption_tag_dropout_rate: float = option(
        0.0,
        "Chance that a sample leaves out a tag, apart from those that stay in place.",
        change="0.1 where few tags tell the images apart",
        range=_SHARE,
        usual=_everywhere(0.1, 0.1),
        section=DATASET,
        level="subset",
        in_metadata=True,
        off=0,
    )
    caption_prefix: str = option(
        "",
        "Text before each caption, with a space between; write its comma.",
        change="one word leads all captions",
        shown="none",
        section=DATASET,
        level="subset",
    )
    caption_suffix: str = option(
        "",
        "Text after each caption, with a space between.",
        change="one phrase ends all captions",
        shown="none",
        section=DATASET,
        level="subset",
    )
    enable_wildcard: bool = option(
        False,
        "Each sample picks one of `{a|b|c}`, and one line of a multi-line caption; "
        "`{{` and `}}` are braces.",
        change="you have several wordings of a caption",
        section=DATASET,
        level="subset",
    )
    secondary_separator: str = option(
        "",
        "A separator such as `;;;` that becomes a comma after shuffling and "
        "dropout, so what it joins stays together.",
        change="tags belong to each other",
        shown="none",
        section=DATASET,
        level="subset",
    )
    token_warmup_min: int = option(
        1,
        "How many free tags are read at the first step.",
        change="with the next",
        range=(0, MANY),
        unit="tags",
        needs="token_warmup_step",
        section=DATASET,
        level="subset",
        off=1,
    )
    token_warmup_step: int | float = option(
        0,
        "The steps until all free tags are read, the first ones of a caption "
        "first; below 1, a share of all steps.",
        change="what leads the captions should be learned first",
        shown="0: all, always",
        range=(0, MANY),
        unit="steps",
        section=DATASET,
        level="subset",
        off=0,
    )
    weighted_captions: bool = option(
        False,
        "`(tag:1.2)`, `(tag)` and `[tag]` weight tags; `\\(` is a bracket.",
        change="captions are written that way",
        see="train.md#weighted-captions",
        section=TRAINING,
    )
    # ---- Length
    max_train_epochs: int = option(
        10,
        "Epochs.",
        group="Length",
        change="`dsk plan-repeats` advises another number",
        range=(1, 100000),
        unit="epochs",
        slot=3,
        section=TRAINING,
    )
    max_train_steps: int | None = option(
        None,
        "Optimizer steps; where they are set, `max_train_epochs` does not count.",
        change="you think in steps",
        shown="not set",
        range=(1, MANY),
        unit="steps",
        section=TRAINING,
    )
    train_batch_size: int = option(
        1,
        "Images per batch, all of one bucket.",
        change="2 to 4 where memory allows: faster and smoother",
        range=_COUNT,
        unit="images",
        slot=8,
        usual=_everywhere(1, 4),
        section=TRAINING,
        old_names=("batch_size",),
    )
    gradient_accumulation_steps: int = option(
        1,
        "Batches per optimizer step.",
        change="a larger batch does not fit: it acts as one, at the same speed",
        range=_COUNT,
        unit="batches",
        slot=8,
        section=TRAINING,
        in_metadata=True,
    )
    seed: int = option(
        42,
        "The seed of all random numbers.",
        change="you want another run of the same training",
        range=(0, 2**63 - 1),
        section=TRAINING,
        in_metadata=True,
    )
    # ---- LoRA
    network_module: str = option(
        "networks.lora",
        ("The kind of network: LoRA, LoHa, LoKr, or LyCORIS's, whose `algo` names its own."),
        group="LoRA",
        change="you know why: LoRA is read by every program",
        see="train.md#networks",
        choices=(*MODULES, LYCORIS),
        section=NETWORK,
        in_metadata=True,
    )
    network_args: tuple[str, ...] = option(
        (),
        'Arguments of the network, each `"name=value"`.',
        change="you train convolutions, DoRA, or blocks by themselves",
        shown="none",
        see="train.md#network-arguments",
        literal=True,
        section=NETWORK,
    )
    network_dim: int = option(
        32,
        "The rank: how much the LoRA can hold.",
        change="4 to 16 for one subject, 32 for several or for a style",
        range=(1, 4096),
        slot=5,
        usual=_everywhere(4, 32),
        section=NETWORK,
        sd_default=4,
        in_metadata=True,
    )
    network_alpha: float = option(
        16,
        "The LoRA adds alpha / dim of what it learned; 0 means dim.",
        change="half the rank is usual, or the rank itself",
        range=(0, 65536),
        slot=5,
        section=NETWORK,
        sd_default=1.0,
        in_metadata=True,
    )
    network_dropout: float = option(
        0.0,
        "Chance of each inner activation to be left out.",
        change="it overfits: try 0.1",
        range=(0, 0.95),  # with 1 the LoRA has no effect
        usual=_everywhere(0, 0.1),
        section=NETWORK,
        in_metadata=True,
        off=0,
    )
    network_weights: str = option(
        "",
        "A LoRA file to go on from, of the same rank.",
        change="you train further",
        shown="none",
        path="input file",
        section=NETWORK,
    )
    network_train_unet_only: bool = option(
        False,
        "Do not train the text encoder.",
        change="you train a style, or memory is short",
        section=NETWORK,
    )
    network_train_text_encoder_only: bool = option(
        False,
        "Do not train the UNet.",
        change="rarely",
        section=NETWORK,
    )
    scale_weight_norms: float | None = option(
        None,
        "The largest norm of a module's change; larger ones are scaled down.",
        change="1 if the LoRA is overcooked or does not mix with others",
        shown="not set",
        range=(0, 1e6),
        usual=_everywhere(1, 1),
        section=NETWORK,
        in_metadata=True,
        off=0,
    )
    ema_decay: float = option(
        0.0,
        "Keep a moving average of the weights and save that; preview images are "
        "generated with it too.",
        change="0.99 to 0.999 where images differ much from step to step",
        shown="0: none",
        range=(0, 0.99999),
        usual=_everywhere(0.99, 0.999),
    )
    # ---- Optimizer
    learning_rate: float = option(
        0.0001,
        "The learning rate of what has no rate of its own.",
        group="Optimizer",
        change="with the next two",
        range=_RATE,
        slot=6,
        usual={"sd1": (0.0001, 0.0005), "sdxl": (0.00003, 0.0003)},
        section=OPTIMIZER,
        sd_default=2e-06,
        in_metadata=True,
    )
    unet_lr: float | None = option(
        None,
        "The learning rate of the UNet or transformer; 0: it is not trained.",
        change="half of it if images look overbaked",
        shown="`learning_rate`",
        range=_RATE,
        section=NETWORK,
        in_metadata=True,
    )
    text_encoder_lr: float | tuple[float, float] = option(
        0.00005,
        "The text encoder's learning rate; 0: it is not trained. Of both "
        "encoders of Stable Diffusion XL, or of each by `[first, second]`.",
        change="a half to a tenth of the UNet's is usual; 0 for Stable Diffusion XL",
        usual={"sd1": (0.00001, 0.00025), "sdxl": (0, 0)},
        range=_RATE,
        slot=7,
        section=NETWORK,
        in_metadata=True,
    )
    optimizer_type: str = option(
        "AdamW",
        "`AdamW`, `AdamW8bit`, `PagedAdamW`, `PagedAdamW8bit`, "
        "`PagedAdamW32bit`, `Lion`, `Lion8bit`, `PagedLion8bit`, `SGDNesterov`, "
        "`Adafactor`, `Prodigy`, `ProdigyPlusScheduleFree`, `DAdaptation` (as "
        "`DAdaptAdam`), `DAdaptAdaGrad`, `DAdaptAdan`, `DAdaptAdanIP`, "
        "`DAdaptLion`, `DAdaptSGD`, `AdamWScheduleFree`, `RAdamScheduleFree`, "
        "`SGDScheduleFree`, or the import path of any class of optimizer.",
        change="`AdamW8bit` saves memory, `Prodigy` finds the rate itself",
        see="train.md#optimizers",
        imports_code=OPTIMIZER_PACKAGES,
        section=OPTIMIZER,
        old_names=("use_8bit_adam", "use_lion_optimizer"),
    )
    optimizer_args: tuple[str, ...] = option(
        (),
        'Arguments of the optimizer, each `"key=value"`.',
        change=(
            'the optimizer asks for it, such as `["decouple=True", '
            '"weight_decay=0.01", "d_coef=2", "use_bias_correction=True"]` for '
            "Prodigy"
        ),
        shown="none",
        literal=True,
        section=OPTIMIZER,
    )
    max_grad_norm: float = option(
        1.0,
        "Gradients are clipped to this norm; 0: they are not.",
        change="0 for Prodigy and D-Adaptation",
        range=(0, MANY),
        section=OPTIMIZER,
        in_metadata=True,
    )
    lr_scheduler: str = option(
        "cosine",
        "The schedule of the learning rates: `constant`, `constant_with_warmup`, "
        "`linear`, `cosine`, `cosine_with_restarts`, `cosine_with_min_lr`, "
        "`cosine_warm_restarts`, `polynomial`, `inverse_sqrt`, "
        "`warmup_stable_decay`.",
        change="`constant` to find a rate, `cosine` to end softly",
        see="train.md#lr-schedules",
        section=OPTIMIZER,
        sd_default="constant",
        in_metadata=True,
    )
    lr_scheduler_num_cycles: int = option(
        1,
        "Cycles of `cosine_with_restarts` and `cosine_warm_restarts`; half waves "
        "of `cosine_with_min_lr` and `warmup_stable_decay`.",
        change="3 is usual for restarts",
        range=_COUNT,
        usual=_everywhere(3, 3),
        section=OPTIMIZER,
    )
    lr_scheduler_power: float = option(
        1.0,
        "The power of `polynomial`.",
        change="1 is a straight line",
        no_range="any power gives a schedule",
        section=OPTIMIZER,
    )
    lr_warmup_steps: int | float | str = option(
        0,
        'Steps over which the rates rise; below 1, or `"5%"`, a share of all steps.',
        change="0.05 to 0.1 is usual for Adam",
        no_range="it is checked with the number of steps",
        unit="steps",
        usual=_everywhere(0.05, 0.1),
        section=OPTIMIZER,
        off=0,
    )
    lr_decay_steps: int | float | str = option(
        0,
        "The last steps, over which `warmup_stable_decay` falls; below 1, or "
        '`"20%"`, a share of all steps.',
        change="0.1 to 0.2 is usual there",
        no_range="it is checked with the number of steps",
        unit="steps",
        usual=_everywhere(0.1, 0.2),
        section=OPTIMIZER,
        off=0,
    )
    lr_scheduler_min_lr_ratio: float | None = option(
        None,
        "The share of the rate that is left in the end: of `cosine_with_min_lr`, "
        "`cosine_warm_restarts`, `warmup_stable_decay`.",
        change="0.1 keeps the last steps learning",
        shown="0",
        range=_SHARE,
        usual=_everywhere(0, 0.1),
        section=OPTIMIZER,
    )
    lr_scheduler_timescale: int | None = option(
        None,
        "Of `inverse_sqrt`: the rate falls to 1/√2 after this many further steps.",
        change="rarely",
        shown="the warm-up, else 10,000",
        range=(1, MANY),
        unit="steps",
        section=OPTIMIZER,
    )
    lr_scheduler_type: str = option(
        "",
        "In place of `lr_scheduler`, any class by its import path, such as "
        "torch's `OneCycleLR` or `package.Class`.",
        change="no name stands for the schedule",
        shown="none",
        imports_code=SCHEDULER_PACKAGES,
        section=OPTIMIZER,
    )
    lr_scheduler_args: tuple[str, ...] = option(
        (),
        'Its arguments, each `"key=value"`, or those of `cosine_warm_restarts`.',
        change=(
            'the schedule asks for it, such as `["cycle_steps=200", '
            '"cycle_mult=1.5", "cycle_warmup=10", "gamma=0.8"]`'
        ),
        shown="none",
        literal=True,
        section=OPTIMIZER,
    )
    # ---- Loss and noise
    prior_loss_weight: float = option(
        1.0,
        "How much a regularisation image counts.",
        group="Loss and noise",
        change="less than 1 where regularisation holds too much",
        range=(-1e6, 1e6),
        section=DREAMBOOTH,
        in_metadata=True,
    )
    diff_output_preservation: bool = option(
        False,
        ("The target of regularisation images is what the base model predicts for them."),
        change="a class word, or a style, should stay as the base draws it",
        see="train.md#preservation",
    )
    loss_type: str = option(
        "l2",
        ("The loss of a difference d: `l2` d², `l1` |d|, `huber` and `smooth_l1` between them."),
        change="`huber` where some images are bad: they pull less",
        see="train.md#losses",
        choices=("l2", "l1", "huber", "smooth_l1"),
        section=TRAINING,
        in_metadata=True,
        off="l2",
    )
    huber_schedule: str = option(
        "snr",
        "How `huber_c` depends on the timestep.",
        change="rarely",
        choices=("constant", "exponential", "snr"),
        section=TRAINING,
        in_metadata=True,
        off="snr",
    )
    huber_c: float = option(
        0.1,
        "Where `huber` and `smooth_l1` go over from d² to |d|.",
        change="smaller is nearer to |d|",
        range=(1e-06, 1),
        section=TRAINING,
        in_metadata=True,
        off=0.1,
    )
    huber_scale: float = option(
        1.0,
        "A factor on it; not of the schedule `snr`.",
        change="rarely",
        range=(1e-06, 1e6),
        section=TRAINING,
        in_metadata=True,
        off=1.0,
    )
    min_snr_gamma: float | None = option(
        None,
        "Weight the loss by min(SNR, gamma) / SNR (arXiv:2303.09556).",
        change="5 learns faster and steadier",
        shown="not set",
        range=(0, 1e6),
        usual={"sd1": (5, 5), "sd2": (5, 5), "sdxl": (5, 5)},
        section=TRAINING,
        in_metadata=True,
        off=0,
    )
    debiased_estimation_loss: bool = option(
        False,
        "Weight the loss by 1 / sqrt(SNR) (arXiv:2310.08442).",
        change="in place of min_snr_gamma, for drawings",
        section=TRAINING,
    )
    scale_v_pred_loss_like_noise_pred: bool = option(
        False,
        ("Weight the loss by SNR / (SNR + 1): a loss of velocities counts as one of noise."),
        change="a v-prediction model learns details too late",
        section=TRAINING,
    )
    v_pred_like_loss: float | None = option(
        None,
        "Add so much of what a loss of velocities would be to one of noise.",
        change="rarely; 0.1 to 1",
        shown="not set",
        range=(0, 1e6),
        usual=_everywhere(0.1, 1),
        section=TRAINING,
    )
    zero_terminal_snr: bool = option(
        False,
        "The last timestep is noise alone (arXiv:2305.08891), in training and in "
        "preview images; for models that predict the velocity.",
        change="the base was trained so: it draws very dark and very bright images",
        section=TRAINING,
        in_metadata=True,
    )
    noise_offset: float = option(
        0.0,
        "Constant noise for each channel.",
        change="0.02 to 0.1 for very dark or very bright images",
        range=_SHARE,
        usual=_everywhere(0.02, 0.1),
        section=TRAINING,
        in_metadata=True,
        off=0,
    )
    noise_offset_random_strength: bool = option(
        False,
        "Draw the strength at random between 0 and the value.",
        change="with a large offset",
        needs="noise_offset",
        section=TRAINING,
        in_metadata=True,
    )
    adaptive_noise_scale: float = option(
        0.0,
        "Add so much of the latent's mean to the offset.",
        change="0.002 is usual",
        range=(-100, 100),
        needs="noise_offset",
        usual=_everywhere(0.002, 0.002),
        section=TRAINING,
        in_metadata=True,
        off=0,
    )
    multires_noise_iterations: int = option(
        0,
        "Levels of pyramid noise.",
        change="6 to 10, in place of noise_offset",
        range=(0, 100),
        usual=_everywhere(6, 10),
        section=TRAINING,
        in_metadata=True,
        off=0,
    )
    multires_noise_discount: float = option(
        0.3,
        "Weight of each coarser level.",
        change="0.1 to 0.4",
        range=_SHARE,
        needs="multires_noise_iterations",
        usual=_everywhere(0.1, 0.4),
        section=TRAINING,
        in_metadata=True,
    )
    ip_noise_gamma: float = option(
        0.0,
        "Input perturbation: extra noise added to the UNet's input (arXiv:2301.11706).",
        change="0.1 is the paper's",
        range=_SHARE,
        usual=_everywhere(0.1, 0.1),
        section=TRAINING,
        in_metadata=True,
        off=0,
    )
    ip_noise_gamma_random_strength: bool = option(
        False,
        "Draw the strength at random between 0 and the value.",
        change="rarely",
        needs="ip_noise_gamma",
        section=TRAINING,
        in_metadata=True,
    )
    min_timestep: int = option(
        0,
        "The first timestep that is trained.",
        change="only large forms should be learned: raise it",
        range=(0, 999),
        section=TRAINING,
        off=0,
    )
    max_timestep: int = option(
        1000,
        "The end of the timesteps, itself not trained.",
        change="only details should be learned: lower it",
        range=(1, 1000),
        section=TRAINING,
    )
    # ---- Flow matching
    timestep_sampling: (
        Literal[
            "sigma",
            "uniform",
            "sigmoid",
            "shift",
            "flux_shift",
            "flux2_shift",
            "qwen_shift",
            "krea2_shift",
        ]
        | None
    ) = option(
        None,
        "How the times of a flow model are drawn: `sigma` by weighting_scheme and shift, "
        "`uniform`, `sigmoid` (logit-normal), `shift` (logit-normal and shift), or logit-normal "
        "with a shift that grows with the image, `flux_shift` and others.",
        group="Flow matching",
        change="never at first: each family has the sampling that its other trainers use",
        shown="the family's",
        see="train.md#flow-models",
    )
    discrete_flow_shift: float | None = option(
        None,
        "The shift of `shift` and `sigma`: above 1 more times are near noise.",
        change="forms are learned too slowly (raise it) or details are (lower it)",
        shown="the family's",
        range=(0.01, 100),
    )
    sigmoid_scale: float | None = option(
        None,
        "The width of the logit-normal density; small values stay near the middle.",
        change="rarely",
        shown="the family's, mostly 1",
        range=(0.01, 100),
    )
    weighting_scheme: Literal["none", "logit_normal", "mode", "sigma_sqrt", "cosmap"] = option(
        "none",
        "With `sigma`, the density `logit_normal` or `mode`; `sigma_sqrt` and `cosmap` weight the "
        "loss by the time.",
        change="never: the trainers of every family use `none`",
    )
    logit_mean: float = option(
        0.0,
        "The mean of `logit_normal` before the logistic function.",
        change="rarely",
        range=(-10, 10),
        needs="weighting_scheme",
    )
    logit_std: float = option(
        1.0,
        "The deviation of `logit_normal` before the logistic function.",
        change="rarely",
        range=(0.01, 100),
        needs="weighting_scheme",
    )
    mode_scale: float = option(
        1.29,
        "How far `mode` goes towards the middle.",
        change="rarely",
        range=(-1, 1.75),
        needs="weighting_scheme",
    )
    model_prediction_type: Literal["raw"] = option(
        "raw",
        "The loss compares velocities; the other types of sd-scripts change the prediction and not "
        "the target.",
        change="never",
    )
    guidance_scale: float | None = option(
        None,
        "The guidance that a model with distilled guidance is given in training.",
        change="never: each family has that of its other trainers",
        shown="the family's",
        range=(0, 100),
    )
    # ---- Precision and memory
    mixed_precision: Literal["auto", "no", "fp16", "bf16"] = option(
        "auto",
        "The precision in which the frozen base is kept and computed; what is "
        "trained is always float32. `auto` is bf16 where the device computes it itself, else fp16 "
        "on a GPU and float32 on a CPU; the plan says which.",
        panel="How it runs",
        group="Precision and memory",
        change="`no` to reproduce a run bit by bit on another machine",
        slot=9,
        section=TRAINING,
        sd_default="no",
        in_metadata=True,
    )
    gradient_checkpointing: bool = option(
        False,
        "Compute again in the backward pass what would have been kept.",
        panel="How it runs",
        change="memory is short: a quarter of the activations, at a third more time",
        slot=9,
        section=TRAINING,
        in_metadata=True,
    )
    base_precision: Literal["same", "int8"] = option(
        "same",
        "The precision in which the frozen base is kept: that of `mixed_precision`, or `int8`: "
        "8-bit whole numbers and a scale for each row, converted for each pass.",
        panel="How it runs",
        change="`int8` if memory is short: half of what the weights take, at a tenth more time",
        slot=9,
        in_metadata=True,
    )
    blocks_to_swap: int = option(
        0,
        "Keep the weights of the last blocks of the UNet or transformer, so many, in main memory, "
        'and copy them to the device for each pass. Needs `base_precision = "int8"`.',
        panel="How it runs",
        change="memory is short even so: the plan says how many blocks a card needs",
        range=(0, 1000),
        section=TRAINING,
        in_metadata=True,
    )
    torch_compile: bool = option(
        False,
        "Compile the repeated blocks of the UNet or transformer before the first step. It takes "
        "minutes, and rounds differently.",
        panel="How it runs",
        change="a GPU trains for hours; a CPU gains nothing",
        section=TRAINING,
        in_metadata=True,
    )
    fp8_base: bool = option(
        False,
        'sd-scripts\' name of `base_precision = "int8"`; the 8-bit numbers are integers here.',
        panel="How it runs",
        change="your file of sd-scripts has it",
        section=TRAINING,
        in_metadata=True,
    )
    fp8_base_unet: bool = option(
        False,
        "The same for the UNet alone.",
        panel="How it runs",
        change="the text encoder is trained and should lose nothing",
        section=TRAINING,
        in_metadata=True,
    )
    save_precision: Literal["float", "fp16", "bf16"] = option(
        "fp16",
        "The precision of the LoRA file.",
        change="`float` to train further from it",
        applies="on resume",
        section=TRAINING,
        sd_default="float",
    )
    # ---- Saving
    lora_format: Literal["auto", "kohya", "diffusers", "comfy", "both"] = option(
        "auto",
        "The names of the LoRA's tensors: `auto` are those that load everywhere (kohya's for "
        "Stable Diffusion), `diffusers` are for diffusers alone, `both` writes a file of each.",
        group="Saving",
        change="you load it with diffusers, and Stable Diffusion 2 or different alphas need it",
        applies="on resume",
    )
    save_every_n_epochs: int = option(
        1,
        "Also save after every n-th epoch.",
        change="2 or more for many epochs; 0 for none",
        range=(0, MANY),
        unit="epochs",
        slot=10,
        applies="on resume",
        section=TRAINING,
        sd_default=0,
        off=0,
    )
    save_every_n_steps: int = option(
        0,
        "Also save after every n-th step.",
        change="epochs are long",
        shown="0: none",
        range=(0, MANY),
        unit="steps",
        applies="on resume",
        section=TRAINING,
        off=0,
    )
    save_last_n_epochs: int | None = option(
        None,
        "Keep only the newest of those files.",
        change="disk space is short",
        shown="all",
        range=(1, MANY),
        unit="files",
        applies="on resume",
        section=TRAINING,
    )
    save_last_n_steps: int | None = option(
        None,
        "Keep only the newest of those files.",
        change="disk space is short",
        shown="all",
        range=(1, MANY),
        unit="files",
        applies="on resume",
        section=TRAINING,
    )
    save_state: bool = option(
        True,
        "With each of them save what `--resume` needs; the newest two are kept.",
        panel="How it runs",
        change="off where the run is short",
        applies="on resume",
        section=TRAINING,
        sd_default=False,
    )
    save_state_every_minutes: float = option(
        10.0,
        "Also save a state after so many minutes; only the newest is kept, and it is removed "
        "at the end. 0: never.",
        panel="How it runs",
        change="fewer where the power may fail",
        range=(0, MANY),
        unit="minutes",
        applies="on resume",
    )
    save_report: bool = option(
        True,
        "Write `<name>-report.html` at the end: plan, loss, validation, preview images, norms, "
        "options and hashes on one page.",
        change="nobody looks at it",
        applies="on resume",
    )

    # ---- Preview images
    sample_prompts: str = option(
        "",
        "A text file of prompts, one in each line.",
        group="Preview images",
        change="you want to see what it learns",
        shown="none",
        see="train.md#preview-images",
        slot=10,
        path="input file",
        applies="on resume",
        section=TRAINING,
    )
    sample_every_n_epochs: int | None = option(
        None,
        "Generate after every n-th epoch, and at the end.",
        change="1 with prompts",
        shown="none: the end",
        range=(0, MANY),
        unit="epochs",
        applies="on resume",
        section=TRAINING,
        off=0,
    )
    sample_every_n_steps: int | None = option(
        None,
        "Generate after every n-th step, and at the end.",
        change="epochs are long",
        shown="none: the end",
        range=(0, MANY),
        unit="steps",
        applies="on resume",
        section=TRAINING,
        off=0,
    )
    sample_at_first: bool = option(
        False,
        "Generate before the first step.",
        change="you want to compare with the base",
        applies="on resume",
        section=TRAINING,
    )
    sample_sampler: str = option(
        "ddim",
        "The sampler of preview images.",
        change="`euler_a` is what many are used to",
        choices=SAMPLERS,
        needs="sample_prompts",
        applies="on resume",
        section=TRAINING,
    )
    # ---- Validation
    validation_split: float = option(
        0.0,
        "The share of training images that are held out for validation; at least "
        "one where it is above 0.",
        group="Validation",
        change="0.1 with 30 images or more; a small set needs all its images",
        shown="0: none",
        see="train.md#validation",
        range=_SHARE,
        usual=_everywhere(0.1, 0.1),
        section=TRAINING,
        in_metadata=True,
    )
    validation_seed: int | None = option(
        None,
        "The seed of the choice of images, and of their noise; it does not "
        "follow `seed`, so that runs can be compared.",
        change="rarely",
        shown="0",
        range=(0, 2**63 - 1),
        section=TRAINING,
        in_metadata=True,
    )
    validate_every_n_epochs: int | None = option(
        None,
        "Validate after every n-th epoch, and at the end.",
        change="epochs are short",
        shown="1, or none with the next",
        range=(0, MANY),
        unit="epochs",
        applies="on resume",
        section=TRAINING,
        in_metadata=True,
    )
    validate_every_n_steps: int | None = option(
        None,
        "Validate after every n-th step.",
        change="epochs are long",
        shown="none",
        range=(0, MANY),
        unit="steps",
        applies="on resume",
        section=TRAINING,
        in_metadata=True,
    )
    max_validation_steps: int | None = option(
        None,
        "Validate with at most this many held-out images.",
        change="many are held out, and time is short",
        shown="all",
        range=(1, MANY),
        unit="images",
        section=TRAINING,
        in_metadata=True,
    )
    save_best: bool = option(
        True,
        "Keep `<name>-best.safetensors`, the LoRA of the step that did best on them.",
        change="disk space is short",
        applies="on resume",
    )

    def __post_init__(self) -> None:
        check(self)
        in_range("min_timestep", self.min_timestep, 0, self.max_timestep - 1)
        self._check_together()
        self.bucket_rules()  # raises for a resolution or a range that makes no buckets

    def _check_together(self) -> None:
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
                hint='set sample_prompts = "prompts.txt", a file with one prompt a line',
            )
        if self.color_aug and (self.cache_latents or self.cache_latents_to_disk):
            hint = "set cache_latents = false and cache_latents_to_disk = false"
            raise ConfigError(
                "color_aug changes an image for each sample, so its latent cannot be cached",
                hint=hint,
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
        """Raise ConfigError for options that only the other kind of prediction has."""
        if self.zero_terminal_snr and not v:
            raise ConfigError(
                "zero_terminal_snr needs a model that predicts the velocity",
                hint="its last timestep is noise alone: a model that predicts the noise "
                "learns nothing there, and its weights are divided by the SNR of 0",
            )
        if self.scale_v_pred_loss_like_noise_pred and not v:
            hint = "a loss of noise has nothing to scale: remove it"
            raise ConfigError(
                "scale_v_pred_loss_like_noise_pred needs a model that predicts the velocity",
                hint=hint,
            )
        if self.v_pred_like_loss and v:
            hint = "it adds a loss of velocities to one of noise: remove it"
            raise ConfigError("v_pred_like_loss needs a model that predicts the noise", hint=hint)

    def _check_network(self) -> None:
        """Raise ConfigError for what the kind of network cannot do."""
        args = self.network()
        method = "use_cp" if args.tucker else args.algo
        if self.network_dropout and method != "lora":
            message = f"network_dropout drops inner activations, and {method} has none"
            raise ConfigError(
                message, hint='set network_dropout = 0, or network_args = ["module_dropout=0.1"]'
            )
        if args.dora and self.scale_weight_norms:
            message = (
                "scale_weight_norms limits what is added to a layer, and dora_wd also "
                "scales the layer"
            )
            raise ConfigError(message, hint="remove one of them")
        if self.cache_text_encoder_outputs and any(
            rate for part, rate in self.rates().items() if part != "unet"
        ):
            raise ConfigError(
                "cache_text_encoder_outputs encodes the captions once, and a text encoder is "
                "trained",
                hint="set network_train_unet_only = true, or cache_text_encoder_outputs = false",
            )
        if self.blocks_to_swap and not self.is_int8(denoiser=True):
            message = "blocks_to_swap copies weights of 8 bits, and the base is not kept in 8 bits"
            raise ConfigError(message, hint='set base_precision = "int8", or blocks_to_swap = 0')
        if args.dora and self.is_int8(denoiser=True):
            message = (
                "dora_wd measures the base weights at every step, and "
                f"{self._int8_option()} keeps them in 8 bits"
            )
            raise ConfigError(message, hint="remove one of them")
        if self.lora_format in ("diffusers", "both") and (
            args.dora or args.norms or method != "lora"
        ):
            what = "DoRA of the input axis" if args.dora else "norms" if args.norms else method
            message = f"lora_format = {self.lora_format!r}: diffusers has no loader for {what}"
            raise ConfigError(
                message, hint='set lora_format = "kohya", which ComfyUI and the web interfaces read'
            )

    def network(self) -> NetworkArgs:
        """Return the network that network_module and network_args describe."""
        return read_network(
            self.network_module, self.network_args, dim=self.network_dim, alpha=self.network_alpha
        )

    def rates(self) -> dict[str, float]:
        """Return the learning rate of each part; 0: it is not trained.

        `text_encoder_2` is the second text encoder of Stable Diffusion XL; other families have
        none.
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
        """Tell whether the base is read in float32, also where it is used in another precision:
        DoRA and int8 weights are computed from that.
        """
        return self.network().dora or self.is_int8(denoiser=True) or self.mixed_precision == "no"

    def is_int8(self, *, denoiser: bool) -> bool:
        """Tell whether the frozen weights of the denoiser, or of the other parts, are kept as
        int8.
        """
        return self.base_precision == "int8" or self.fp8_base or (denoiser and self.fp8_base_unet)

    def _int8_option(self) -> str:
        if self.base_precision == "int8":
            return 'base_precision = "int8"'
        return "fp8_base" if self.fp8_base else "fp8_base_unet"

    def bucket_rules(self) -> BucketRules:
        """Return the bucket arithmetic that these options ask for; of several resolutions that of
        the largest.
        """
        return max(self.all_bucket_rules(), key=lambda rules: rules.area)

    def all_bucket_rules(self) -> tuple[BucketRules, ...]:
        """Return the bucket arithmetic of each resolution."""
        if len(set(self.resolutions)) < len(self.resolutions):
            raise ConfigError(
                f"resolutions = {list(self.resolutions)} names a resolution twice",
                hint="name each once: repeats set how often an image is used",
            )
        return tuple(self._rules_of(size) for size in self.resolutions or (self.resolution,))

    def _rules_of(self, resolution: int | tuple[int, int]) -> BucketRules:
        size = resolution if isinstance(resolution, tuple) else (resolution, resolution)
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

    def blocks(self, first: int = 0) -> tuple[DatasetBlock, ...]:
        """Return the blocks in which images are trained, one for each resolution. first: number of
        the first.
        """
        return tuple(
            DatasetBlock(rules, self.train_batch_size, number)
            for number, rules in enumerate(self.all_bucket_rules(), first)
        )
