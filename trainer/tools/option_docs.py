"""What each option of `[train]` does and when to change it: one row a field, grouped as
docs/train.md shows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class OptionDoc:
    """what: the option does; change: when another value is wanted; default: in words, where the
    value tells little.
    """

    what: str
    change: str
    default: str = ""


_UNSET = "not set"
GROUPS: Final[Mapping[str, Mapping[str, OptionDoc]]] = {
    "Model": {
        "pretrained_model_name_or_path": OptionDoc(
            "the base model: a `.safetensors` file, a diffusers folder, [a name on the "
            "hub](#the-base-model), or "
            "[`tiny`](tiny-base.md), which is part of the package",
            "always: it must be given",
            "must be given",
        ),
        "revision": OptionDoc(
            "the commit, 40 hex digits, of a model of the hub",
            "the base is named on the hub: without its commit it could be another tomorrow",
        ),
        "vae": OptionDoc(
            "a VAE in place of the model's own: a file, a folder, or a name on the hub with "
            "its `@commit`",
            "the model's VAE is known to be poor",
        ),
        "v_parameterization": OptionDoc(
            "the model predicts the velocity and not the noise",
            "the base is one file of a v-prediction model, which does not say so itself",
            "as the model says",
        ),
        "v2": OptionDoc(
            "the model is of Stable Diffusion 2; it is found in the model's files, and a wrong "
            "answer is refused",
            "never: it is here for files of sd-scripts",
            "as the model is",
        ),
        "clip_skip": OptionDoc(
            "from which layer of the text encoder, counted from its end, captions are read; "
            "changes nothing in "
            "Stable Diffusion XL",
            "2 for models of the anime family",
        ),
        "max_token_length": OptionDoc(
            "CLIP tokens of a caption that count: 75, 150 or 225",
            "the plan says that captions are longer",
        ),
    },
    "Where things go": {
        "output_dir": OptionDoc(
            "the folder of the LoRA files, metrics and states", "you train more than one LoRA"
        ),
        "output_name": OptionDoc(
            "the name of the files", "the concept's name is not it", "the first concept"
        ),
        "logging_dir": OptionDoc(
            "TensorBoard's files are written there", "you watch runs in TensorBoard", "none"
        ),
        "training_comment": OptionDoc("a remark in the file's metadata", "you hand the file on"),
        "no_metadata": OptionDoc(
            "the file tells only its rank, alpha and base",
            "nobody shall read tags and folder names in it",
        ),
    },
    "Images": {
        "resolution": OptionDoc(
            "the area to which images are scaled, a side or `[width, height]`",
            "512 for Stable Diffusion 1, 768 for 2.x of that size, 1024 for XL; more shows "
            "more detail and takes more "
            "memory and time",
        ),
        "enable_bucket": OptionDoc(
            "sort images by their shape; without, all are cut to `resolution`",
            "all images have one shape",
        ),
        "bucket_no_upscale": OptionDoc(
            "never enlarge an image for its bucket", "the plan says that many are enlarged"
        ),
        "min_bucket_reso": OptionDoc(
            "the shortest side of a bucket, in pixels", "very long images", "by resolution"
        ),
        "max_bucket_reso": OptionDoc(
            "the longest side of a bucket, in pixels", "very long images", "by resolution"
        ),
        "bucket_reso_steps": OptionDoc(
            "sides are multiples of it, itself of 8",
            "32, for Stable Diffusion XL, cuts off half as much, and makes more buckets with "
            "fewer images each",
        ),
        "bucket_selector": OptionDoc(
            "`kohya` takes the bucket of the nearest ratio; `fit` one that [cuts off "
            "least](concepts/buckets.md#fit), "
            "of down to four fifths of the area",
            "`fit` where the plan says that much is cut off, and step 32 is not wanted",
        ),
        "flip_aug": OptionDoc(
            "half of the samples see the image mirrored", "the subject has no side that matters"
        ),
        "color_aug": OptionDoc(
            "a third of the samples see other colours: the hue turned by up to 16 degrees, or a "
            "gamma of 0.95 to 1.05; "
            "latents cannot be kept",
            "photos of one light; never where colours are what is learned",
        ),
        "random_crop": OptionDoc(
            "cut at another place at each sample and not in the middle; latents are not kept",
            "images of textures or places",
        ),
        "masked_loss": OptionDoc(
            "`masks/<stem>.png` says where an image counts: white fully, black not",
            "you made masks",
        ),
        "cache_latents": OptionDoc(
            "encode each image once, before the first step",
            "never, unless memory for a very large set lacks",
        ),
        "cache_latents_to_disk": OptionDoc(
            "keep them in `output_dir` for the next run",
            "you train the same images again and again",
        ),
    },
    "Captions": {
        "shuffle_caption": OptionDoc("another order of tags at each sample", "off for sentences"),
        "keep_tokens": OptionDoc(
            "the leading tags that stay in place: the trigger words",
            "the number of trigger words",
            "none",
        ),
        "keep_tokens_separator": OptionDoc(
            "such as `\\|\\|\\|`, in captions: what stands before it is kept",
            "the number differs by caption",
            "none",
        ),
        "caption_dropout_rate": OptionDoc(
            "chance that a sample reads an empty caption",
            "0.05 to 0.1 for a style that shall show without its word",
        ),
        "caption_dropout_every_n_epochs": OptionDoc(
            "every n-th epoch reads no captions", "rarely", "0: none does"
        ),
        "caption_tag_dropout_rate": OptionDoc(
            "chance that a sample leaves out a tag, those kept apart",
            "0.1 where few tags tell the images apart",
        ),
        "caption_prefix": OptionDoc(
            "stands before each caption, with a space; write its comma",
            "one word leads all captions",
            "none",
        ),
        "caption_suffix": OptionDoc(
            "stands behind each caption, after a space", "one phrase ends all captions", "none"
        ),
        "enable_wildcard": OptionDoc(
            "of `{a\\|b\\|c}` in a caption each sample reads one, and of several lines one; "
            "`{{` and `}}` are braces. "
            "`dsk layout` joins lines: `{one caption\\|another}` says the same in one",
            "you have several wordings of a caption",
        ),
        "secondary_separator": OptionDoc(
            "such as `;;;`: it becomes a comma after shuffling and dropout, so what it joins "
            "stays together",
            "tags that belong to each other",
            "none",
        ),
        "token_warmup_min": OptionDoc(
            "so many free tags are read at the first step", "with the next"
        ),
        "token_warmup_step": OptionDoc(
            "the steps until all free tags are read, the first ones of a caption first; below "
            "1, a part of all",
            "what leads the captions shall be learned first",
            "0: all, always",
        ),
        "weighted_captions": OptionDoc(
            "`(tag:1.2)`, `(tag)` and `[tag]` weigh tags as [described](#weighted-captions); "
            "`\\(` is a bracket",
            "captions are written that way",
        ),
    },
    "Length": {
        "max_train_epochs": OptionDoc("epochs", "as `dsk plan-repeats` advises"),
        "max_train_steps": OptionDoc(
            "optimizer steps; where set, they count and epochs do not", "you think in steps", _UNSET
        ),
        "train_batch_size": OptionDoc(
            "images of a step, all of one bucket",
            "2 to 4 where memory allows: faster and smoother",
        ),
        "gradient_accumulation_steps": OptionDoc(
            "batches of a step", "a larger batch does not fit: it acts as one, at the same speed"
        ),
        "seed": OptionDoc("of everything that is drawn", "another draw of the same training"),
    },
    "LoRA": {
        "network_module": OptionDoc(
            "the [kind of network](#networks): LoRA, LoHa, LoKr, or LyCORIS's, which says its "
            "own by `algo`",
            "you know why: LoRA is read by every program",
        ),
        "network_args": OptionDoc(
            'what is special in it, each `"name=value"`: [the arguments](#network-arguments)',
            "you train convolutions, DoRA, or blocks by themselves",
            "none",
        ),
        "network_dim": OptionDoc(
            "the rank: how much the LoRA can hold",
            "4 to 16 for one subject, 32 for several or for a style",
        ),
        "network_alpha": OptionDoc(
            "the LoRA adds alpha / dim of what it learned; 0 means dim",
            "half the rank is usual, or the rank itself",
        ),
        "network_dropout": OptionDoc(
            "chance of each of the inner activations to be left out", "it learns by heart: 0.1"
        ),
        "network_weights": OptionDoc(
            "a LoRA file to go on from, of the same rank", "you train further", "none"
        ),
        "network_train_unet_only": OptionDoc(
            "the text encoder stays as it is", "a style, or less memory"
        ),
        "network_train_text_encoder_only": OptionDoc("the UNet stays as it is", "rarely"),
        "scale_weight_norms": OptionDoc(
            "the largest norm of a module's change; larger ones are scaled down",
            "1 where the LoRA burns or does not mix with others",
            _UNSET,
        ),
        "ema_decay": OptionDoc(
            "keep a moving average of the weights and save that; it is what samples are drawn "
            "with too",
            "0.99 to 0.999 where images differ much from step to step",
            "0: none",
        ),
    },
    "Optimizer": {
        "learning_rate": OptionDoc("of what has no rate of its own", "with the next two"),
        "unet_lr": OptionDoc(
            "the UNet's rate; 0: it is not trained",
            "half of it if images burn",
            "`learning_rate`",
        ),
        "text_encoder_lr": OptionDoc(
            "the text encoder's rate; 0: it is not trained. Of Stable Diffusion XL's two "
            "encoders, or of each by "
            "`[first, second]`",
            "a half to a tenth of the UNet's is usual; 0 for Stable Diffusion XL",
        ),
        "optimizer_type": OptionDoc(
            "`AdamW`, `AdamW8bit`, `PagedAdamW`, `PagedAdamW8bit`, `PagedAdamW32bit`, `Lion`, "
            "`Lion8bit`, "
            "`PagedLion8bit`, `SGDNesterov`, `Adafactor`, `Prodigy`, `ProdigyPlusScheduleFree`, "
            "`DAdaptation` (as `DAdaptAdam`), `DAdaptAdaGrad`, `DAdaptAdan`, `DAdaptAdanIP`, "
            "`DAdaptLion`, `DAdaptSGD`, `AdamWScheduleFree`, `RAdamScheduleFree`, "
            "`SGDScheduleFree`, "
            "or the import path of any class of optimizer",
            "[by what you need](#optimizers): `AdamW8bit` saves memory, `Prodigy` finds the "
            "rate itself",
        ),
        "optimizer_args": OptionDoc(
            'its own arguments, each `"key=value"`',
            'such as `["decouple=True", "weight_decay=0.01", "d_coef=2", '
            '"use_bias_correction=True"]` for Prodigy',
            "none",
        ),
        "max_grad_norm": OptionDoc(
            "gradients are clipped to this norm; 0: they are not", "0 for Prodigy and D-Adaptation"
        ),
        "lr_scheduler": OptionDoc(
            "[the course](#schedules) of the rates: `constant`, `constant_with_warmup`, "
            "`linear`, `cosine`, "
            "`cosine_with_restarts`, `cosine_with_min_lr`, `cosine_warm_restarts`, "
            "`polynomial`, `inverse_sqrt`, "
            "`warmup_stable_decay`",
            "`constant` to find a rate, `cosine` to end softly",
        ),
        "lr_scheduler_num_cycles": OptionDoc(
            "cycles of `cosine_with_restarts` and `cosine_warm_restarts`; half waves of "
            "`cosine_with_min_lr` and "
            "`warmup_stable_decay`",
            "3 is usual for restarts",
        ),
        "lr_scheduler_power": OptionDoc("of `polynomial`", "1 is a straight line"),
        "lr_warmup_steps": OptionDoc(
            'steps over which the rates rise; below 1, or `"5%"`, a part of all',
            "0.05 to 0.1 is usual for Adam",
        ),
        "lr_decay_steps": OptionDoc(
            'the last steps, over which `warmup_stable_decay` falls; below 1, or `"20%"`, a '
            "part of all",
            "0.1 to 0.2 is usual there",
        ),
        "lr_scheduler_min_lr_ratio": OptionDoc(
            "the part of the rate that is left in the end: of `cosine_with_min_lr`, "
            "`cosine_warm_restarts`, "
            "`warmup_stable_decay`",
            "0.1 keeps the end awake",
            "0",
        ),
        "lr_scheduler_timescale": OptionDoc(
            "of `inverse_sqrt`: after so many steps more the rate is 1 / √2",
            "rarely",
            "the warm-up, else 10,000",
        ),
        "lr_scheduler_type": OptionDoc(
            "in place of `lr_scheduler`, any class by its import path, such as torch's "
            "`OneCycleLR` or `package.Class`",
            "there is no name for the course",
            "none",
        ),
        "lr_scheduler_args": OptionDoc(
            'its arguments, each `"key=value"`, or those of `cosine_warm_restarts`',
            'such as `["cycle_steps=200", "cycle_mult=1.5", "cycle_warmup=10", "gamma=0.8"]`',
            "none",
        ),
    },
    "Loss and noise": {
        "prior_loss_weight": OptionDoc(
            "how much a regularisation image counts", "less than 1 where it holds too much"
        ),
        "diff_output_preservation": OptionDoc(
            "the target of regularisation images is [what the base model "
            "predicts](#preservation) for them",
            "a class word, or a style, shall stay as the base draws it",
        ),
        "loss_type": OptionDoc(
            "[the loss](#losses) of a difference d: `l2` d², `l1` |d|, `huber` and `smooth_l1` "
            "between them",
            "`huber` where some images are bad: they pull less",
        ),
        "huber_schedule": OptionDoc("how `huber_c` depends on the timestep", "rarely"),
        "huber_c": OptionDoc(
            "where `huber` and `smooth_l1` go over from d² to |d|", "smaller is nearer to |d|"
        ),
        "huber_scale": OptionDoc("a factor on it; not of the schedule `snr`", "rarely"),
        "min_snr_gamma": OptionDoc(
            "weigh timesteps by min(SNR, gamma) / SNR (arXiv:2303.09556)",
            "5 learns faster and steadier",
            _UNSET,
        ),
        "debiased_estimation_loss": OptionDoc(
            "weigh timesteps by 1 / sqrt(SNR) (arXiv:2310.08442)",
            "in place of min_snr_gamma, for drawings",
        ),
        "scale_v_pred_loss_like_noise_pred": OptionDoc(
            "weigh timesteps by SNR / (SNR + 1): a loss of velocities counts as one of noise",
            "a v-prediction model learns details too late",
        ),
        "v_pred_like_loss": OptionDoc(
            "add so much of what a loss of velocities would be to one of noise",
            "rarely; 0.1 to 1",
            _UNSET,
        ),
        "zero_terminal_snr": OptionDoc(
            "the last timestep is noise alone (arXiv:2305.08891), in training and in sample "
            "images; for models that "
            "predict the velocity",
            "the base was trained so: it draws very dark and very bright images",
        ),
        "noise_offset": OptionDoc(
            "constant noise for each channel", "0.02 to 0.1 for very dark or very bright images"
        ),
        "noise_offset_random_strength": OptionDoc(
            "the offset varies from 0 to its value", "with a large offset"
        ),
        "adaptive_noise_scale": OptionDoc(
            "adds so much of the latent's mean to the offset", "0.002 is usual"
        ),
        "multires_noise_iterations": OptionDoc(
            "levels of pyramid noise", "6 to 10, in place of noise_offset"
        ),
        "multires_noise_discount": OptionDoc("what each coarser level counts", "0.1 to 0.4"),
        "ip_noise_gamma": OptionDoc(
            "noise on the noise that the UNet sees (arXiv:2301.11706)", "0.1 is the paper's"
        ),
        "ip_noise_gamma_random_strength": OptionDoc("it varies from 0 to its value", "rarely"),
        "min_timestep": OptionDoc(
            "the first timestep that is trained", "large forms only: raise it"
        ),
        "max_timestep": OptionDoc("the end of them, itself not trained", "details only: lower it"),
    },
    "Precision and memory": {
        "mixed_precision": OptionDoc(
            "in what the frozen base is kept and computed; what is trained is always float32",
            "`fp16` for GPUs before the RTX 30 series; `no` on a CPU, or to reproduce bit by bit",
        ),
        "gradient_checkpointing": OptionDoc(
            "compute again in the backward pass what would have been kept",
            "memory lacks: a quarter, at a third more time",
        ),
        "fp8_base": OptionDoc(
            "keep the frozen base in 8 bits a weight (whole numbers and a scale a row, read "
            "back for each pass)",
            "memory lacks: half of what the weights take, at a tenth more time",
        ),
        "fp8_base_unet": OptionDoc(
            "the same for the UNet alone", "the text encoder is trained and shall lose nothing"
        ),
        "save_precision": OptionDoc("of the LoRA file", "`float` to train further from it"),
    },
    "Saving": {
        "lora_format": OptionDoc(
            "kohya's keys, diffusers' keys, or a file of each", "a program asks for the other"
        ),
        "save_every_n_epochs": OptionDoc(
            "also save after every n-th epoch", "2 or more for many epochs; 0 for none"
        ),
        "save_every_n_steps": OptionDoc(
            "also save after every n-th step", "epochs are long", "0: none"
        ),
        "save_last_n_epochs": OptionDoc(
            "keep only the newest of those files", "disk space lacks", "all"
        ),
        "save_last_n_steps": OptionDoc(
            "keep only the newest of those files", "disk space lacks", "all"
        ),
        "save_state": OptionDoc(
            "with each of them what `--resume` needs; the newest two are kept",
            "off where the run is short",
        ),
    },
    "Preview images": {
        "sample_prompts": OptionDoc(
            "a text file of prompts, one a line: [preview images](#preview-images)",
            "you want to see what it learns",
            "none",
        ),
        "sample_every_n_epochs": OptionDoc(
            "draw after every n-th epoch, and at the end", "1 with prompts", "none: the end"
        ),
        "sample_every_n_steps": OptionDoc(
            "draw after every n-th step, and at the end", "epochs are long", "none: the end"
        ),
        "sample_at_first": OptionDoc(
            "draw before the first step", "you want to compare with the base"
        ),
        "sample_sampler": OptionDoc("how they are drawn", "`euler_a` is what many are used to"),
    },
    "Validation": {
        "validation_split": OptionDoc(
            "the share of training images that are held out to be [validated](#validation); "
            "at least one where it is "
            "above 0",
            "0.1 with 30 images or more; a small set needs all its images",
            "0: none",
        ),
        "validation_seed": OptionDoc(
            "of the choice of images, and of their noise; it does not follow `seed`, so that "
            "runs can be compared",
            "rarely",
            "0",
        ),
        "validate_every_n_epochs": OptionDoc(
            "look at them after every n-th epoch, and at the end",
            "epochs are short",
            "1, or none with the next",
        ),
        "validate_every_n_steps": OptionDoc(
            "look at them after every n-th step", "epochs are long", "none"
        ),
        "max_validation_steps": OptionDoc(
            "look at so many of them at most", "many are held out, and time lacks", "all"
        ),
        "save_best": OptionDoc(
            "keep `<name>-best.safetensors`, the LoRA of the step that did best on them",
            "disk space lacks",
        ),
    },
}
DOCS: Final[Mapping[str, OptionDoc]] = {
    name: doc for group in GROUPS.values() for name, doc in group.items()
}
