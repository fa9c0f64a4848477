"""Open the review page in a browser, with no link among the arguments of its process, which every
user of the machine can list.
"""

from __future__ import annotations

import html
import os
import secrets
import tempfile
import time
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from datasetkit.core.files import write_new
from datasetkit.project.signature import state_folder
from datasetkit.verbs.review import RunningServer

_PREFIX, _SUFFIX = "review-", ".html"
# Seconds after which a file that a killed run left is removed; its link leads nowhere.
_STALE = 3600
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0; url={url}">
<title>datasetkit review</title>
<p><a href="{url}">Open the review page</a></p>
</html>
"""


@contextmanager
def opened_in_browser(server: RunningServer) -> Iterator[bool]:
    """Open a file that only this user can read and that leads to the page; yield whether a browser
    was started. The file is removed when its link was used, or at the end.
    """
    files: list[Path] = []

    def remove() -> None:
        for path in files:
            with suppress(OSError):
                path.unlink()

    url = html.escape(server.link(remove))
    try:
        files.append(_private_file(_PAGE.format(url=url).encode()))
        yield webbrowser.open(files[0].as_uri())
    finally:
        remove()


def _private_file(data: bytes) -> Path:
    """Write a new file that only this user can read, and remove those of killed runs. Raises
    OSError.
    """
    folder = state_folder()
    if folder is not None:
        path = folder / f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder.chmod(0o700)
            _remove_stale(folder)
            write_new(path, data, sync=False, mode=0o600)
            return path
    descriptor, name = tempfile.mkstemp(_SUFFIX, f"dsk-{_PREFIX}")  # 0600 too
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    return Path(name)


def _remove_stale(folder: Path) -> None:
    for path in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        with suppress(OSError):
            if path.stat().st_mtime < time.time() - _STALE:
                path.unlink()
