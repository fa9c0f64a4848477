"""The LoRA trainer, based on diffusers and peft, for `<repeats>_<concept>` folders."""
