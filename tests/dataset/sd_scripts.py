"""The options that sd-scripts knows, by section: a reference that is not made from our code."""

from __future__ import annotations

from collections.abc import Mapping


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Which section each option of sd-scripts stands in, in the order in which they are written.
SECTIONS: Mapping[str, tuple[str, ...]] = {
    "additional_network_arguments": _names("""
        unet_lr text_encoder_lr network_dim network_alpha network_module network_args
        network_dropout network_weights dim_from_weights network_train_unet_only
        network_train_text_encoder_only scale_weight_norms base_weights base_weights_multiplier
    """),
    "optimizer_arguments": _names("""
        learning_rate lr_scheduler lr_scheduler_num_cycles lr_warmup_steps lr_decay_steps
        lr_scheduler_power lr_scheduler_timescale lr_scheduler_min_lr_ratio lr_scheduler_type
        lr_scheduler_args optimizer_type optimizer_args max_grad_norm
    """),
    "training_arguments": _names("""
        max_train_epochs max_train_steps train_batch_size gradient_accumulation_steps
        gradient_checkpointing save_every_n_epochs save_every_n_steps save_n_epoch_ratio
        save_last_n_epochs save_last_n_epochs_state save_last_n_steps save_last_n_steps_state
        clip_skip min_snr_gamma debiased_estimation_loss scale_v_pred_loss_like_noise_pred
        v_pred_like_loss loss_type huber_schedule huber_c huber_scale noise_offset
        noise_offset_random_strength adaptive_noise_scale multires_noise_iterations
        multires_noise_discount ip_noise_gamma ip_noise_gamma_random_strength zero_terminal_snr
        min_timestep max_timestep masked_loss alpha_mask weighted_captions seed max_token_length
        xformers sdpa mem_eff_attn lowram full_fp16 full_bf16 fp8_base fp8_base_unet no_half_vae
        max_data_loader_n_workers persistent_data_loader_workers save_precision mixed_precision
        output_dir logging_dir output_name log_prefix log_with log_tracker_name log_config
        save_state save_state_on_train_end resume initial_epoch initial_step skip_until_initial_step
        sample_prompts sample_sampler sample_at_first sample_every_n_epochs sample_every_n_steps
        validation_seed validation_split validate_every_n_epochs validate_every_n_steps
        max_validation_steps training_comment deepspeed torch_compile blocks_to_swap
    """),
    "model_arguments": _names("""
        pretrained_model_name_or_path v2 v_parameterization vae tokenizer_cache_dir
        cache_text_encoder_outputs cache_text_encoder_outputs_to_disk
    """),
    "saving_arguments": _names("""
        save_model_as no_metadata metadata_title metadata_author metadata_description
        metadata_license
        metadata_tags
    """),
    "dreambooth_arguments": ("prior_loss_weight", "train_data_dir", "reg_data_dir"),
    "dataset_arguments": _names("""
        cache_latents cache_latents_to_disk skip_cache_check vae_batch_size dataset_config in_json
        resolution enable_bucket min_bucket_reso max_bucket_reso bucket_reso_steps bucket_no_upscale
        caption_extension caption_separator shuffle_caption keep_tokens keep_tokens_separator
        secondary_separator enable_wildcard caption_prefix caption_suffix caption_dropout_rate
        caption_dropout_every_n_epochs caption_tag_dropout_rate token_warmup_min token_warmup_step
        flip_aug color_aug random_crop face_crop_aug_range
        resize_interpolation
    """),
}
