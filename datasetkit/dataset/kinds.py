"""What a LoRA is to learn; usual numbers and some checks depend on it."""

from typing import Literal

Kind = Literal["character", "style", "garment", "concept", "object"]
