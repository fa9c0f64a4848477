"""datasetkit: from a folder of photos or drawings to a trained LoRA."""

__version__ = "0.1.0"
