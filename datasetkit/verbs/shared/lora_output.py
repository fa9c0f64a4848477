"""How the commands of `dsk lora` write a file: streamed, whole or not at all, in the history."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from datasetkit.core.disk_sync import sync_folder
from datasetkit.core.errors import InputError, PlanConflict, StorageError
from datasetkit.core.files import (
    display,
    nearest_folder,
    patiently,
    require_writable,
    temp_name,
    writing,
)
from datasetkit.project.session import Project, RunContext, open_project
from datasetkit.project.store import Output
from trainer.lora_files import tensor_file
from trainer.lora_files.tensor_file import NewTensor


def require_new(out: Path, sources: Sequence[Path]) -> None:
    """Raise unless `out` can be a new file: InputError for another suffix or a source, PlanConflict
    for a file that exists.
    """
    if out.suffix.lower() != ".safetensors":
        raise InputError(
            f"{display(out)} is not called .safetensors", hint=f"--out {out.stem}.safetensors"
        )
    for source in sources:
        if _is_same(out, source):
            raise InputError(
                f"{display(out)} is the source, which is never replaced",
                hint="give another file with --out",
            )
    if os.path.lexists(out):
        raise PlanConflict(
            f"{display(out)} already exists", hint="give another file with --out, or move it away"
        )


def _is_same(first: Path, second: Path) -> bool:
    try:
        return first.samefile(second)
    except OSError:  # one does not exist, or its name is too long to exist
        return False


def write_output(
    out: Path,
    tensors: Sequence[NewTensor],
    metadata: Mapping[str, str],
    *,
    verb: str,
    source: Path,
    context: RunContext,
) -> int | None:
    """Write a safetensors file; return its number in the history, None in a dry run.

    The file is streamed into a temporary one beside `out`, which gets its name when it is whole and
    on the disk. Raises StorageError, PlanConflict, Locked.
    """
    with open_project(out.parent, context, create_folder=True) as project:
        size = tensor_file.file_size(tensors, metadata)
        folder = nearest_folder(out.parent)
        free = shutil.disk_usage(folder).free
        if size > free:
            raise StorageError(
                f"{display(out.name)} takes {size / 1e6:,.0f} MB, and {display(folder)} has "
                f"{free / 1e6:,.0f} MB free",
                hint="free some disk space, or give another folder with --out",
            )
        if context.dry_run:
            return None
        return _write(project, out, tensors, metadata, verb, source)


def _write(
    project: Project,
    out: Path,
    tensors: Sequence[NewTensor],
    metadata: Mapping[str, str],
    verb: str,
    source: Path,
) -> int | None:
    reporter = project.context.reporter
    with project.journal.recording(verb, display(out.name)) as recording:
        recording.make_folder(out.parent)
        require_writable(out.parent)
        output = Output(out, metadata.get("sshs_model_hash", ""), verb, source)
        project.store.put_pending([output])
        temporary = out.parent / temp_name()
        reporter.start("writing", len(tensors))
        try:
            with writing(out):
                with temporary.open("xb") as file:
                    tensor_file.write(file, tensors, metadata, reporter.advance)
                    file.flush()
                    os.fsync(file.fileno())
                require_new(out, ())  # it may have appeared meanwhile
                patiently(Path.replace, temporary, out)
                sync_folder(out.parent)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        finally:
            reporter.finish()
        recording.record(output)
        return recording.entry
