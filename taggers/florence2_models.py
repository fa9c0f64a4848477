"""The Florence-2 models with a short name (by Microsoft, MIT; ONNX graphs by onnx-community), the
sha256 of their files, and how these are downloaded.

A revision pins the small files. The hashes pin the graphs, also where a revision is a branch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from datasetkit import hub
from datasetkit.core.errors import ConfigError, ModelFileError
from datasetkit.core.files import display, file_sha256
from datasetkit.core.progress import SILENT, Reporter
from datasetkit.core.suggest import did_you_mean

VISION: Final = "onnx/vision_encoder.onnx"
EMBED: Final = "onnx/embed_tokens.onnx"
ENCODER: Final = "onnx/encoder_model.onnx"
DECODER: Final = "onnx/decoder_model_merged.onnx"
TOKENIZER: Final = "tokenizer.json"
PREPROCESSOR: Final = "preprocessor_config.json"
# The small ones first: a repository without them does not have a Florence-2.
FILES: Final = (PREPROCESSOR, TOKENIZER, EMBED, ENCODER, VISION, DECODER)
DEFAULT_NAME: Final = "florence2"
_TOKENIZER_SHA256: Final = "d69dcdb2323e124ac4f800cb9863ddccea0d7bb11e16125e8df3bd60f2f8aeac"

# Name, repository, revision; then the sha256 of vision encoder, embeddings, encoder and decoder.
_TABLE: Final = """
florence2-base     onnx-community/Florence-2-base     d59e079711c57174f29265539fb4cc9f0f335916
  2c7464fce495ea43b415b48afe7dbe84a9ebbe0cfe3c31fdd81c6dd66b39ff75
  fec0fd20276af861afb6a23a11544bf1378c05e2a41001b610cc281e244c4b20
  b155b5a0e56a4244c62060751bb1b70dfe481015d0dbfa6d19b1912d9e58da0d
  6d6e1266d7f94f5d4ec9cc07d9c1f7b3e47049c9b0de7bbe82a91e62dfd152af
florence2-large    onnx-community/Florence-2-large    main
  3579b2a9fe0e73d80a6e6152c610c80fed3739bc9e386145740ac41a0ac0dc05
  af0a7ec8918e556c4f3b7931271b8cf882db2024e2b777955daa053ee6a881b3
  3046c1c8abee3c1d5ed667db738035a4abbe2793c5298683a8ccf1d6db5f4170
  b8cc87fea29465237fc9980ee9cf4ef5c6a3e197d78ae6fd1e0b31c20bf7fd80
florence2-base-ft  onnx-community/Florence-2-base-ft  e88a44eaf3791a35eae0c5a47b3dbcd36e67eb6f
  d67258cdfdebfa21285dad9e7bd4bd99725236d0aaef9e474a1b24a6ec471351
  90cae3deb6406938c676a35b5246db02b478c9cc8cf93508361be80c05babf95
  cb0bccc232c64290397f5e1235eb3e1fa6ccf8c5afed9216480ee4eed80737fc
  5207affad8815294233b8679ee9ecb614906f819a1890d95a01b9ca68c392a79
florence2-large-ft onnx-community/Florence-2-large-ft main
  cbe2b9e3bfd5f00f9c135c3c48e4e8a2ad2b35651309d213dbf0803cc862d491
  8497716365d7636307b334a665b0fe3482c9dfc3cc3e31c1d110c25ec183e31d
  f4622b5203e353c0e660f8d2ccd50a1179a092cd2408b208bc9539f1572a321d
  a35016ed99f4260f584bdef0602617cf344dafe8d72631d2a7e5933f105f4ea6
"""
_PART = r"[\w-][\w.-]*"
_REPO = re.compile(rf"(?P<repo>{_PART}/{_PART})(@(?P<revision>{_PART}))?", re.ASCII)
# Owners whose Florence-2 repositories have no graphs: Microsoft's run code of the repository.
_WITHOUT_GRAPHS = {
    "microsoft": "is made to be run by code of its repository, which dsk does not run",
    "florence-community": "has weights for PyTorch and no ONNX graphs",
    "multimodalart": "is made to be run by code of its repository, which dsk does not run",
    "miaoshouai": "is made to be run by code of its repository, which dsk does not run",
}


@dataclass(frozen=True, slots=True)
class Florence2Model:
    """A model on the hub. sha256: of its files, by name; empty for one that is named by its
    repository, whose files are checked against the hub's own hashes.
    """

    name: str
    repo: str
    revision: str
    sha256: Mapping[str, str] = field(default_factory=dict)

    @property
    def command(self) -> str:
        """The command that downloads this model."""
        return f"dsk models download {self.name}"

    @property
    def content(self) -> str:
        """What stands for the content of its files in the identity: their hashes, or the commit."""
        return "-".join(h[:12] for h in self.sha256.values()) or self.revision


Files = Mapping[str, Path]


def _parse(table: str) -> Iterator[Florence2Model]:
    lines = iter(table.strip().splitlines())
    for line in lines:
        name, repo, revision = line.split()
        hashes = {file: next(lines).strip() for file in (VISION, EMBED, ENCODER, DECODER)}
        yield Florence2Model(name, repo, revision, {TOKENIZER: _TOKENIZER_SHA256, **hashes})


MODELS: Final = {model.name: model for model in _parse(_TABLE)}


def find(name: str) -> Florence2Model:
    """Return the model of a short name or of `owner/repo[@revision]`.

    Raises ConfigError for any other text, and for a repository that is known to have no graphs.
    """
    if name == DEFAULT_NAME:
        return next(iter(MODELS.values()))
    if name in MODELS:
        return MODELS[name]
    match = _REPO.fullmatch(name)
    if match is None:
        hint = did_you_mean(name, MODELS, f"known: {', '.join(MODELS)}", cutoff=0.4)
        raise ConfigError(f"unknown model {name!r}", hint=hint)
    repo = match["repo"]
    problem = _WITHOUT_GRAPHS.get(repo.partition("/")[0].lower())
    if problem:
        near = "large" if "large" in repo.lower() else "base"
        raise ConfigError(
            f"{display(repo)} {problem}",
            hint=f"--engine florence2-{near} is the same model as ONNX graphs; other models run in "
            "a server: --engine server",
        )
    pinned = next((m for m in MODELS.values() if m.repo == repo), None)
    if pinned is not None and match["revision"] in (None, pinned.revision):
        return pinned
    return Florence2Model(name, repo, match["revision"] or "main")


def pin(model: Florence2Model) -> Florence2Model:
    """Return a model that is named by its repository at a commit: a branch is looked up in the
    cache, then on the hub.
    """
    if model.sha256 or hub.COMMIT.fullmatch(model.revision):
        return model
    with _with_command(model):
        commit = hub.commit(model.repo, PREPROCESSOR, model.revision)
    return replace(model, name=f"{model.repo}@{commit}", revision=commit)


def cached(model: Florence2Model) -> Files | None:
    """Return the files of a model from the hub's cache, None unless all are there."""
    files = {name: hub.cached(model.repo, name, model.revision) for name in FILES}
    return {n: p for n, p in files.items() if p is not None} if all(files.values()) else None


def fetch(model: Florence2Model, *, again: bool = False) -> Files:
    """Return the model's files, downloading those that are missing; with `again` also those that
    are damaged.

    Raises FetchError (exit 12) with the command that downloads them, StorageError if the disk is
    full.
    """
    files: dict[str, Path] = {}
    with _with_command(model):
        for name in FILES:
            files[name] = hub.fetch(model.repo, name, model.revision)
            if again and damage(model, name, files[name]):
                files[name] = hub.fetch(model.repo, name, model.revision, again=True)
    return files


def damage(model: Florence2Model, name: str, path: Path) -> str:
    """Return what is wrong with a file of a model, "" if it is the one that was pinned."""
    if name not in model.sha256:
        return hub.damage(path)
    if file_sha256(path) == model.sha256[name]:
        return ""
    return f"{display(path)} is not the {name} of {model.name}: its sha256 differs"


def require_intact(model: Florence2Model, files: Files) -> None:
    """Raise ModelFileError unless all files are those that were pinned."""
    for name, path in files.items():
        if problem := damage(model, name, path):
            hint = f"run `{model.command}`, which downloads damaged files again"
            raise ModelFileError(problem, hint=hint)


def download(name: str, reporter: Reporter = SILENT) -> Files:
    """Download a model by name; files that are there are checked, and damaged ones downloaded
    again.
    """
    model = pin(find(name))
    files = fetch(model)
    for file, path in files.items():
        if problem := damage(model, file, path):
            reporter.warn(f"{problem}; downloading it again")
    files = fetch(model, again=True)
    require_intact(model, files)
    return files


def in_folder(folder: Path) -> Files:
    """Return the files of a model in a folder, the graphs in it or in its `onnx/`.

    Raises ModelFileError for one that is missing.
    """
    files: dict[str, Path] = {}
    for name in FILES:
        path = folder / name
        flat = folder / Path(name).name
        if not path.is_file() and not flat.is_file():
            raise ModelFileError(
                f"{display(path)} is missing",
                hint=f"--model-dir needs {', '.join(Path(file).name for file in FILES)}",
            )
        files[name] = path if path.is_file() else flat
    return files


@contextmanager
def _with_command(model: Florence2Model) -> Iterator[None]:
    """Add to a FetchError which model is missing, and the command that downloads it."""
    try:
        yield
    except hub.FetchError as error:
        raise hub.FetchError(
            f"the model {model.name} is not on this machine: {error.message}",
            hint=f"run `{model.command}` with a connection, or give a folder with its files as "
            "--model-dir",
        ) from error
