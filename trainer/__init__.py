"""The peft LoRA trainer that reads `<repeats>_<concept>` folders."""
