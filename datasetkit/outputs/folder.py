"""The output folder of a verb, and the scan of the images that go into it."""

from __future__ import annotations

import shlex
from pathlib import Path

from datasetkit.captions.caption_names import misnamed_captions, misnamed_warnings
from datasetkit.core.errors import InputError
from datasetkit.core.files import display, fold, nearest_folder, refuse_link, require_writable
from datasetkit.dataset.layout import laid_out_root, outside_of
from datasetkit.dataset.naming import require_names
from datasetkit.images.listing import same_names
from datasetkit.images.pixels import WRITERS
from datasetkit.images.scan import Scan, require_an_image, scan
from datasetkit.options.scan import ScanOptions
from datasetkit.outputs.visible import require_visible
from datasetkit.project.session import Project, RunContext, recover_projects

# How many pairs of images with one name a warning has.
_NAMED = 3


def prepare_output_folder(
    folder: Path,
    out: Path | None,
    suffix: str,
    options: ScanOptions,
    context: RunContext,
    *,
    hint: str = "name another folder",
) -> Path:
    """Return the output folder, by default a sibling `<folder>-<suffix>`; finish what was cut short
    in `folder`.

    Raises InputError for `folder` itself, for a link, and for a default in a laid-out dataset;
    DatasetError without images, StorageError where nothing can be written, ClusterError where the
    workers of a cluster do not see the folders.
    """
    recover_projects([folder], context, recursive=options.recursive)
    out = out or _default_output(folder.absolute(), suffix)
    if out.resolve() == folder.resolve():
        raise InputError(f"{display(out)} is the input folder itself", hint=hint)
    refuse_link(out)
    require_names(out)
    recover_projects([out], context)
    if not context.dry_run:
        require_an_image(folder, recursive=options.recursive, follow_links=options.follow_links)
        require_writable(nearest_folder(out))
    require_visible(folder, options, context, () if context.dry_run else (nearest_folder(out),))
    return out


def _default_output(folder: Path, suffix: str) -> Path:
    """Return the sibling `<folder>-<suffix>`. Raises InputError in a laid-out dataset, where it
    would be trained too.
    """
    if folder.name == "..":
        folder = folder.resolve()
    out = folder.with_name(f"{folder.name}-{suffix}")
    root = laid_out_root(out)
    if root is not None:
        outside = outside_of(folder, root, suffix)
        raise InputError(
            f"{display(out.name)} would lie in {display(root)}, and trainers would train it too",
            hint=f"name the output folder after the input: {_typed(folder)} {_typed(outside)}",
        )
    return out


def _typed(path: Path) -> str:
    """Return a path as one would type it in the current folder."""
    here = Path.cwd()
    return shlex.quote(display(path.relative_to(here) if path.is_relative_to(here) else path))


def scan_images(folder: Path, project: Project, options: ScanOptions) -> Scan:
    """Scan the images that outputs are made of, with their hashes, without captions."""
    scanned = scan(
        folder,
        project.store,
        recursive=options.recursive,
        follow_links=options.follow_links,
        max_pixels=options.max_pixels,
        with_ids=True,
        captions=False,
        unique_on="",
        reporter=project.context.reporter,
    )
    if shared := same_names(scanned.paths):
        pairs = [f"{a.name} and {b.name}" for a, b in shared.items()]
        more = f" and {len(pairs) - _NAMED} more" if len(pairs) > _NAMED else ""
        project.context.reporter.warn(
            f"images of one name, which share a caption: {', '.join(pairs[:_NAMED])}{more}; dsk "
            "rename makes the names unique"
        )
    for warning in misnamed_warnings(misnamed_captions(scanned.paths)):
        project.context.reporter.warn(warning)
    return scanned


def unique_name(path: Path, taken: set[str]) -> Path:
    """Return the path of an output, with `_2`, `_3` behind the stem where an earlier output has
    that name: a stem has one caption. taken: the names so far, folded; the new one is added.

    `a` and `A` are one name: the disk of the outputs, or one that they are copied to, may ignore
    case.
    """
    name, n = path, 1
    while (key := fold(str(name.with_suffix("")))) in taken:
        n += 1
        name = path.with_name(f"{path.stem}_{n}{path.suffix}")
    taken.add(key)
    return name


def kept_suffix(path: Path) -> str:
    """Return the suffix of an image if it can be written; other formats become PNG, which loses
    nothing.
    """
    suffix = path.suffix.lower()
    return suffix if suffix in WRITERS else ".png"
