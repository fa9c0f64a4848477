"""One function a verb: what the command line, a notebook and any other program call.

    from pathlib import Path
    from datasetkit import api

    result = api.tag(Path("imgs"), api.TagOptions(trigger=("MikamiYua",), exclude=("lips", "nose")))
    for done in result.report.done:
        print(done.record.path.name, done.value.text())

Each takes the verb's options object and, where it changes something, `How(dry_run=..., wait=..., reporter=...)`; it
returns a frozen result and raises a `DskError` (datasetkit/core/errors.py) with nothing changed.
"""

from datasetkit.core.config import (
    ConceptOptions,
    Config,
    ExportOptions,
    ImportOptions,
    LayoutOptions,
    PlanRepeatsOptions,
    RegOptions,
    RenameOptions,
    ReportOptions,
    ResizeOptions,
    RulesOptions,
    RunOptions,
    TagOptions,
    TrainOptions,
)
from datasetkit.core.config import find as find_config
from datasetkit.core.config import load as load_config
from datasetkit.verbs.doctor import doctor
from datasetkit.verbs.exchange import export, import_captions
from datasetkit.verbs.history import history, undo
from datasetkit.verbs.layouts import layout
from datasetkit.verbs.modelfiles import download, models, where
from datasetkit.verbs.naming import rename
from datasetkit.verbs.pipeline import init, run
from datasetkit.verbs.planning import plan_repeats
from datasetkit.verbs.project import How
from datasetkit.verbs.regs import reg
from datasetkit.verbs.resizing import resize
from datasetkit.verbs.rules import groups, rules
from datasetkit.verbs.scores import scores
from datasetkit.verbs.tables import report
from datasetkit.verbs.tagging import tag

__all__ = [
    "ConceptOptions",
    "Config",
    "ExportOptions",
    "How",
    "ImportOptions",
    "LayoutOptions",
    "PlanRepeatsOptions",
    "RegOptions",
    "RenameOptions",
    "ReportOptions",
    "ResizeOptions",
    "RulesOptions",
    "RunOptions",
    "TagOptions",
    "TrainOptions",
    "doctor",
    "download",
    "export",
    "find_config",
    "groups",
    "history",
    "import_captions",
    "init",
    "layout",
    "load_config",
    "models",
    "plan_repeats",
    "reg",
    "rename",
    "report",
    "resize",
    "rules",
    "run",
    "scores",
    "tag",
    "undo",
    "where",
]
