"""The prompts of preview images, from a text file in sd-scripts' format with one prompt per
line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from datasetkit.captions.tokens import TokenLimit
from datasetkit.core.errors import ConfigError, ModelFileError
from datasetkit.core.files import display
from datasetkit.core.ranges import in_range, one_of
from datasetkit.core.suggest import nearest
from datasetkit.options.train import SAMPLERS, TrainOptions
from trainer.families import registry, source
from trainer.families.detect import detect

_LARGEST: Final = 4096  # pixels of a side
_MOST: Final = 256  # prompts; all their images are in memory at once
_LATENT_PIXEL: Final = 8  # image pixels per latent pixel

_USUAL_GUIDANCE: Final = 7.5  # of diffusion models


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One preview image. width, height: pixels; guidance: at 1 and below the negative prompt is
    ignored.
    """

    text: str
    negative: str = ""
    width: int
    height: int
    seed: int
    guidance: float = _USUAL_GUIDANCE
    steps: int = 30
    sampler: str

    def __post_init__(self) -> None:
        for name, side in (("--w", self.width), ("--h", self.height)):
            in_range(name, side, 8 * _LATENT_PIXEL, _LARGEST)
            if side % _LATENT_PIXEL:
                raise ConfigError(
                    f"{name} {side} is not a multiple of {_LATENT_PIXEL}",
                    hint=f"give {side // _LATENT_PIXEL * _LATENT_PIXEL}",
                )
        in_range("--d", self.seed, 0, 2**63 - 1)
        in_range("--l", self.guidance, 0, 100)
        in_range("--s", self.steps, 1, 1000)
        one_of("--ss", self.sampler, *SAMPLERS)


# sd-scripts' flag -> field of Prompt and parser of its value.
_FLAGS: Final[Mapping[str, tuple[str, Callable[[str], Any]]]] = {
    "n": ("negative", str),
    "w": ("width", int),
    "h": ("height", int),
    "d": ("seed", int),
    "l": ("guidance", float),
    "s": ("steps", int),
    "ss": ("sampler", str.lower),
}


# Numbers to show where a value has none.
_EXAMPLES: Final[Mapping[str, str]] = {"w": "512", "h": "512", "d": "1", "l": "7.5", "s": "30"}
# A flag with its value in one word.
_JOINED: Final = re.compile(r"(ss|n|[whdls])(?:=|:|(?=[+-]?\d))(.+)")
# A flag behind a word without a space, behind one dash or long dashes, or apart from its dashes.
_MISSPELT: Final = re.compile(
    r"(?:(?<=\S)--|(?:^|(?<=\s))--\s+|(?:^|(?<=\s))-(?=[whdls]\s)|[\u2010-\u2015\u2212]+-?)"
    r"(?P<flag>ss|n|[whdls](?=\s+[+-]?\d))\s+(?P<value>\S+)"
)


# Those that an editor shows: text that was copied from a page may have U+2028 within a line.
_LINE_ENDS: Final = re.compile(r"\r\n|\r|\n")
_OTHER_SPACE: Final = re.compile(r"[^\S ]")
# At the start of a value, with no other number behind it in the same word.
_NUMBER: Final = re.compile(r"[+-]?\d+(?:[.,]\d+)?(?:e[+-]?\d+)?(?![\w.,]*\d)", re.IGNORECASE)
_LONGEST_NUMBER: Final = 40


def read(options: TrainOptions) -> tuple[Prompt, ...]:
    """Read the file of sample_prompts; () without one. Raises ConfigError with the line number.

    Defaults: the size is the training resolution, and the seed is the run's seed plus the prompt's
    index, so that a prompt's images differ only by the training.
    """
    if not options.sample_prompts:
        return ()
    return read_file(Path(options.sample_prompts), options)


def read_file(
    path: Path, options: TrainOptions, name: str = "sample_prompts"
) -> tuple[Prompt, ...]:
    """Read a file of prompts, as `read` does. name: the option that names it."""
    if path.suffix.lower() in (".toml", ".json"):
        raise ConfigError(
            f"{name} = {display(path)} is not a text file", hint="write one prompt per line"
        )
    lines = [(n, line.strip()) for n, line in enumerate(_LINE_ENDS.split(_text(path, name)), 1)]
    prompt_lines = [(n, line) for n, line in lines if line and not line.startswith("#")]
    if not prompt_lines:
        raise ConfigError(
            f"{display(path)} has no prompt", hint="write one per line; # starts a comment"
        )
    if len(prompt_lines) > _MOST:
        raise ConfigError(
            f"{display(path)} has {len(prompt_lines):,} prompts; at most {_MOST} are taken",
            hint="name a file with a few: the run generates an image of each, again and again",
        )
    where = [f"{display(path.name)}, line {number}" for number, _ in prompt_lines]
    return of_lines([line for _, line in prompt_lines], options, where)


def of_lines(
    lines: Sequence[str], options: TrainOptions, where: Sequence[str]
) -> tuple[Prompt, ...]:
    """Return the prompts of lines, with the defaults of `read`. where: each line is, for errors.
    Raises ConfigError.
    """
    width, height = (
        side // _LATENT_PIXEL * _LATENT_PIXEL for side in options.bucket_rules().resolution
    )
    guidance = _guidance(options)
    prompts = []
    for index, (line, line_name) in enumerate(zip(lines, where, strict=True)):
        defaults: dict[str, Any] = {
            "guidance": guidance,
            "width": width, "height": height, "seed": (options.seed + index) % 2**63,
            "sampler": options.sample_sampler,
        }  # fmt: skip
        try:
            prompts.append(Prompt(**{**defaults, **parse(line)}))
        except ConfigError as error:
            raise ConfigError(f"{line_name}: {error.message}", hint=error.hint) from None
    return tuple(prompts)


def _guidance(options: TrainOptions) -> float:
    """Return the guidance of a prompt that says none: what is usual for the base model's family."""
    base = source.local(options.pretrained_model_name_or_path, options.revision)
    flow = None
    if base is not None:
        with suppress(ModelFileError):
            flow = registry.family(detect(base).family).FLOW
    return _USUAL_GUIDANCE if flow is None else flow.guidance


def too_long(prompts: Sequence[Prompt], limit: TokenLimit) -> list[str]:
    """Return a line for each prompt with more tokens than the text encoder reads."""
    lines = []
    for number, prompt in enumerate(prompts, 1):
        for text in (prompt.text, prompt.negative):
            if (length := limit.count(text)) > limit.limit:
                lines.append(
                    f"prompt {number} has {length} tokens, only the first {limit.limit} are read: "
                    f"{_short(text)}"
                )
    return lines


def _short(text: str) -> str:
    return display(text if len(text) <= 40 else f"{text[:39]}…")


def parse(line: str) -> dict[str, Any]:
    """Parse one line into fields of Prompt. Raises ConfigError."""
    text, *parts = re.split(r"(?:^|\s+)--(?=\S)", _OTHER_SPACE.sub(" ", line).strip())
    if not text:
        raise ConfigError(
            "there is no prompt before the flags", hint="write the prompt first, then --n, --w ..."
        )
    for part in (text, *parts):
        _refuse_misspelt(part)
    fields: dict[str, Any] = {"text": text}
    for part in parts:
        flag, _, value = part.partition(" ")
        name, read_value = _flag(flag)
        if name in fields:
            raise ConfigError(f"--{display(flag)} is given twice", hint="give it once")
        fields[name] = _value(flag, value.strip(), read_value)
    return fields


def _refuse_misspelt(text: str) -> None:
    """Raise ConfigError for a flag that would be read as part of the prompt: one without a space
    before it, or with another dash than two of the plain ones.
    """
    match = _MISSPELT.search(text)
    if match is not None:
        raise ConfigError(
            f"`{display(match[0])}` is not read as a flag, but as part of the prompt",
            hint=f"write a space and two plain dashes before it: --{match['flag']} "
            f"{display(match['value'])}",
        )


def _value(flag: str, text: str, read_value: Callable[[str], Any]) -> Any:
    """Read the value of a flag; a number may have got a comma, an exponent or a unit."""
    is_number = flag.lower() in _EXAMPLES
    if not text and is_number:
        raise ConfigError(
            f"--{flag} has no value", hint=f"write it like --{flag} {_EXAMPLES[flag.lower()]}"
        )
    if not is_number or len(text) <= _LONGEST_NUMBER:
        with suppress(ValueError):
            return read_value(text)
    number, plain = _NUMBER.match(text[:_LONGEST_NUMBER]), _EXAMPLES[flag.lower()]
    if number is not None and abs(value := float(number[0].replace(",", "."))) < 2**63:
        plain = f"{int(value)}" if read_value is int else f"{value:g}"
    what = "whole number" if read_value is int and number is not None else "number"
    raise ConfigError(
        f"--{flag} {_short(text)} is not a {what}", hint=f"write it like --{flag} {plain}"
    )


def _flag(flag: str) -> tuple[str, Callable[[str], Any]]:
    if (reader := _FLAGS.get(flag.lower())) is not None:
        return reader
    joined = _JOINED.fullmatch(flag.lower())
    if joined is not None:
        raise ConfigError(
            f"unknown flag --{_short(flag)}",
            hint=f"write a space behind the flag: --{joined[1]} {_short(joined[2])}",
        )
    words = {name: short for short, (name, _) in _FLAGS.items()} | {
        short: short for short in _FLAGS
    }
    longer = (name for name in words if name.startswith(flag.lower()))
    near = nearest(flag.lower(), words, cutoff=0.75) or next(longer, None)
    flags = ", ".join(f"--{short} {name}" for short, (name, _) in _FLAGS.items())
    hint = f"did you mean --{words[near]}?" if near else f"the flags are {flags}"
    raise ConfigError(f"unknown flag --{_short(flag)}", hint=hint)


def _text(path: Path, name: str) -> str:
    if path.exists() and not (path.is_file() or path.is_dir()):  # reading a pipe would not end
        raise ConfigError(
            f"cannot read {name} = {display(path)}: not a file",
            hint="name a text file of prompts",
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
        if "\0" in text:  # two bytes a character, without a mark that says so
            raise ConfigError(f"{display(path)} is not UTF-8 text", hint="save it as UTF-8")
        return text
    except OSError as error:
        raise ConfigError(
            f"cannot read {name} = {display(path)}: {error.strerror}",
            hint="name a text file of prompts",
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{display(path)} is not UTF-8 text", hint="save it as UTF-8") from None
