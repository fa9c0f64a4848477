"""What becomes of each key that other trainers write and that is not an option here.

One table for sd-scripts (config.toml and dataset.toml), the GUI of kohya_ss (its TOML and its JSON
presets), LoRA_Easy_Training_Scripts and lora-scripts. A key that is not in it and not an option is
unknown. docs/from-sd-scripts.md is written from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final


class KeyMeaning(Enum):
    """What becomes of a key.

    OPTION: it is an option under another name. ARGUMENT: it is an argument of the network.
    NOT_NEEDED: it has no effect here. NOT_SUPPORTED: it is refused unless it is off. ONE_VALUE: any
    other value is refused. OTHER_MODEL: only models that are not trained here have it.
    """

    OPTION = "option"
    ARGUMENT = "network argument"
    NOT_NEEDED = "not needed"
    NOT_SUPPORTED = "not supported"
    ONE_VALUE = "one value"
    OTHER_MODEL = "other model"


SD: Final = "sd-scripts"
GUI: Final = "kohya_ss GUI"
EASY: Final = "LoRA_Easy_Training_Scripts"
LORA: Final = "lora-scripts"


@dataclass(frozen=True, slots=True)
class Key:
    """A key of another trainer. program: that writes it. text: the option or argument; why it is
    not needed; what to do instead. off: the values, besides those of OFF, under which it is
    accepted without a word; for ONE_VALUE the values that are accepted. is_quiet: it is accepted
    without a word with any value.
    """

    name: str
    meaning: KeyMeaning
    program: str
    text: str
    off: tuple[object, ...] = ()
    is_quiet: bool = False

    def is_off(self, value: Any) -> bool:
        return self.is_quiet or is_off(value) or value in self.off


# Values that mean "off" for any key.
OFF: Final[tuple[object, ...]] = (None, False, 0, "", [], {}, "None", "none", "0", "no", "False")


def is_off(value: Any) -> bool:
    """Tell whether a value means "off" for any key."""
    return value in OFF


def _rows(meaning: KeyMeaning, program: str, text: str, names: str, *off: object) -> Iterable[Key]:
    return (Key(name, meaning, program, text, off) for name in names.split())


def _not_needed(program: str, text: str, names: str, *off: object) -> Iterable[Key]:
    return _rows(KeyMeaning.NOT_NEEDED, program, text, names, *off)


def _quiet(program: str, text: str, names: str) -> Iterable[Key]:
    return (
        Key(name, KeyMeaning.NOT_NEEDED, program, text, is_quiet=True) for name in names.split()
    )


def _not_supported(program: str, text: str, names: str, *off: object) -> Iterable[Key]:
    return _rows(KeyMeaning.NOT_SUPPORTED, program, text, names, *off)


def _other_model(program: str, names: str, *off: object) -> Iterable[Key]:
    return _rows(KeyMeaning.OTHER_MODEL, program, OTHER_MODEL, names, *off)


def _options(program: str, **renamed: str) -> Iterable[Key]:
    return (Key(name, KeyMeaning.OPTION, program, to) for name, to in renamed.items())


def _arguments(program: str, names: str, **renamed: str) -> Iterable[Key]:
    """Return keys that are arguments of the network, under the same name or another one."""
    pairs = {name: name for name in names.split()} | renamed
    return (Key(name, KeyMeaning.ARGUMENT, program, to) for name, to in pairs.items())


_OWN_LOADER = "images are read by this trainer's own loader"
_ATTENTION = "torch's scaled-dot-product attention is always used"
_TRACKING = "metrics.jsonl and TensorBoard are written under fixed names"
_TEXT_CACHE = "a frozen text encoder encodes each distinct caption once, shuffled ones too"
_NO_FASTER = "torch_compile decides, with the compiler that PyTorch chooses"
_TWO_STATES = "the newest two states are kept"
_PART_BY_PART = "the model is loaded once, part by part"
_LAUNCH = "python -m trainer.launch starts its processes itself"
_NO_UPLOAD = "nothing is uploaded"
_HALF = "mixed_precision keeps the frozen base in half precision; trained weights stay float32"
_RESUME = "dsk train --resume continues from the newest state"
_MERGE_FIRST = "merge it into the base model first"
_SEVERAL_GPUS = "python -m trainer.launch trains on several GPUs"
_REPEATS = "num_repeats, or the number at the front of a folder's name, says it"
OTHER_MODEL: Final = "it is of another model than the base"
# Options of flow models. Files of other trainers hold them for a model of any family, so they count
# only where the base is a flow model, see flow_keys.py.
FLOW: Final = frozenset(
    (
        "timestep_sampling", "discrete_flow_shift", "sigmoid_scale", "weighting_scheme",
        "logit_mean", "logit_std", "mode_scale", "model_prediction_type", "guidance_scale",
    )
)  # fmt: skip
_FAMILY = "the family is read from the model's files"
_CAPTIONS = "an image with neither has the name of its folder as caption"
_UI = "of the program's window"
_FULL_TRAINING = "of full finetuning"
_OF_NETWORK_ARGS = 'write it as an argument of the network: network_args = ["name=value"]'
_PROMPT_FILE = "write the prompts into a text file, one in each line, and name it by sample_prompts"

_SD_SCRIPTS: Final = (
    *_not_needed(SD, _ATTENTION, "xformers sdpa mem_eff_attn"),
    *_not_needed(SD, _PART_BY_PART, "lowram disable_mmap_load_safetensors"),
    *_not_needed(SD, "the GPU's memory is not freed between steps", "highvram"),
    *_not_needed(SD, _OWN_LOADER, "max_data_loader_n_workers persistent_data_loader_workers"),
    *_not_needed(
        SD,
        "images are encoded one by one, so that latents do not depend on a batch",
        "vae_batch_size",
        1,
    ),
    *_not_needed(SD, _TEXT_CACHE, "text_encoder_batch_size"),
    *_not_needed(SD, "cached latents are checked by content", "skip_cache_check"),
    *_not_needed(SD, "sizes are read from the images' headers, which is fast", "cache_info"),
    *_not_needed(SD, "the VAE never computes in fp16", "no_half_vae"),
    *_not_needed(SD, "the tokenizer ships with the package", "tokenizer_cache_dir"),
    *_not_needed(
        SD,
        _TRACKING,
        "log_with log_tracker_name log_tracker_config log_config wandb_run_name "
        "wandb_api_key",
        "tensorboard",
    ),
    *_not_needed(
        SD,
        "dsk has its own messages",
        "console_log_level console_log_file console_log_simple",
    ),
    *_not_needed(
        SD,
        _NO_UPLOAD,
        "huggingface_repo_id huggingface_repo_type huggingface_path_in_repo huggingface_token "
        "huggingface_repo_visibility save_state_to_huggingface async_upload",
    ),
    *_not_needed(SD, _TWO_STATES, "save_last_n_epochs_state save_last_n_steps_state"),
    *_not_needed(SD, "commas separate the tags", "caption_separator", ",", ", "),
    *_not_needed(SD, _NO_FASTER, "dynamo_backend", "inductor", "default", "INDUCTOR", "no"),
    *_not_needed(
        SD, "it did not make a step faster when it was measured, on a CPU", "opt_channels_last"
    ),
    *_not_needed(SD, _LAUNCH, "ddp_timeout ddp_gradient_as_bucket_view ddp_static_graph"),
    *_not_needed(SD, "it saves memory in full finetuning only", "fused_backward_pass"),
    *_not_needed(SD, "activations stay on the device", "cpu_offload_checkpointing"),
    *_not_needed(
        SD,
        "these entries are not written: use training_comment",
        "metadata_title metadata_author metadata_description metadata_license metadata_tags",
    ),
    *_not_needed(SD, "files are always safetensors", "use_safetensors"),
    *_not_needed(SD, _HALF, "full_fp16 full_bf16"),
    *_not_needed(SD, "save_state saves what --resume needs", "save_state_on_train_end"),
    *_not_needed(
        SD, "of the command line alone", "config_file output_config"
    ),
    *_not_needed(
        SD,
        "of deepspeed",
        "zero_stage offload_optimizer_device offload_optimizer_nvme_path offload_param_device "
        "offload_param_nvme_path zero3_init_flag zero3_save_16bit_model "
        "fp16_master_weights_and_gradients",
        2,
    ),
    *_options(
        SD,
        use_8bit_adam='optimizer_type = "AdamW8bit"',
        use_lion_optimizer='optimizer_type = "Lion"',
    ),
    *_not_supported(SD, _SEVERAL_GPUS, "deepspeed"),
    *_not_supported(SD, "set network_dim to the rank of network_weights", "dim_from_weights"),
    *_not_supported(SD, _MERGE_FIRST, "base_weights base_weights_multiplier"),
    *_not_supported(SD, "crop the images beforehand", "face_crop_aug_range"),
    *_not_supported(SD, "masked_loss reads masks/<stem>.png", "alpha_mask"),
    *_not_supported(
        SD, "write captions beside the images: dsk import --from meta", "in_json metadata_file"
    ),
    *_not_supported(
        SD, "put the masks into masks/ in the images' folder", "conditioning_data_dir"
    ),
    *_not_supported(SD, "use save_every_n_epochs", "save_n_epoch_ratio"),
    *_not_supported(
        SD,
        _RESUME,
        "resume resume_from_huggingface initial_epoch initial_step skip_until_initial_step",
    ),
    *_not_supported(SD, "dsk train --dry-run says what is read", "debug_dataset"),
    *_not_supported(SD, _REPEATS, "dataset_repeats", 1),
    *_not_supported(SD, _OWN_LOADER, "dataset_class"),
    *_not_supported(SD, "several networks are not combined", "network_multiplier", 1),
    Key("save_model_as", KeyMeaning.ONE_VALUE, SD, "", ("safetensors",)),
    Key("caption_extension", KeyMeaning.ONE_VALUE, SD, _CAPTIONS, (".txt", ".caption", ".kohya")),
    Key("caption_extention", KeyMeaning.ONE_VALUE, SD, _CAPTIONS, (".txt", ".caption", ".kohya")),
    # Of Flux, Stable Diffusion 3, Lumina, HunyuanImage and Anima: a path says that it is trained.
    *_other_model(
        SD,
        "clip_l clip_g t5xxl ae qwen3 gemma2 byt5 text_encoder llm_adapter_path t5_tokenizer_path "
        "controlnet_model_name_or_path",
    ),
    *_other_model(SD, "model_type", "flux"),  # flux: the default, also in files of other models
    *_not_needed(
        SD,
        OTHER_MODEL,
        "t5xxl_max_token_length gemma2_max_token_length qwen3_max_token_length "
        "t5_max_token_length apply_t5_attn_mask apply_lg_attn_mask guidance_scale "
        "timestep_sampling sigmoid_scale model_prediction_type discrete_flow_shift "
        "training_shift weighting_scheme logit_mean logit_std mode_scale "
        "single_blocks_to_swap double_blocks_to_swap split_mode mem_eff_save save_clip save_t5xxl "
        "t5xxl_device t5xxl_dtype clip_l_dropout_rate clip_g_dropout_rate t5_dropout_rate "
        "pos_emb_random_crop_rate enable_scaled_pos_embed use_flash_attn use_sage_attn "
        "system_prompt sample_batch_size fp8_scaled fp8_vl text_encoder_cpu vae_chunk_size "
        "attn_mode split_attn unsloth_offload_checkpointing vae_disable_cache qwen_image_vae_2d "
        "compile compile_backend compile_mode compile_dynamic compile_fullgraph "
        "compile_cache_size_limit llm_adapter_lr self_attn_lr cross_attn_lr mlp_lr mod_lr "
        "show_timesteps show_timesteps_resolution cfg_trunc renorm_cfg train_t5xxl",
        # What their programs take where nothing is chosen.
        1, 1.0, 1.29, 3, 3.0, 3.5, 5.0, 6.0, 77, 256, 512, "sigma", "sigma_scaled", "raw", "shift",
        "sigmoid", "uniform", "logit_normal", "flux", "bf16", "torch", "all", "1024,1024",
    ),
)  # fmt: skip

_KOHYA_GUI: Final = (
    *_quiet(GUI, "max_train_epochs or max_train_steps is written beside it, and counts", "epoch"),
    *_quiet(GUI, "it says which of the two kinds of noise the file means", "noise_offset_type"),
    *_not_needed(GUI, "memory is freed as it is needed", "lowvram"),
    *_not_needed(
        GUI,
        "the text encoder is trained to the end, as by the GUI",
        "stop_text_encoder_training stop_text_encoder_training_pct",
    ),
    *_not_needed(GUI, _TRACKING, "use_wandb"),
    *_not_supported(GUI, "inpainting models are not trained", "train_inpainting"),
    *_not_supported(GUI, "captions are padded, as CLIP was trained", "no_token_padding"),
    *_not_needed(
        GUI,
        _OF_NETWORK_ARGS,
        "loraplus_lr_ratio loraplus_unet_lr_ratio loraplus_text_encoder_lr_ratio",
    ),
)

# Of JSON presets alone.
_GUI_PRESET: Final = (
    *_options(
        GUI,
        max_resolution="resolution",
        optimizer="optimizer_type",
        lora_network_weights="network_weights",
        lr_warmup="lr_warmup_steps",
        epoch="max_train_epochs",
        additional_parameters="the options that it names",
    ),
    *_arguments(
        GUI,
        "conv_dim conv_alpha rank_dropout module_dropout block_dims block_alphas conv_block_dims "
        "conv_block_alphas down_lr_weight mid_lr_weight up_lr_weight block_lr_zero_threshold "
        "factor bypass_mode dora_wd use_cp use_tucker use_scalar rank_dropout_scale train_norm "
        "decompose_both loraplus_lr_ratio loraplus_unet_lr_ratio loraplus_text_encoder_lr_ratio",
        LoRA_type="network_module, and algo",
        LyCORIS_preset="preset",
        conv_dims="conv_block_dims",
        conv_alphas="conv_block_alphas",
    ),
    *_quiet(
        GUI,
        "of types of LoRA that are refused by LoRA_type",
        "constrain rescaled train_on_input unit",
    ),
    *_quiet(GUI, "of GGPO, which is refused for Flux", "train_lora_ggpo ggpo_sigma ggpo_beta"),
    *_quiet(GUI, _UI, "save_as_bool model_list headless print_only"),
    *_quiet(GUI, _FAMILY, "sdxl sdxl_checkbox"),
    *_not_needed(GUI, _TEXT_CACHE, "sdxl_cache_text_encoder_outputs"),
    *_not_needed(GUI, "the VAE never computes in fp16", "sdxl_no_half_vae"),
    *_quiet(
        GUI,
        _LAUNCH,
        "num_cpu_threads_per_process num_processes num_machines multi_gpu gpu_ids "
        "main_process_port extra_accelerate_launch_args",
    ),
    *_not_needed(GUI, _NO_FASTER, "dynamo_mode dynamo_use_fullgraph dynamo_use_dynamic", "default"),
    *_quiet(GUI, _FULL_TRAINING, "fused_optimizer_groups blockwise_fused_optimizers block_lr"),
    *_not_supported(
        GUI,
        "presets for Stable Diffusion 1, 2, XL, 3 and Flux are read",
        "hunyuan_image_checkbox anima_checkbox lumina_checkbox",
    ),
    *_quiet(GUI, _FAMILY, "flux1_checkbox sd3_checkbox"),
)
# The pages for flow models: the box that is ticked -> the keys that the GUI passes on then, under
# sd-scripts' names, and those that it writes under another name.
GUI_PAGES: Final[Mapping[str, Mapping[str, str]]] = {
    "flux1": {
        **{name: name for name in (
            "ae", "clip_l", "t5xxl", "discrete_flow_shift", "model_prediction_type",
            "timestep_sampling", "guidance_scale", "split_mode", "t5xxl_max_token_length",
            "mem_eff_save", "apply_t5_attn_mask", "cpu_offload_checkpointing", "blocks_to_swap",
            "single_blocks_to_swap", "double_blocks_to_swap", "fp8_base_unet",
        )},
        "flux1_clip_l": "clip_l",
        "flux1_t5xxl": "t5xxl",
        "flux1_cache_text_encoder_outputs": "cache_text_encoder_outputs",
        "flux1_cache_text_encoder_outputs_to_disk": "cache_text_encoder_outputs_to_disk",
    },
    "sd3": {
        **{name: name for name in (
            "clip_g", "clip_g_dropout_rate", "logit_mean", "logit_std", "mode_scale",
            "pos_emb_random_crop_rate", "save_clip", "save_t5xxl", "t5xxl_device", "t5xxl_dtype",
            "weighting_scheme", "blocks_to_swap",
        )},
        **{f"sd3_{name}": name for name in (
            "clip_l", "t5xxl", "clip_l_dropout_rate", "t5_dropout_rate", "enable_scaled_pos_embed",
            "text_encoder_batch_size", "fused_backward_pass", "disable_mmap_load_safetensors",
            "cache_text_encoder_outputs", "cache_text_encoder_outputs_to_disk",
        )},
    },
}  # fmt: skip
# Arguments of networks.lora_flux on the page for Flux -> what to do instead.
GUI_FLUX_ARGUMENTS: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        (
            "img_attn_dim", "img_mlp_dim", "img_mod_dim", "single_dim", "txt_attn_dim",
            "txt_mlp_dim", "txt_mod_dim", "single_mod_dim", "in_dims",
        ),
        "every layer has the rank network_dim",
    ),
    **dict.fromkeys(
        ("split_mode", "train_double_block_indices", "train_single_block_indices"),
        "every block is trained",
    ),
    "train_t5xxl": "the text encoders are not trained",
    "train_lora_ggpo": "GGPO is not trained",
}  # fmt: skip
# Keys of a preset that count only where the box of their model is ticked begin with these, ...
GUI_MODELS: Final = ("flux1_", "flux_", "sd3_", "hunyuan_", "anima_", "lumina_")
# ... or are these.
GUI_OTHER_MODEL: Final = frozenset(
    "t5xxl_lr train_t5xxl train_blocks split_qkv img_attn_dim img_mlp_dim img_mod_dim single_dim "
    "txt_attn_dim txt_mlp_dim txt_mod_dim single_mod_dim in_dims train_double_block_indices "
    "train_single_block_indices enable_all_linear".split()
)

_EASY_SCRIPTS: Final = (
    *_options(EASY, batch_size="train_batch_size", warmup_ratio="lr_warmup_steps"),
    *_quiet(EASY, _FAMILY, "sdxl"),
    *_quiet(
        EASY,
        _UI,
        "name save_toml save_toml_location tag_occurrence tag_file_location",
    ),
    *_quiet(EASY, "it stands in the place of ${replace} in names and paths", "easy_name"),
    *_not_supported(EASY, "LoRA-FA is not trained: use LoRA", "fa"),
    *_not_supported(EASY, "a LoRA is trained here, no embedding", "train_mode", "lora"),
)

_LORA_SCRIPTS: Final = (
    *_options(
        LORA,
        lr_restart_cycles="lr_scheduler_num_cycles",
        prompt_file="sample_prompts",
        network_args_custom="network_args",
        optimizer_args_custom="optimizer_args",
    ),
    *_arguments(
        LORA,
        "conv_dim conv_alpha down_lr_weight mid_lr_weight up_lr_weight block_lr_zero_threshold "
        "train_norm dropout",
        lycoris_algo="algo",
        lokr_factor="factor",
        dylora_unit="unit",
        prodigy_d0="optimizer_args: d0",
        prodigy_d_coef="optimizer_args: d_coef",
    ),
    *_not_supported(
        LORA,
        "from such a file LoRAs for Stable Diffusion 1, 2 and XL are trained",
        "model_train_type",
        "sd-lora",
        "sdxl-lora",
    ),
    *_quiet(LORA, _UI, "enable_block_weights enable_base_weight enable_preview"),
    *_quiet(LORA, _LAUNCH, "gpu_ids num_cpu_threads_per_process"),
    *_not_needed(
        LORA,
        _PROMPT_FILE,
        "positive_prompts negative_prompts sample_width sample_height sample_cfg sample_seed "
        "sample_steps randomly_choice_prompt",
    ),
    *_not_supported(LORA, "write its lines into the file itself", "ui_custom_params"),
)


def _by_name(*groups: Iterable[Key]) -> Mapping[str, Key]:
    return {key.name: key for group in groups for key in group}


# What a file in each format may hold besides options. The TOML of the GUI is read by sd-scripts, so
# the keys of both may stand in one file.
FLAT: Final = _by_name(_SD_SCRIPTS, _KOHYA_GUI)
LORA_SCRIPTS: Final = _by_name(_SD_SCRIPTS, _KOHYA_GUI, _LORA_SCRIPTS)
PRESET: Final = _by_name(_SD_SCRIPTS, _KOHYA_GUI, _GUI_PRESET)
EASY_SCRIPTS: Final = _by_name(_SD_SCRIPTS, _KOHYA_GUI, _EASY_SCRIPTS)
# All rows, for the docs and for hints.
TABLE: Final = (*_SD_SCRIPTS, *_KOHYA_GUI, *_GUI_PRESET, *_EASY_SCRIPTS, *_LORA_SCRIPTS)
# Values of options under which sd-scripts, or the program that writes the file, takes its default.
ZERO_IS_UNSET: Final = (
    "clip_skip", "max_token_length", "max_train_epochs", "max_train_steps", "max_timestep",
    "save_last_n_epochs", "save_last_n_steps", "lr_scheduler_timescale",
    "lr_scheduler_min_lr_ratio",
)  # fmt: skip
# Options that sd-scripts does not look at while another one is off (`()`) or has another value.
IDLE_UNLESS: Final[Mapping[str, tuple[str, tuple[object, ...]]]] = {
    "huber_c": ("loss_type", ("huber", "smooth_l1")),
    "huber_scale": ("loss_type", ("huber", "smooth_l1")),
    "lr_scheduler_num_cycles": (
        "lr_scheduler",
        ("cosine_with_restarts", "cosine_with_min_lr", "warmup_stable_decay"),
    ),
    "max_validation_steps": ("validation_split", ()),
    "min_bucket_reso": ("enable_bucket", ()),
    "max_bucket_reso": ("enable_bucket", ()),
    "bucket_reso_steps": ("enable_bucket", ()),
}
