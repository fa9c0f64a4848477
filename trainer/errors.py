"""Errors of training: a run that diverged, or a LoRA that failed the gate; both end with exit code
21.
"""

from __future__ import annotations

from datasetkit.core.errors import DskError, Exit


class GateFailed(DskError):
    """The trained LoRA is no LoRA that works; its file is kept, for a look at it."""

    exit_code = Exit.GATE_FAILED


class LossDiverged(GateFailed):
    """The loss became infinite or not a number; the run was stopped."""
