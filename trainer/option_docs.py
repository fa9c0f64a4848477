"""What each option of `[train]` does and when to change it: one row a field, grouped as docs/train.md shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Doc:
    """what: the option does; change: when another value is wanted; default: in words, where the value tells little."""

    what: str
    change: str
    default: str = ""


_UNSET = "not set"
GROUPS: Final[Mapping[str, Mapping[str, Doc]]] = {
    "Model": {
        "pretrained_model_name_or_path": Doc(
            "the base model: a `.safetensors` file, a diffusers folder, [a name on the hub](#the-base-model), or "
            "[`tiny`](tiny-base.md), which is part of the package",
            "always: it must be given",
            "must be given",
        ),
        "revision": Doc(
            "the commit, 40 hex digits, of a model of the hub",
            "the base is named on the hub: without its commit it could be another tomorrow",
        ),
        "vae": Doc(
            "a VAE in place of the model's own: a file, a folder, or a name on the hub with its `@commit`",
            "the model's VAE is known to be poor",
        ),
        "v_parameterization": Doc(
            "the model predicts the velocity and not the noise", "the base is a v-prediction model"
        ),
        "clip_skip": Doc(
            "from which layer of the text encoder, counted from its end, captions are read",
            "2 for models of the anime family",
        ),
        "max_token_length": Doc(
            "CLIP tokens of a caption that count: 75, 150 or 225", "the plan says that captions are longer"
        ),
    },
    "Where things go": {
        "output_dir": Doc("the folder of the LoRA files, metrics and states", "you train more than one LoRA"),
        "output_name": Doc("the name of the files", "the concept's name is not it", "the first concept"),
        "logging_dir": Doc("TensorBoard's files are written there", "you watch runs in TensorBoard", "none"),
        "training_comment": Doc("a remark in the file's metadata", "you hand the file on"),
        "no_metadata": Doc(
            "the file tells only its rank, alpha and base", "nobody shall read tags and folder names in it"
        ),
    },
    "Pictures": {
        "resolution": Doc(
            "the area to which pictures are scaled, a side or `[width, height]`",
            "512 for Stable Diffusion 1; more shows more detail and takes more memory and time",
        ),
        "enable_bucket": Doc(
            "sort pictures by their shape; without, all are cut to `resolution`", "all pictures have one shape"
        ),
        "bucket_no_upscale": Doc("never enlarge a picture for its bucket", "the plan says that many are enlarged"),
        "min_bucket_reso": Doc("the shortest side of a bucket, in pixels", "very long pictures", "by resolution"),
        "max_bucket_reso": Doc("the longest side of a bucket, in pixels", "very long pictures", "by resolution"),
        "bucket_reso_steps": Doc(
            "sides are multiples of it, itself of 8",
            "32 cuts off half as much, and makes more buckets with fewer pictures each",
        ),
        "flip_aug": Doc("half of the visits see the picture mirrored", "the subject has no side that matters"),
        "random_crop": Doc(
            "cut at another place at each visit and not in the middle; latents are not kept",
            "pictures of textures or places",
        ),
        "masked_loss": Doc("`masks/<stem>.png` says where a picture counts: white fully, black not", "you made masks"),
        "cache_latents": Doc(
            "encode each picture once, before the first step", "never, unless memory for a very large set lacks"
        ),
        "cache_latents_to_disk": Doc(
            "keep them in `output_dir` for the next run", "you train the same pictures again and again"
        ),
    },
    "Captions": {
        "shuffle_caption": Doc("another order of tags at each visit", "off for sentences"),
        "keep_tokens": Doc(
            "the leading tags that stay in place: the trigger words", "the number of trigger words", "none"
        ),
        "keep_tokens_separator": Doc(
            "such as `\\|\\|\\|`, in captions: what stands before it is kept", "the number differs by caption", "none"
        ),
        "caption_dropout_rate": Doc(
            "chance that a visit reads an empty caption", "0.05 to 0.1 for a style that shall show without its word"
        ),
        "caption_dropout_every_n_epochs": Doc("every n-th epoch reads no captions", "rarely", "0: none does"),
        "caption_tag_dropout_rate": Doc(
            "chance that a visit leaves out a tag, those kept apart", "0.1 where few tags tell the pictures apart"
        ),
    },
    "Length": {
        "max_train_epochs": Doc("epochs", "as `dsk plan-repeats` advises"),
        "max_train_steps": Doc(
            "optimizer steps; where set, they count and epochs do not", "you think in steps", _UNSET
        ),
        "train_batch_size": Doc(
            "pictures of a step, all of one bucket", "2 to 4 where memory allows: faster and smoother"
        ),
        "gradient_accumulation_steps": Doc(
            "batches of a step", "a larger batch does not fit: it acts as one, at the same speed"
        ),
        "seed": Doc("of everything that is drawn", "another draw of the same training"),
    },
    "LoRA": {
        "network_module": Doc("what is trained", "there is no other here"),
        "network_dim": Doc(
            "the rank: how much the LoRA can hold", "4 to 16 for one subject, 32 for several or for a style"
        ),
        "network_alpha": Doc(
            "the LoRA adds alpha / dim of what it learned; 0 means dim", "half the rank is usual, or the rank itself"
        ),
        "network_dropout": Doc("chance of each of the inner activations to be left out", "it learns by heart: 0.1"),
        "network_weights": Doc("a LoRA file to go on from, of the same rank", "you train further", "none"),
        "network_train_unet_only": Doc("the text encoder stays as it is", "a style, or less memory"),
        "network_train_text_encoder_only": Doc("the UNet stays as it is", "rarely"),
        "scale_weight_norms": Doc(
            "the largest norm of a module's change; larger ones are scaled down",
            "1 where the LoRA burns or does not mix with others",
            _UNSET,
        ),
    },
    "Optimizer": {
        "learning_rate": Doc("of what has no rate of its own", "with the next two"),
        "unet_lr": Doc("the UNet's rate; 0: it is not trained", "half of it if pictures burn", "`learning_rate`"),
        "text_encoder_lr": Doc(
            "the text encoder's rate; 0: it is not trained", "a half to a tenth of the UNet's is usual"
        ),
        "optimizer_type": Doc(
            "`AdamW`, `AdamW8bit`, `PagedAdamW8bit`, `Lion`, `Lion8bit`, `Prodigy`, `DAdaptation`, `DAdaptAdam`, "
            "`DAdaptLion`, or the import path of any class of optimizer",
            "`AdamW8bit` saves memory; `Prodigy` finds the rate itself (set all rates to 1)",
        ),
        "optimizer_args": Doc(
            'its own arguments, each `"key=value"`',
            'such as `["decouple=True", "weight_decay=0.01", "d_coef=2", "use_bias_correction=True"]` for Prodigy',
            "none",
        ),
        "max_grad_norm": Doc("gradients are clipped to this norm; 0: they are not", "0 for Prodigy and D-Adaptation"),
        "lr_scheduler": Doc(
            "the course of the rates: `constant`, `constant_with_warmup`, `linear`, `cosine`, "
            "`cosine_with_restarts`, `polynomial`",
            "`constant` to find a rate, `cosine` to end softly",
        ),
        "lr_scheduler_num_cycles": Doc("cycles of `cosine_with_restarts`", "3 is usual there"),
        "lr_scheduler_power": Doc("of `polynomial`", "1 is a straight line"),
        "lr_warmup_steps": Doc(
            'steps over which the rates rise; below 1, or `"5%"`, a part of all', "0.05 to 0.1 is usual for Adam"
        ),
    },
    "Loss and noise": {
        "prior_loss_weight": Doc("how much a regularisation picture counts", "less than 1 where it holds too much"),
        "min_snr_gamma": Doc(
            "weigh timesteps by min(SNR, gamma) / SNR (arXiv:2303.09556)", "5 learns faster and steadier", _UNSET
        ),
        "debiased_estimation_loss": Doc(
            "weigh timesteps by 1 / sqrt(SNR) (arXiv:2310.08442)", "in place of min_snr_gamma, for drawings"
        ),
        "noise_offset": Doc("constant noise for each channel", "0.02 to 0.1 for very dark or very bright pictures"),
        "noise_offset_random_strength": Doc("the offset varies from 0 to its value", "with a large offset"),
        "adaptive_noise_scale": Doc("adds so much of the latent's mean to the offset", "0.002 is usual"),
        "multires_noise_iterations": Doc("levels of pyramid noise", "6 to 10, in place of noise_offset"),
        "multires_noise_discount": Doc("what each coarser level counts", "0.1 to 0.4"),
        "ip_noise_gamma": Doc("noise on the noise that the UNet sees (arXiv:2301.11706)", "0.1 is the paper's"),
        "ip_noise_gamma_random_strength": Doc("it varies from 0 to its value", "rarely"),
        "min_timestep": Doc("the first timestep that is trained", "large forms only: raise it"),
        "max_timestep": Doc("the end of them, itself not trained", "details only: lower it"),
    },
    "Precision and memory": {
        "mixed_precision": Doc(
            "in what the frozen base is kept and computed; what is trained is always float32",
            "`fp16` for GPUs before the RTX 30 series; `no` on a CPU, or to reproduce bit by bit",
        ),
        "gradient_checkpointing": Doc(
            "compute again in the backward pass what would have been kept",
            "memory lacks: a quarter, at a third more time",
        ),
        "save_precision": Doc("of the LoRA file", "`float` to train further from it"),
    },
    "Saving": {
        "lora_format": Doc("kohya's keys, diffusers' keys, or a file of each", "a program asks for the other"),
        "save_every_n_epochs": Doc("also save after every n-th epoch", "2 or more for many epochs; 0 for none"),
        "save_every_n_steps": Doc("also save after every n-th step", "epochs are long", "0: none"),
        "save_last_n_epochs": Doc("keep only the newest of those files", "disk space lacks", "all"),
        "save_last_n_steps": Doc("keep only the newest of those files", "disk space lacks", "all"),
        "save_state": Doc(
            "with each of them what `--resume` needs; the newest two are kept", "off where the run is short"
        ),
    },
    "Sample pictures": {
        "sample_prompts": Doc(
            "a text file of prompts, one a line: [sample pictures](#sample-pictures)",
            "you want to see what it learns",
            "none",
        ),
        "sample_every_n_epochs": Doc("draw after every n-th epoch, and at the end", "1 with prompts", "none: the end"),
        "sample_every_n_steps": Doc("draw after every n-th step, and at the end", "epochs are long", "none: the end"),
        "sample_at_first": Doc("draw before the first step", "you want to compare with the base"),
        "sample_sampler": Doc("how they are drawn", "`euler_a` is what many are used to"),
    },
}
DOCS: Final[Mapping[str, Doc]] = {name: doc for group in GROUPS.values() for name, doc in group.items()}
