"""What a command that had nothing to do found, for the next one with the same options: as long as
no file that it reads has changed, it need not read one.

A result counts only while all of this is as it was:

- the options, the dsk.toml of each folder, and the version of dsk, which are the key of the result
- every entry of the folders: its name, size, inode, and times of modification and of change
- the store of the project: a command that records something else in it removes all results

No program can set a file's time of change. Two changes within one tick of the clock have the same
one, so a result of files that were changed that recently is not kept, nor one of files on a file
system without such a time.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import datasetkit
from datasetkit.captions.rules import Rule, RuleHits, RuleSet
from datasetkit.core.errors import DskError
from datasetkit.core.file_stamp import state_of
from datasetkit.core.files import PROJECT, config_path, find_root
from datasetkit.core.progress import SILENT, Reporter
from datasetkit.core.records import (
    Failed,
    LazyItems,
    LeftOut,
    Outcome,
    OutcomeCounts,
    RunReport,
    SkippedImages,
)
from datasetkit.dataset import layout
from datasetkit.images.folder_state import FolderState, state_of_folders
from datasetkit.options.toml import find
from datasetkit.options.train import TrainOptions
from datasetkit.project.session import Project
from datasetkit.project.store import STORE, Store, has_store
from datasetkit.verbs.shared.concept_folders import ConceptSet, of_config
from datasetkit.verbs.shared.packing import pack, unpack

T = TypeVar("T")
# A result with more than this is read from the files again.
_MOST_BYTES = 64_000_000
_MOST_NAMED = 1_000


@dataclass(frozen=True, slots=True)
class RunInputs:
    """All that the result of a run depends on. key: of what is not in the folders; folders: None
    where no result can be kept. files: that the result depends on besides, such as the tables that
    it wrote.
    """

    root: Path
    key: str
    folders: FolderState | None
    files: tuple[Path, ...] = ()

    def kept(self, kind: type[T]) -> T | None:
        """Return the result that a run kept, None if it had other inputs."""
        if self.folders is None:
            return None
        try:
            row = Store.kept_result(self.root, self.key) if has_store(self.root) else None
        except DskError:  # it is reported where the store is opened
            return None
        if row is None or row[0] != self._state(self.folders):
            return None
        try:
            return unpack(kind, row[1])
        except ValueError:
            return None

    def keep(self, store: Store, result: object) -> None:
        """Keep a result that the next run can use: that of a run that has nothing to do. Nothing is
        kept where a later change of a file might not be seen.
        """
        if self.folders is None or not self.folders.is_settled(self.root):
            return
        try:
            data = pack(result)
        except TypeError:
            return
        if len(data) <= _MOST_BYTES:
            store.put_kept_result(self.key, self._state(self.folders), data)

    def _state(self, folders: FolderState) -> str:
        digest = hashlib.blake2b(folders.digest.encode(), digest_size=16)
        for path in self.files:
            digest.update(_digest_of(path))
        return digest.hexdigest()


# Those of a run whose result is not kept.
NOT_KEPT = RunInputs(Path(), "", None)


def inputs_of(
    verb: str,
    root: Path,
    folders: Iterable[tuple[Path, bool]],
    options: object,
    *,
    files: Sequence[Path] = (),
    without: Path | None = None,
    reporter: Reporter = SILENT,
) -> RunInputs:
    """Return the inputs of a run of a verb, `NOT_KEPT` if a folder cannot be listed.

    root: of the project that keeps the result. folders: with whether their subfolders belong to
    them. options: all that the verb was called with. without: a folder that the verb writes.
    """
    folders = [(folder.resolve(), recursive) for folder, recursive in folders]
    reporter.phase("looking for changes")
    state = state_of_folders(folders, without=without)
    reporter.finish()
    if state is None:
        return NOT_KEPT
    configs = {path for folder, _ in folders if (path := config_path(folder)) is not None}
    roots = {find_root(folder) for folder, _ in folders} - {root}
    parts = (
        verb, datasetkit.__version__, _newest_source(), str(Path.cwd()), repr(options),
        repr(folders), *(_digest_of(path) for path in sorted(configs)),
        *(_stores(other) for other in sorted(roots)),
    )  # fmt: skip
    key = hashlib.blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=16)
    return RunInputs(root, key.hexdigest(), state, tuple(files))


def dataset_inputs(folder: Path, *, recursive: bool) -> tuple[object, list[tuple[Path, bool]]]:
    """Return what says which folders a dataset has, and these folders, as `find_sets` reads them:
    for `inputs_of`.
    """
    config = find(folder)
    tree, reg = layout.dataset_roots(folder)
    concepts = layout.read_tree(tree).concepts
    sets: list[ConceptSet] = []
    if config.concepts and config.root == folder.resolve():
        sets = [of_config(config, concept) for concept in config.concepts]
    outside = [concept.folder for concept in sets if concept.folder.is_dir()]
    outside += [reg] if reg.is_dir() else []
    return (tree, reg, concepts, sets), [
        (folder, recursive or bool(concepts)),
        *((path, True) for path in outside),
    ]


def state_of_base(train: TrainOptions) -> tuple[object, ...] | None:
    """Return the state of the base model, whose tokenizer counts tokens, and whether tokenizers can
    be read; None for a model of the hub.
    """
    states: list[str] = []
    for name in filter(None, (train.pretrained_model_name_or_path, train.base_folder)):
        path = Path(name)
        if path.is_file():
            states.append(state_of(path.stat()))
            continue
        state = state_of_folders([(path, True)]) if path.is_dir() else None
        if state is None:
            return None
        states.append(state.digest)
    return find_spec("transformers") is not None, *states


def is_idle(project: Project, entry: int | None, *, changed: bool) -> bool:
    """Tell whether a run had nothing to do, and has nothing to say that the next one has not."""
    return entry is None and not changed and not project.context.dry_run and not project.recovered


def _digest_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, hashlib.blake2b).digest()
    except OSError:
        return b"none"


def _stores(root: Path) -> list[tuple[int, ...]]:
    """Return the state of the store of another project, with what is not written into it yet."""
    states: list[tuple[int, ...]] = []
    for name in (STORE.name, f"{STORE.name}-wal"):
        try:
            info = (root / PROJECT / name).stat()
        except OSError:
            states.append(())
        else:
            states.append((info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino))
    return states


@functools.cache
def _newest_source() -> int:
    """Return when dsk's own code last changed: an installation from a repository keeps its
    version.
    """
    package = Path(datasetkit.__file__).parent
    sources = (*package.rglob("*.py"), *package.parent.joinpath("taggers").rglob("*.py"))
    return max(path.stat().st_mtime_ns for path in sources)


# ---- reports of images
# --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KeptReport:
    """A report of images without its outcomes, which are as many as the images."""

    stage: str
    done: int
    skipped: tuple[SkippedImages, ...]
    failed: tuple[Failed, ...]
    unused_files: tuple[LeftOut, ...]

    @classmethod
    def of(cls, report: RunReport[Any]) -> KeptReport | None:
        """Return what is kept of a report; None if too much of it is about single images."""
        counts = report.counts
        if len(counts.failed) + len(report.unused_files) > _MOST_NAMED:
            return None
        return cls(report.stage, counts.done, counts.skipped, counts.failed, report.unused_files)

    def report(self, outcomes: Callable[[], Sequence[Outcome[T]]]) -> RunReport[T]:
        """Return the report. outcomes: reads the images, once somebody wants to see one."""
        counts = OutcomeCounts(self.done, self.skipped, self.failed)
        return RunReport(self.stage, LazyItems(outcomes, counts.images), self.unused_files, counts)


# ---- the hits of rules
# --------------------------------------------------------------------------------------------------


# The hits of a rule as they are kept: the rule as text, the captions, the warning.
KeptHits = tuple[str, int, str | None]


def kept_hits(hits: Iterable[RuleHits]) -> tuple[KeptHits, ...]:
    """Return what is kept of the hits of rules."""
    return tuple((str(hit.rule), hit.captions, hit.warning) for hit in hits)


def hits_of(kept: Iterable[KeptHits], rules: RuleSet) -> tuple[RuleHits, ...]:
    """Return the hits of rules from what is kept of them."""
    exclude = (exclusion for exclusion, _ in rules.exclude)
    every: tuple[Rule, ...] = (*rules.leading, *rules.replace, *exclude, *rules.implies)
    by_text = {str(rule): rule for rule in every}
    return tuple(RuleHits(by_text[text], captions, warning) for text, captions, warning in kept)
