"""A weight change as the product of two factors."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.lora_files.precision import Array


@dataclass(frozen=True, slots=True)
class LowRank:
    """scale * up @ down. up: (out, r); down: (r, in * kernel)."""

    up: Array
    down: Array
    scale: float = 1.0

    @property
    def rank(self) -> int:
        return len(self.down)

    def product(self) -> Array:
        result: Array = self.scale * (self.up @ self.down)
        return result
