"""The studio session: what one server holds, for `dsk studio` and `dsk review`."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, RLock, Thread
from typing import Any, Final, Literal

from datasetkit import __version__
from datasetkit.core.errors import DskError
from datasetkit.core.files import find_root
from datasetkit.options.review import ReviewOptions
from datasetkit.project import job_runner
from datasetkit.project.session import RunContext
from datasetkit.verbs.review import views
from datasetkit.verbs.review.session import ReviewSession, open_session
from datasetkit.verbs.shared.concept_folders import find_sets
from datasetkit.verbs.studio import uploads
from datasetkit.verbs.studio.dry_runs import DryRuns
from datasetkit.verbs.studio.grid_files import GridFinder
from datasetkit.verbs.studio.images import ImageIndex
from datasetkit.verbs.studio.prepare_preview import PreparePreview
from datasetkit.verbs.studio.roots import Roots
from datasetkit.verbs.studio.run_files import RunFinder

Tab = Literal["images", "captions"]
QUEUE_SECONDS: Final = 5.0
# The tab that a command opens first.
TABS: Final[dict[str, Tab]] = {"studio": "images", "review": "captions"}


class CaptionsSession:
    """The dataset whose captions are edited. It is loaded when it is first needed, so the studio
    also runs on a folder without images.
    """

    def __init__(self, folder: Path, options: ReviewOptions, context: RunContext) -> None:
        self.folder, self.options, self.context = folder, options, context
        self._lock = RLock()
        self._opened: tuple[ReviewSession, ExitStack] | None = None
        self._images_at = (0, 0)
        self._images_version = ""

    @property
    def loaded(self) -> ReviewSession | None:
        """The dataset if it is loaded; never loads it."""
        opened = self._opened
        return None if opened is None else opened[0]

    def get(self) -> ReviewSession:
        """Return the dataset; load it if it is not loaded. Raises DatasetError without images,
        Locked while another command works in the project.
        """
        with self._lock:
            if self._opened is None:
                # Before anything is written: a folder without images gets no .dsk.
                find_sets(self.folder, recursive=self.options.recursive)
                stack = ExitStack()
                session = stack.enter_context(open_session(self.folder, self.options, self.context))
                self._opened = session, stack
            return self._opened[0]

    def images_version(self) -> str:
        """Return what changes when an image is added, removed or replaced; "" if the dataset is
        not loaded.
        """
        session = self.loaded
        if session is None:
            return ""
        dataset = session.dataset
        with dataset.lock:
            if self._images_at != (id(dataset), dataset.version):
                digest = hashlib.sha256()
                for image in dataset.all():
                    line = f"{image.path}\0{image.stamp.key()}\n"
                    digest.update(line.encode("utf-8", "surrogatepass"))
                self._images_at = id(dataset), dataset.version
                self._images_version = digest.hexdigest()[:16]
            return self._images_version

    def close(self) -> None:
        """Stop the threads of the dataset. The next `get` loads it again."""
        with self._lock:
            opened, self._opened = self._opened, None
        if opened is not None:
            opened[1].close()


@dataclass(frozen=True, slots=True)
class StudioSession:
    """One project in the studio. command: `studio` or `review`; root: the folder of the project;
    token: what the page sends with each request that changes something; started: in UTC;
    roots: the folders that the page may use; stopping: set when the server is asked to end.
    """

    command: str
    folder: Path
    root: Path
    options: ReviewOptions
    context: RunContext
    captions: CaptionsSession
    token: str = field(repr=False)
    started: datetime
    roots: Roots
    dry_runs: DryRuns = field(default_factory=DryRuns, repr=False)
    preview: PreparePreview = field(default_factory=PreparePreview, repr=False)
    runs: RunFinder = field(default_factory=RunFinder, repr=False)
    stopping: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    images: ImageIndex = field(default_factory=ImageIndex, repr=False)
    grids: GridFinder = field(default_factory=GridFinder, repr=False)

    @property
    def tab(self) -> Tab:
        """The tab that is opened first."""
        return TABS[self.command]

    @property
    def read_only(self) -> bool:
        return self.options.read_only

    def shown(self, path: Path) -> str:
        """Return a path as it is seen from the project."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)


@contextmanager
def open_studio(
    command: str, folder: Path, options: ReviewOptions, context: RunContext, token: str
) -> Iterator[StudioSession]:
    """Open the session of a server. command: `studio`, or `review`, which needs images.

    Raises for `review` what loading a dataset raises.
    """
    captions = CaptionsSession(folder, options, context)
    session = StudioSession(
        command,
        folder.resolve(),
        find_root(folder),
        options,
        context,
        captions,
        token,
        datetime.now(UTC),
        Roots.of(folder, options),
    )
    if command == "review":
        captions.get()
    else:
        with suppress(DskError):  # the page shows why
            captions.get()
    if not options.read_only:
        with suppress(OSError):
            uploads.remove_abandoned(session.root)
    closing = Event()
    runners = Thread(target=_start_runners, args=(closing,), name="dsk-queue", daemon=True)
    if not options.read_only:
        runners.start()
    try:
        yield session
    finally:
        closing.set()
        session.dry_runs.stop()
        session.preview.stop()
        captions.close()


def _start_runners(closing: Event) -> None:
    """See to it that there is a runner for what waits: one that is killed with the job that it is
    about to start leaves nobody who would.
    """
    while True:
        job_runner.start_waiting()
        if closing.wait(QUEUE_SECONDS):
            return


def info(session: StudioSession) -> dict[str, Any]:
    """Return what the page needs before anything else.

    captions_problem: why the dataset could not be loaded, {"error", "hint"}; None where it was, and
    then the values of `views.session` are there too.
    """
    shell = {
        "token": session.token,
        "dsk": __version__,
        "command": session.command,
        "tab": session.tab,
        "name": session.folder.name,
        "folder": str(session.folder),
        "root": str(session.root),
        "read_only": session.read_only,
        "started": session.started.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "roots": [str(folder) for folder in session.roots.folders],
    }
    try:
        captions = session.captions.get()
    except DskError as error:
        problem = {"error": error.message, "hint": error.hint}
        return {**shell, "version": 0, "images": 0, "captioned": 0, "captions_problem": problem}
    dataset = views.session(captions.dataset, captions.editor, captions.tables.translations)
    return {**shell, **dataset, "captions_problem": None}
