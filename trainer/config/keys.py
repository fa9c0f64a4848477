"""The keys of sd-scripts' files that are not options here: what becomes of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_OWN_LOADER = "images are read by this trainer's own loader"
_ATTENTION = "torch's scaled-dot-product attention is always used"
_TRACKING = "metrics.jsonl and TensorBoard are written under fixed names"
_TEXT_CACHE = "a frozen text encoder encodes each distinct caption once, shuffled ones too"
_NO_FASTER = "compiling did not make a step faster when it was measured"
# Accepted without effect -> why.
IGNORED: Final[Mapping[str, str]] = {
    "xformers": _ATTENTION,
    "sdpa": _ATTENTION,
    "mem_eff_attn": _ATTENTION,
    "lowram": "the model is loaded once, part by part",
    "max_data_loader_n_workers": _OWN_LOADER,
    "persistent_data_loader_workers": _OWN_LOADER,
    "vae_batch_size": "images are encoded one by one, so that latents do not depend on a batch",
    "cache_text_encoder_outputs": _TEXT_CACHE,
    "cache_text_encoder_outputs_to_disk": _TEXT_CACHE,
    "skip_cache_check": "cached latents are checked by content",
    "no_half_vae": "the VAE never computes in fp16",
    "tokenizer_cache_dir": "the tokenizer ships with the package",
    "log_prefix": _TRACKING,
    "log_with": _TRACKING,
    "log_tracker_name": _TRACKING,
    "log_config": _TRACKING,
    "save_last_n_epochs_state": "the newest two states are kept",
    "save_last_n_steps_state": "the newest two states are kept",
    "caption_separator": "commas separate the tags",
    "highvram": "the GPU's memory is not freed between steps",
    "torch_compile": _NO_FASTER,
    "dynamo_backend": _NO_FASTER,
    "opt_channels_last": "it did not make a step faster when it was measured, on a CPU",
}
# Unsupported keys are accepted with these values, which mean "off".
OFF: Final[tuple[object, ...]] = (None, False, 0, "", [])
_HALF = "mixed_precision keeps the frozen base in half precision; trained weights stay float32"
_METADATA = "use training_comment"
_RESUME = "dsk train --resume continues from the newest state"
# Not supported -> what to do instead.
UNSUPPORTED: Final[Mapping[str, str]] = {
    "dim_from_weights": "set network_dim to the rank of network_weights",
    "base_weights": "merge it into the base model first",
    "base_weights_multiplier": "merge it into the base model first",
    "face_crop_aug_range": "crop the images beforehand",
    "resize_interpolation": "Lanczos is always used",
    "alpha_mask": "masked_loss reads masks/<stem>.png",
    "in_json": "write captions beside the images: dsk import --from meta",
    "full_fp16": _HALF,
    "full_bf16": _HALF,
    "save_n_epoch_ratio": "use save_every_n_epochs",
    "save_state_on_train_end": "a finished run cannot be resumed; network_weights continues "
    "from its LoRA",
    "resume": _RESUME,
    "initial_epoch": _RESUME,
    "initial_step": _RESUME,
    "skip_until_initial_step": _RESUME,
    "deepspeed": "python -m trainer.launch trains on several GPUs",
    "metadata_title": _METADATA,
    "metadata_author": _METADATA,
    "metadata_description": _METADATA,
    "metadata_license": _METADATA,
    "metadata_tags": _METADATA,
}
# Accepted with these values only.
FIXED: Final[Mapping[str, tuple[object, ...]]] = {
    "save_model_as": ("safetensors",),
    "caption_extension": (".txt", ".caption"),
}
