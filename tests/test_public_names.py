"""The names that programs may import are frozen: a new one is added here on purpose, an old one
stays.
"""

import inspect

import datasetkit
from datasetkit import api
from datasetkit.options import toml

VERBS = """
    add_job as_sd_scripts ask_job caption
    check connected crop_faces cutout doctor download erase_faces export find_config
    find_lr forget generate_reg grid groups history hold_job import_captions import_dataset
    import_shards init init_example interrupted job_log jobs keep layout list_faces
    load_config lora_check lora_convert lora_extract lora_info lora_merge lora_resize models
    move_job plan_publishing plan_repeats plan_training projects_below publish
    recover reg remove_job rename report resize resume_job review rules run run_jobs
    scores stop_job studio tag train undo where
""".split()
NOUNS = """
    CaptionOptions
    CheckOptions ConceptOptions Config CutoutOptions ExecutorOptions ExportOptions FacesOptions
    FindLrOptions GridOptions ImportOptions KeepOptions
    LayoutOptions LoraCheckOptions LoraResizeOptions LoraConvertOptions LoraMergeOptions
    LoraExtractOptions
    PlanRepeatsOptions PublishOptions RegGenerateOptions RegOptions RenameOptions ReportOptions
    ResizeOptions ReviewOptions RulesOptions RunContext RunOptions TagOptions TrainOptions
""".split()


def test_the_public_names_are_these():
    assert sorted(api.__all__) == sorted(VERBS + NOUNS)
    assert all(hasattr(api, name) for name in api.__all__)


def test_every_verb_has_a_docstring_and_types():
    for name in VERBS:
        function = getattr(api, name)
        signature = inspect.signature(function)
        assert inspect.getdoc(function), name
        assert signature.return_annotation is not inspect.Signature.empty, name
        assert all(
            p.annotation is not inspect.Parameter.empty for p in signature.parameters.values()
        ), name


def test_verbs_that_change_something_take_a_context():
    looking = {
        "add_job",
        "ask_job",
        "connected",
        "doctor",
        "find_config",
        "groups",
        "history",
        "hold_job",
        "interrupted",
        "job_log",
        "jobs",
        "load_config",
        "lora_info",
        "models",
        "move_job",
        "plan_training",
        "projects_below",
        "remove_job",
        "resume_job",
        "run_jobs",
        "scores",
        "stop_job",
        "where",
    }
    for name in set(VERBS) - looking:
        assert "context" in inspect.signature(getattr(api, name)).parameters, name


def test_the_tables_of_dsk_toml_are_these():
    names = """
        caption
        run executor dataset rename faces resize cutout tag rules plan-repeats layout reg
        reg-generate report
        check review export import
        train publish keep find-lr grid lora-check lora-resize lora-convert lora-merge lora-extract
    """
    assert sorted(toml.TABLES) == sorted(names.split())


def test_the_version_is_a_version():
    assert datasetkit.__version__.split(".")[0].isdecimal()
