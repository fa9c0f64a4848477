"""The folders that the page may use: the project, those of `--root`, and on this machine the home
folder. A path from the page counts only if it lies in one of them once all links are resolved.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from datasetkit.core.errors import InputError
from datasetkit.core.files import display, find_root, is_readable_name
from datasetkit.options.review import ReviewOptions
from datasetkit.verbs.studio.errors import NotAllowed

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_LONGEST: Final = 4096  # characters of a path
# No folder of results is ever below one of these.
_SYSTEM: Final = tuple(
    Path(name)
    for name in ("/bin", "/boot", "/dev", "/etc", "/lib", "/proc", "/sbin", "/sys", "/usr", "/var")
)


@dataclass(frozen=True, slots=True)
class Roots:
    """The folders that the page may use. project: from which relative paths are seen."""

    project: Path
    folders: tuple[Path, ...]

    @classmethod
    def of(cls, folder: Path, options: ReviewOptions) -> Roots:
        """Return the roots of a server. Raises InputError for a `--root` that is not a folder."""
        folders = [find_root(folder), folder]
        for name in options.root:
            path = Path(name).expanduser()
            if not path.is_dir():
                raise InputError(
                    f"--root {display(name)} is not a folder", hint="name one that exists"
                )
            folders.append(path)
        if options.host in LOOPBACK:
            folders.append(_home())
        resolved = dict.fromkeys(path.resolve() for path in folders)
        return cls(find_root(folder).resolve(), tuple(resolved))

    def path(self, written: str, what: str = "the path") -> Path:
        """Return the absolute path of a text from the page, with all links resolved. what: names
        it in errors. Raises NotAllowed outside of the roots, InputError for what is not a path.
        """
        if "\0" in written or len(written) > _LONGEST or not is_readable_name(written):
            raise InputError(f"{what} is not a path: {display(written[:200])}")
        try:
            path = (self.project / Path(written).expanduser()).resolve()
        except (OSError, RuntimeError, ValueError):
            raise InputError(f"{what} {display(written[:200])} cannot be followed") from None
        if any(path.is_relative_to(folder) for folder in self.folders):
            return path
        raise NotAllowed(
            f"{what} {display(written)} is outside of the folders that this page may use",
            hint=f"start it with: dsk studio --root {display(path.parent)}",
        )

    def output(self, written: str, what: str = "the path") -> Path:
        """Return the path of something that is written. Raises as `path`, and NotAllowed for a
        folder of a repository or of the system.
        """
        path = self.path(written, what)
        if ".git" in path.parts or (path / ".git").exists():
            raise NotAllowed(
                f"{what} {display(written)} is the folder of a repository",
                hint="name a folder of its own in it",
            )
        if any(path.is_relative_to(folder) for folder in _SYSTEM) and not self._is_own(path):
            raise NotAllowed(f"{what} {display(written)} is a folder of the system")
        return path

    def _is_own(self, path: Path) -> bool:
        return path.is_relative_to(self.project)


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # the user has no home folder
        return Path.cwd()
