"""The models with a short name (by SmilingWolf, Apache-2.0) and their pinned revisions, and how the
files of any model are downloaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from datasetkit import hub
from datasetkit.core.errors import ConfigError, ModelFileError
from datasetkit.core.progress import SILENT, Reporter
from datasetkit.core.suggest import did_you_mean
from taggers.kinds import KINDS
from taggers.labels import CSV_FILE

MODEL_FILE, LABEL_FILE = "model.onnx", CSV_FILE
DEFAULT = "wd-swinv2-v3"
# The name that means any WD14 tagger: the default one.
WD14 = "wd14"

# Name, repository, pinned revision, and the threshold where the model's card reports precision =
# recall (-: it reports none).
_TABLE = """
wd-swinv2-v3      SmilingWolf/wd-swinv2-tagger-v3           805ca9892b4fdfbe3f06f9de3f0a07b3da8637ed  0.2653
wd-vit-v3         SmilingWolf/wd-vit-tagger-v3              7f6b584d0bd3f55c4531f14ba3d4761b2bccdc0f  0.2614
wd-convnext-v3    SmilingWolf/wd-convnext-tagger-v3         d39e46de298d27340111b64965e20b8185c407e6  0.2682
wd-vit-large-v3   SmilingWolf/wd-vit-large-tagger-v3        ae469aa2e4706a3af08d3673cf73a11d1add314c  -
wd-eva02-large-v3 SmilingWolf/wd-eva02-large-tagger-v3      b25b82a03f7282e41aa2f257a52c7583b710bd1c  0.5296
wd-vit-v2         SmilingWolf/wd-v1-4-vit-tagger-v2         1f3f3e8ae769634e31e1ef696df11ec37493e4f2  0.3537
wd-convnext-v2    SmilingWolf/wd-v1-4-convnext-tagger-v2    4b34d1b07bdd8e95494072648960b8a6adcbc0ff  0.3685
wd-convnextv2-v2  SmilingWolf/wd-v1-4-convnextv2-tagger-v2  dbd4dbe553ee51feb3bc745b614fb762080e3912  0.3710
wd-swinv2-v2      SmilingWolf/wd-v1-4-swinv2-tagger-v2      cdb0c7fdc70646f0af29c6f80f8df564344a69b6  0.3771
wd-moat-v2        SmilingWolf/wd-v1-4-moat-tagger-v2        8452cddf280b952281b6e102411c50e981cb2908  0.3771
"""  # noqa: E501

# `owner/repo[/folder][@revision]`, with no slash in the revision; some repositories have a folder
# for each version.
_PART = r"[\w-][\w.-]*"
_REPO = re.compile(
    rf"(?P<repo>{_PART}/{_PART})(?P<folder>(/{_PART})*)(@(?P<revision>{_PART}))?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model on the hub.

    revision: after `pin` a 40-hex commit. pr_threshold: where its card reports precision = recall.
    folder: of its files in the repository. label_file: "" until it is known which of the two kinds
    it has.
    """

    name: str
    repo: str
    revision: str
    pr_threshold: float | None = None
    folder: str = ""
    label_file: str = ""

    @property
    def command(self) -> str:
        """The command that downloads this model."""
        return f"dsk models download {self.name}"

    def file(self, name: str) -> str:
        """Return a file's path in the repository."""
        return f"{self.folder}/{name}" if self.folder else name


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The paths of a model's two files."""

    weights: Path
    labels: Path


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A row of `dsk models list`. path: of the weights, None unless both files are cached."""

    name: str
    repo: str
    revision: str
    cached: bool
    path: Path | None


def _parse(line: str) -> HubModel:
    name, repo, revision, threshold = line.split()
    return HubModel(
        name, repo, revision, None if threshold == "-" else float(threshold), label_file=CSV_FILE
    )


MODELS = {model.name: model for model in map(_parse, _TABLE.strip().splitlines())}
_BY_REPO = {model.repo: model for model in MODELS.values()}


def find(name: str) -> HubModel:
    """Return the model of a short name or of `owner/repo[@revision]`; a repository with a short
    name is pinned.

    Raises ConfigError for any other text, with the nearest name.
    """
    name = DEFAULT if name == WD14 else name
    if name in MODELS:
        return MODELS[name]
    match = _REPO.fullmatch(name)
    if match is None:
        otherwise = f"known: {', '.join(MODELS)}, or owner/repo@revision"
        hint = did_you_mean(name, MODELS, otherwise, cutoff=0.4)
        raise ConfigError(f"unknown model {name!r}", hint=hint)
    repo, folder, revision = match["repo"], match["folder"].strip("/"), match["revision"]
    named = _BY_REPO.get(repo)
    if named is not None and not folder and revision in (None, named.revision):
        return named
    return HubModel(name, repo, revision or "main", folder=folder)


def pin(model: HubModel) -> HubModel:
    """Return the model at a commit; a branch or tag is looked up in the cache, then on the hub."""
    if hub.COMMIT.fullmatch(model.revision):
        return model
    with _with_command(model):
        label_file = _label_file(model)
        commit = hub.commit(model.repo, model.file(label_file), model.revision)
    path = f"{model.repo}/{model.folder}" if model.folder else model.repo
    return replace(model, name=f"{path}@{commit}", revision=commit, label_file=label_file)


def cached(model: HubModel) -> ModelFiles | None:
    """Return the files of a model from the hub's cache, None unless both are there."""
    weights = hub.cached(model.repo, model.file(MODEL_FILE), model.revision)
    for name in [model.label_file] if model.label_file else KINDS:
        labels = hub.cached(model.repo, model.file(name), model.revision)
        if weights and labels:
            return ModelFiles(weights, labels)
    return None


def fetch(model: HubModel) -> ModelFiles:
    """Return the model's files, downloading those that are missing.

    Raises FetchError (exit 12) with the command that downloads them, StorageError if the disk is
    full.
    """
    with _with_command(model):
        # The label file first: it is small, and a repository without one does not have a tagger.
        labels = hub.fetch(model.repo, model.file(_label_file(model)), model.revision)
        weights = hub.fetch(model.repo, model.file(MODEL_FILE), model.revision)
    return ModelFiles(weights, labels)


@contextmanager
def _with_command(model: HubModel) -> Iterator[None]:
    """Add to a FetchError which tagger is missing, and the command that downloads it."""
    try:
        yield
    except hub.FetchError as error:
        raise hub.FetchError(
            f"the tagger {model.name} is not on this machine: {error.message}",
            hint=f"run `{model.command}` with a connection, or give a folder with {MODEL_FILE} and "
            "its label file as --model-dir",
        ) from error


def _label_file(model: HubModel) -> str:
    """Return the name of a model's label file: as it is known, or in the cache, or on the hub."""
    if model.label_file:
        return model.label_file
    for name in KINDS:
        if hub.cached(model.repo, model.file(name), model.revision) is not None:
            return name
    for name in KINDS:
        try:
            hub.fetch(model.repo, model.file(name), model.revision)
        except hub.FileNotInRepo:
            continue
        return name
    raise hub.FileNotInRepo(
        f"{model.repo} at {model.revision} has none of {', '.join(map(model.file, KINDS))}"
    )


def require_intact(model: HubModel, files: ModelFiles) -> None:
    """Raise ModelFileError unless both files have the hashes that the hub recorded."""
    for path in (files.labels, files.weights):
        if problem := hub.damage(path):
            hint = f"run `{model.command}`, which downloads damaged files again"
            raise ModelFileError(problem, hint=hint)


def list_models() -> tuple[ModelRow, ...]:
    """Return one row for each model with a short name, the default first."""
    each = ((model, cached(model)) for model in MODELS.values())
    return tuple(
        ModelRow(
            model.name,
            model.repo,
            model.revision,
            files is not None,
            files.weights if files else None,
        )
        for model, files in each
    )


def download(name: str, reporter: Reporter = SILENT) -> ModelFiles:
    """Download a model by name; files that are there are checked, and damaged ones downloaded
    again.

    Raises ConfigError for an unknown name, FetchError or StorageError if it cannot be downloaded,
    ModelFileError if the new file is damaged too.
    """
    model = pin(find(name))
    files = fetch(model)
    for path in (files.labels, files.weights):
        if problem := hub.damage(path):
            reporter.warn(f"{problem}; downloading it again")
            hub.fetch(model.repo, model.file(path.name), model.revision, again=True)
    require_intact(model, files)
    return files
