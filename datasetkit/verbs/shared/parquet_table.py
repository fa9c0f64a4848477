"""Images and captions in Parquet files, as the `datasets` library reads them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from datasetkit.core.errors import MissingExtra
from datasetkit.core.files import reading
from datasetkit.core.install import package_command
from datasetkit.dataset.exports import ImageText

# The bytes of images in one file, and the rows that are held in memory.
_SHARD_BYTES: Final = 500_000_000
_ROWS: Final = 100


def write(images: tuple[ImageText, ...], folder: Path) -> Iterator[Path]:
    """Write the images and their captions as tables that the `datasets` library reads."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra(
            "a Parquet table needs the package pyarrow", hint=package_command("pyarrow")
        ) from error
    features = {
        "image": {"_type": "Image"},
        "text": {"dtype": "string", "_type": "Value"},
    }
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    schema = pyarrow.schema([("image", kind), ("text", pyarrow.string())]).with_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    for n, shard in enumerate(_shards(images)):
        path = folder / f"{n}.parquet"
        with pyarrow.parquet.ParquetWriter(path, schema) as writer:
            for start in range(0, len(shard), _ROWS):
                rows = [_row(image) for image in shard[start : start + _ROWS]]
                writer.write_table(pyarrow.Table.from_pylist(rows, schema))
        yield path


def _row(item: ImageText) -> dict[str, Any]:
    with reading(item.image):
        data = item.image.read_bytes()
    return {"image": {"bytes": data, "path": item.image.name}, "text": item.caption.text()}


def _shards(images: tuple[ImageText, ...]) -> Iterator[list[ImageText]]:
    shard: list[ImageText] = []
    size = 0
    for item in images:
        size += item.image.stat().st_size
        if shard and size > _SHARD_BYTES:
            yield shard
            shard, size = [], item.image.stat().st_size
        shard.append(item)
    if shard:
        yield shard
