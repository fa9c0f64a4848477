"""The types inside the verbs' results, for the code that shows results: it imports nothing below
the verbs.

Import it for type checking only: it loads every layer, and torch.
"""

from datasetkit.captions.diffs import CaptionChange
from datasetkit.captions.pruning import Suggestion
from datasetkit.captions.rules import Group, RuleHits
from datasetkit.checks.base import CheckFolder
from datasetkit.checks.summary import CheckSummary
from datasetkit.dataset.repeats import RepeatsPlan
from datasetkit.outputs.sidecars import CaptionRewriteResult
from datasetkit.project.jobs import Job
from datasetkit.project.journal import JournalEntry, UndoResult
from datasetkit.project.plans import Plan
from datasetkit.verbs.history import InterruptedCommand, RecoverResult
from datasetkit.verbs.shared.laid_out import ImageStorage
from datasetkit.verbs.shared.lora_groups import LayerGroup
from datasetkit.verbs.shared.project_history import ProjectHistory
from taggers.models import ModelRow
from trainer.files.run_files import EarlierRun
from trainer.lora_files.checks import LoraFinding
from trainer.lora_files.describe import LoraDescription
from trainer.lr_search.rules import PartSearch
from trainer.plan.disk import DiskEstimate
from trainer.plan.memory import MemoryEstimate
from trainer.plan.report import BlockUse, BucketUse, CaptionUse, SubsetUse
from trainer.run import TrainedLora

__all__ = [
    "BlockUse",
    "BucketUse",
    "CaptionChange",
    "CaptionRewriteResult",
    "CaptionUse",
    "CheckFolder",
    "CheckSummary",
    "DiskEstimate",
    "EarlierRun",
    "Group",
    "ImageStorage",
    "InterruptedCommand",
    "Job",
    "JournalEntry",
    "LayerGroup",
    "LoraDescription",
    "LoraFinding",
    "MemoryEstimate",
    "ModelRow",
    "PartSearch",
    "Plan",
    "ProjectHistory",
    "RecoverResult",
    "RepeatsPlan",
    "RuleHits",
    "SubsetUse",
    "Suggestion",
    "TrainedLora",
    "UndoResult",
]
