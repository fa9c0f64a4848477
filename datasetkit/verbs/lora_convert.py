"""`dsk lora convert`: give a LoRA the keys of kohya's or of diffusers' files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import trainer.lora_files.convert as converting
from datasetkit.options.lora import LoraConvertOptions
from datasetkit.project.session import DEFAULT_CONTEXT, RunContext
from datasetkit.verbs.shared.lora_output import require_new, write_output
from datasetkit.verbs.shared.paths import AnyPath
from trainer.lora_files import lora_file, new_lora, tensor_file


@dataclass(frozen=True, slots=True)
class LoraConvertResult:
    """What was converted. alphas_added: layers without alpha in the source, which counted as the
    rank.
    """

    source: Path
    out: Path
    family: str
    source_format: str
    format: str
    layers: int
    alphas_added: int
    size: int
    entry: int | None


def lora_convert(
    file: AnyPath, options: LoraConvertOptions, context: RunContext = DEFAULT_CONTEXT
) -> LoraConvertResult:
    """Write a LoRA under other keys.

    Raises InputError for a file that the format cannot hold, ModelFileError for another file.
    """
    file = Path(file)
    lora = lora_file.read(file)
    out = (
        Path(options.out)
        if options.out
        else file.with_name(f"{file.stem}-{options.to}.safetensors")
    )
    require_new(out, [file])
    converted = converting.convert(lora, options.to)
    dtype = new_lora.output_dtype(options.precision, lora.dtype, file)
    tensors, header = new_lora.finished(converted.layers, (), converted.metadata, options.to, dtype)
    entry = write_output(out, tensors, header, verb="lora convert", source=file, context=context)
    added = sum(layer.alpha is None for layer in lora.layers)
    return LoraConvertResult(
        file, out, lora.family_title, lora.format, options.to, len(lora.layers), added,
        tensor_file.file_size(tensors, header), entry,
    )  # fmt: skip
