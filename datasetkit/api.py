"""One function a verb: what the command line, a notebook and any other program call.

    from pathlib import Path
    from datasetkit import api

    result = api.tag(Path("imgs"), api.TagOptions(trigger=("MikamiYua",), exclude=("lips", "nose")))
    for done in result.report.done:
        print(done.record.path.name, done.value.text())

Each takes the verb's options object and, where it changes something, `How(dry_run=..., wait=..., reporter=...)`; it
returns a frozen result and raises a `DskError` (datasetkit/core/errors.py) with nothing changed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from datasetkit.core.config import (
    CheckOptions,
    ConceptOptions,
    Config,
    CutoutOptions,
    ExportOptions,
    FacesOptions,
    ImportOptions,
    LayoutOptions,
    PlanRepeatsOptions,
    RegGenerateOptions,
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
from datasetkit.verbs.project import How

if TYPE_CHECKING:
    from datasetkit.verbs.checking import check
    from datasetkit.verbs.cutting import cutout
    from datasetkit.verbs.doctor import doctor
    from datasetkit.verbs.exchange import export, import_captions
    from datasetkit.verbs.facing import crop_faces, erase_faces, list_faces
    from datasetkit.verbs.history import history, undo
    from datasetkit.verbs.layouts import layout
    from datasetkit.verbs.modelfiles import download, models, where
    from datasetkit.verbs.naming import rename
    from datasetkit.verbs.pipeline import init, run
    from datasetkit.verbs.planning import plan_repeats
    from datasetkit.verbs.reg_pictures import generate_reg
    from datasetkit.verbs.regs import reg
    from datasetkit.verbs.resizing import resize
    from datasetkit.verbs.rules import groups, rules
    from datasetkit.verbs.scores import scores
    from datasetkit.verbs.tables import report
    from datasetkit.verbs.tagging import tag
    from datasetkit.verbs.trainers_view import as_sd_scripts

__all__ = [
    "CheckOptions",
    "ConceptOptions",
    "Config",
    "CutoutOptions",
    "ExportOptions",
    "FacesOptions",
    "How",
    "ImportOptions",
    "LayoutOptions",
    "PlanRepeatsOptions",
    "RegGenerateOptions",
    "RegOptions",
    "RenameOptions",
    "ReportOptions",
    "ResizeOptions",
    "RulesOptions",
    "RunOptions",
    "TagOptions",
    "TrainOptions",
    "as_sd_scripts",
    "check",
    "crop_faces",
    "cutout",
    "doctor",
    "download",
    "erase_faces",
    "export",
    "find_config",
    "generate_reg",
    "groups",
    "history",
    "import_captions",
    "init",
    "layout",
    "list_faces",
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

# In which module of datasetkit/verbs each lives: it is loaded when it is first asked for, for a command needs one of
# them, and all together take a tenth of a second to load.
_VERBS = {
    "as_sd_scripts": "trainers_view",
    "check": "checking",
    "crop_faces": "facing",
    "cutout": "cutting",
    "doctor": "doctor",
    "download": "modelfiles",
    "erase_faces": "facing",
    "export": "exchange",
    "generate_reg": "reg_pictures",
    "groups": "rules",
    "history": "history",
    "import_captions": "exchange",
    "init": "pipeline",
    "layout": "layouts",
    "list_faces": "facing",
    "models": "modelfiles",
    "plan_repeats": "planning",
    "reg": "regs",
    "rename": "naming",
    "report": "tables",
    "resize": "resizing",
    "rules": "rules",
    "run": "pipeline",
    "scores": "scores",
    "tag": "tagging",
    "undo": "history",
    "where": "modelfiles",
}


def __getattr__(name: str) -> Any:
    """Load a verb (PEP 562)."""
    if name not in _VERBS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    verb = globals()[name] = getattr(import_module(f"datasetkit.verbs.{_VERBS[name]}"), name)
    return verb
