"""LoRA files after training."""
