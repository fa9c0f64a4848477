"""Training errors: a diverged run and a LoRA that failed the LoRA check; both exit with code 21."""

from __future__ import annotations

from datasetkit.core.errors import DskError, Exit


class LoraCheckFailed(DskError):
    """The trained LoRA does not work; its file is kept for inspection."""

    exit_code = Exit.LORA_CHECK_FAILED


class LossDiverged(DskError):
    """The loss, a gradient or a weight became infinite or NaN, and the run stopped."""

    exit_code = Exit.LORA_CHECK_FAILED
