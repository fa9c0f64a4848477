"""Options: one frozen dataclass a verb, `dsk.toml` as their file, and the one function that merges
the two.

Precedence: default < dsk.toml < command line. Ranges are checked in `__post_init__`, so library
callers get them too; pydantic is used in strict mode, only as the door for values that come from
TOML.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from datasetkit.captions import backgrounds, filters
from datasetkit.core.errors import ConfigError
from datasetkit.core.files import display
from datasetkit.core.ranges import in_range as in_range
from datasetkit.core.ranges import one_of as one_of
from datasetkit.options.train import SAMPLERS
from datasetkit.options.train import TrainOptions as TrainOptions

Options = TypeVar("Options")
CONFIG_NAME = "dsk.toml"
_STRICT = {"strict": True, "extra": "forbid"}
Tags = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """What every verb that reads a folder of images understands."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    recursive: bool = False
    follow_links: bool = False
    workers: int = 0
    max_pixels: int = 64_000_000

    def __post_init__(self) -> None:
        in_range("workers", self.workers, 0, 256)
        in_range("max_pixels", self.max_pixels, 1, 2**31)


@dataclass(frozen=True, slots=True, kw_only=True)
class RenameOptions:
    """`dsk rename`: give images plain, unique, numbered names."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    prefix: str = ""
    start: int = 1

    def __post_init__(self) -> None:
        in_range("start", self.start, 0, 10**9)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizeOptions(Common):
    """`dsk resize`: shrink to what trainers use, upright, in sRGB, without metadata."""

    max: int = 1024
    mode: Literal["long-edge", "area"] = "long-edge"
    format: Literal["keep", "jpg", "png", "webp"] = "keep"
    quality: int = 95
    alpha: Literal["flatten", "keep"] = "flatten"
    in_place: bool = False

    def __post_init__(self) -> None:
        Common.__post_init__(self)
        in_range("max", self.max, 16, 16384)
        in_range("quality", self.quality, 1, 100)
        one_of("mode", self.mode, "long-edge", "area")
        one_of("format", self.format, "keep", "jpg", "png", "webp")
        one_of("alpha", self.alpha, "flatten", "keep")
        if self.alpha == "keep" and self.format == "jpg":
            raise ConfigError(
                "JPEG has no transparency", hint="--format png or webp with --alpha keep"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class FacesOptions(Common):
    """`dsk faces`: what becomes of the faces, and of lines of text, in images.

    do: what a run does. threshold: least score of a face; text_threshold: of a line of text.
    margin: what is taken around a face, a share of its size; None: a half to crop, a fifth to
    erase. size, min_size: pixels of a crop's side. most: of each image only the largest faces, 0
    for all. fill: what erased places are filled with.
    """

    do: Literal["crop", "erase"] = "crop"
    detector: str = "blazeface"
    threshold: float = 0.5
    text: bool = False
    text_threshold: float = 0.7
    margin: float | None = None
    size: int = 512
    min_size: int = 128
    most: int = 0
    fill: Literal["white", "blur", "paint"] = "white"
    review: str = ""

    def __post_init__(self) -> None:
        Common.__post_init__(self)
        one_of("do", self.do, "crop", "erase")
        one_of("fill", self.fill, "white", "blur", "paint")
        # Lower scores are not kept, so a lower threshold could not be honoured.
        in_range("threshold", self.threshold, 0.3, 1)
        in_range("text_threshold", self.text_threshold, 0.6, 1)
        if self.margin is not None:
            in_range("margin", self.margin, 0, 5)
        in_range("size", self.size, 16, 16384)
        in_range("min_size", self.min_size, 1, 16384)
        in_range("most", self.most, 0, 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class CutoutOptions(Common):
    """`dsk cutout`: which model finds the subject, and what is put behind it.

    feather: pixels by which the edge is softened. min_area: a mask of less than this share of the
    image, or of more than all but this share, is none.
    """

    model: str = "u2netp"
    provider: str = "auto"
    bg: str = "white"
    keep_alpha: bool = False
    feather: float = 0.0
    min_area: float = 0.01

    def __post_init__(self) -> None:
        Common.__post_init__(self)
        backgrounds.require(self.bg)
        in_range("feather", self.feather, 0, 1000)
        in_range("min_area", self.min_area, 0, 0.49)


@dataclass(frozen=True, slots=True, kw_only=True)
class TagRules(Common):
    """What `dsk rules` and `dsk tag` do to the tags of captions."""

    trigger: Tags = ()
    additional: Tags = ()
    exclude: Tags = ()
    replace: Tags = ()
    implies: str = "none"
    escape_brackets: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesOptions(TagRules):
    """`dsk rules`: what is done to the captions that exist. where: the filter of those that are
    meant, "" for all.
    """

    where: str = ""

    def __post_init__(self) -> None:
        Common.__post_init__(self)
        filters.parse(self.where)


@dataclass(frozen=True, slots=True, kw_only=True)
class TagOptions(TagRules):
    """`dsk tag`: which tagger, which thresholds, and the rules for what it finds."""

    tagger: str = "auto"
    model_dir: str = ""
    provider: str = "auto"
    threshold: float | Literal["pr"] = 0.35
    character_threshold: float = 0.85
    mcut: bool = False
    rating: Literal["none", "first", "last"] = "none"
    existing: Literal["skip", "overwrite", "append", "prepend"] = "skip"
    combine: Literal["union", "intersection", "mean"] = "union"
    precision: Literal["float32", "int8", "bf16", "fp16"] = "float32"
    fast_decode: bool = False
    batch_size: int = 0

    def __post_init__(self) -> None:
        Common.__post_init__(self)
        if isinstance(self.threshold, str):
            one_of("threshold", self.threshold, "pr")
        else:
            # Scores below 0.01 are not kept, so a lower threshold could not be honoured later.
            in_range("threshold", self.threshold, 0.01, 1)
        in_range("character_threshold", self.character_threshold, 0.01, 1)
        one_of("rating", self.rating, "none", "first", "last")
        one_of("existing", self.existing, "skip", "overwrite", "append", "prepend")
        one_of("combine", self.combine, "union", "intersection", "mean")
        one_of("precision", self.precision, "float32", "int8", "bf16", "fp16")
        in_range("batch_size", self.batch_size, 0, 1024)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRepeatsOptions:
    """`dsk plan-repeats`: how many repeats give the steps that are wanted. None: what `[train]`
    says.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    steps: int = 1000
    epochs: int | None = None
    batch_size: int | None = None
    resolution: int | None = None
    images: int | None = None
    kind: Literal["character", "style"] = "character"

    def __post_init__(self) -> None:
        in_range("steps", self.steps, 1, 10**8)
        for name, value in (
            ("epochs", self.epochs),
            ("batch_size", self.batch_size),
            ("images", self.images),
        ):
            if value is not None:
                in_range(name, value, 1, 10**7)
        if self.resolution is not None:
            in_range("resolution", self.resolution, 64, 8192)
        one_of("kind", self.kind, "character", "style")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutOptions(PlanRepeatsOptions):
    """`dsk layout`: the folders that trainers read."""

    out: str = "dataset"
    repeats: int | None = None

    def __post_init__(self) -> None:
        PlanRepeatsOptions.__post_init__(self)
        if self.repeats is not None:
            in_range("repeats", self.repeats, 1, 10**6)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegOptions:
    """`dsk reg`: a regularisation set beside the training folders."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    folder: str = ""
    class_name: str = ""
    out: str = "dataset"
    repeats: int | None = None
    captions: Literal["none", "derive"] = "none"
    trigger: Tags = ()

    def __post_init__(self) -> None:
        if self.repeats is not None:
            in_range("repeats", self.repeats, 1, 10**6)
        one_of("captions", self.captions, "none", "derive")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegGenerateOptions:
    """`dsk reg generate`: a regularisation set that a base model draws.

    base, class_name: "" takes those of [train] and [reg]. from_captions: draw from the training
    captions, with the class in place of the trigger. cfg: guidance. size: width and height; None
    takes the buckets of the training set.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    base: str = ""
    class_name: str = ""
    count: int = 100
    from_captions: bool = False
    trigger: Tags = ()
    repeats: int | None = None
    negative: str = ""
    steps: int = 30
    cfg: float = 7.5
    sampler: str = "ddim"
    size: tuple[int, int] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        in_range("count", self.count, 1, 100_000)
        in_range("steps", self.steps, 1, 1000)
        in_range("cfg", self.cfg, 0, 100)
        in_range("seed", self.seed, 0, 2**63 - 1)
        one_of("sampler", self.sampler, *SAMPLERS)
        if self.repeats is not None:
            in_range("repeats", self.repeats, 1, 10**6)
        for side in self.size or ():
            in_range("size", side, 64, 4096)
            if side % 8:
                raise ConfigError(
                    f"size = {side}: a side is a multiple of 8", hint=f"give {side // 8 * 8}"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """`dsk report`: tag tables for a spreadsheet, and a chart. where: the filter of the images
    that are counted.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    out: str = ""
    trigger: Tags = ()
    where: str = ""
    excel: bool = False
    plot: bool = False
    recursive: bool = False

    def __post_init__(self) -> None:
        filters.parse(self.where)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """`dsk export`: the dataset in another tool's format."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    format: Literal["kohya", "imagefolder", "meta"] = "kohya"
    out: str = ""
    keep_tokens: int | None = None

    def __post_init__(self) -> None:
        one_of("format", self.format, "kohya", "imagefolder", "meta")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """`dsk import`: other tools' side-cars become captions."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    source: Literal["auto", "gallery-dl", "hydrus", "caption", "meta"] = "auto"
    meta: str = ""
    existing: Literal["skip", "overwrite"] = "skip"
    recursive: bool = False

    def __post_init__(self) -> None:
        one_of("from", self.source, "auto", "gallery-dl", "hydrus", "caption", "meta")
        one_of("existing", self.existing, "skip", "overwrite")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOptions(Common):
    """`dsk check`: what the trainer will meet. only, skip: names of checks; None and (): what
    dsk.toml says elsewhere.

    upscale: factor from which an enlarged image is too small. cut: fraction of the area that a
    bucket may cut off. blur, text, faces: least scores, 0..1. csv, sheet: files to write, "" for
    none.
    """

    resolution: int | None = None
    kind: Literal["character", "style"] = "character"
    trigger: Tags = ()
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    strict: bool = False
    upscale: float = 1.05
    cut: float = 0.2
    blur: float = 0.55
    text: float = 0.7
    faces: float = 0.5
    csv: str = ""
    sheet: str = ""

    def __post_init__(self) -> None:
        Common.__post_init__(self)
        if self.resolution is not None:
            in_range("resolution", self.resolution, 64, 8192)
        one_of("kind", self.kind, "character", "style")
        in_range("upscale", self.upscale, 1, 100)
        for name, least in (("cut", 0.0), ("blur", 0.0), ("text", 0.6), ("faces", 0.3)):
            in_range(name, getattr(self, name), least, 1.0)
        for name, suffix in (("csv", ".csv"), ("sheet", ".png")):
            given = getattr(self, name)
            if given and Path(given).suffix.lower() != suffix:
                raise ConfigError(
                    f"{name} = {display(given)}: it is written as {suffix}",
                    hint=f"name a {suffix} file",
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewOptions:
    """`dsk review`: the page for looking through images and captions. host: the address that it
    listens on.

    allow_host: names, besides those of this machine, under which a browser may speak to it.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    port: int = 0
    open: bool = True
    read_only: bool = False
    host: str = "127.0.0.1"
    allow_host: tuple[str, ...] = ()
    recursive: bool = False
    max_pixels: int = 64_000_000

    def __post_init__(self) -> None:
        in_range("port", self.port, 0, 65535)
        in_range("max_pixels", self.max_pixels, 1, 2**31)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConceptOptions:
    """`[[concept]]`: one subject or style: a folder of images, its folder name, its trigger."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    folder: str
    name: str = ""
    prefix: str = ""
    trigger: Tags = ()
    exclude: Tags = ()
    additional: Tags = ()
    repeats: int | None = None

    def __post_init__(self) -> None:
        if self.repeats is not None:
            in_range("repeats", self.repeats, 1, 10**6)


STEPS = ("rename", "faces", "resize", "cutout", "tag", "layout", "reg", "report", "export")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """`[run]`: which steps `dsk run` takes, always in this order."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    steps: tuple[str, ...] = ("resize", "tag", "layout", "report", "export")
    work: str = "work"

    def __post_init__(self) -> None:
        for step in self.steps:
            one_of("steps", step, *STEPS)


# The tables of dsk.toml, by name; `concept` is a list of tables.
TABLES: dict[str, type] = {
    "run": RunOptions,
    "rename": RenameOptions,
    "faces": FacesOptions,
    "resize": ResizeOptions,
    "cutout": CutoutOptions,
    "tag": TagOptions,
    "rules": RulesOptions,
    "plan-repeats": PlanRepeatsOptions,
    "layout": LayoutOptions,
    "reg": RegOptions,
    "reg-generate": RegGenerateOptions,
    "report": ReportOptions,
    "check": CheckOptions,
    "review": ReviewOptions,
    "export": ExportOptions,
    "import": ImportOptions,
    "train": TrainOptions,
}


# Options that name files or folders. `work` and the folders of concepts are always taken from the
# project's root.
_PATHS: dict[str, tuple[str, ...]] = {
    "faces": ("review",),
    "tag": ("model_dir", "implies"),
    "rules": ("implies",),
    "layout": ("out",),
    "reg": ("folder", "out"),
    "report": ("out",),
    "check": ("csv", "sheet"),
    "export": ("out",),
    "import": ("meta",),
}
_NO_PATH = ("", "none", "common")  # not given, and the tables of implications that have names


def _seen_from_here(path: Path) -> str:
    """Return a path as seen from the current folder where it lies below it, else the whole path."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


@dataclass(frozen=True, slots=True)
class Config:
    """A `dsk.toml` that was read and checked; an empty one where there is no file."""

    path: Path | None = None
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    concepts: tuple[ConceptOptions, ...] = ()

    @property
    def root(self) -> Path | None:
        return self.path.parent if self.path else None

    def _shown(self) -> str:
        return _seen_from_here(self.path) if self.path else CONFIG_NAME

    def table(self, name: str) -> Mapping[str, Any]:
        return self.tables.get(name, {})

    def for_concept(self, concept: ConceptOptions) -> Config:
        """Return the same with the concept's own trigger, exclude and additional in `[tag]`.

        Its trigger stands in place of the one of `[tag]`, its exclusions and additional tags come
        behind those.
        """
        tag = dict(self.table("tag"))
        if concept.trigger:
            tag["trigger"] = concept.trigger
        for key, own in (("exclude", concept.exclude), ("additional", concept.additional)):
            tag[key] = tuple(dict.fromkeys((*tag.get(key, ()), *own)))
        return replace(self, tables={**self.tables, "tag": tag})

    def build(
        self, cls: type[Options], name: str, given: Mapping[str, Any] | None = None
    ) -> Options:
        """Build a verb's options from its table and from what was given on the command line (None:
        not given).

        What is given is as seen from the current folder; paths of the dsk.toml, and the default
        ones of its project, are as seen from its folder.
        """
        table = self.table(name)
        options = build(cls, table, given or {}, where=f"{display(self._shown())} [{name}]")
        if self.root is None:
            return options
        found = {
            key: getattr(options, key)
            for key in _PATHS.get(name, ())
            if (given or {}).get(key) is None and getattr(options, key) not in _NO_PATH
        }
        # dataclasses.replace knows no type variable that is bound to dataclasses.
        return replace(
            options, **{key: _seen_from_here(self.root / value) for key, value in found.items()}
        )  # type: ignore[type-var]


def build(
    cls: type[Options], table: Mapping[str, Any], given: Mapping[str, Any], *, where: str
) -> Options:
    """Merge default < table < given into one checked options object; unknown keys are refused with
    the nearest.
    """
    names = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    for key in (*table, *given):
        if key not in names:
            near = difflib.get_close_matches(key, names, 1)
            raise ConfigError(
                f"{where}: unknown key {key!r}",
                hint=f"did you mean {near[0]!r}?" if near else "known: " + ", ".join(names),
            )
    merged = {**table, **{k: v for k, v in given.items() if v is not None}}
    from pydantic import TypeAdapter, ValidationError

    try:
        # Through JSON, where strict mode takes a list for a tuple as TOML has it, and still no "5"
        # for a 5.
        return TypeAdapter(cls).validate_json(json.dumps(merged))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"][:1])
        if first["type"] == "missing":
            raise ConfigError(f"{where}: {key} must be given", hint=_expected(cls, key)) from None
        raise ConfigError(
            f"{where}: {key} = {first['input']!r}: {first['msg']}", hint=_expected(cls, key)
        ) from None
    except (ConfigError, filters.FilterError) as error:
        if any(value is not None for value in given.values()):
            raise  # files are checked when they are read: the command line is what is wrong
        raise ConfigError(f"{where}: {error.message}", hint=error.hint) from None
    except TypeError as error:
        raise ConfigError(f"{where}: {error}") from None


# What the types of options are called in a dsk.toml.
_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text in quotes",
    "Tags": 'a list of texts, e.g. ["one", "two"]',
    "tuple[str, ...]": 'a list of texts, e.g. ["one", "two"]',
    "tuple[int, int]": "a pair [width, height]",
    "tuple[float, float]": "a pair of numbers",
}


def _expected(cls: type, key: str) -> str:
    """Say in words what a key takes."""
    for f in fields(cls):
        if f.name == key:
            kinds = [kind for kind in str(f.type).split(" | ") if kind != "None"]
            return f"{key} is " + " or ".join(
                _TYPES.get(k, k.removeprefix("Literal[").removesuffix("]")) for k in kinds
            )
    return ""


def load(path: Path) -> Config:
    """Read and check a dsk.toml whole, so that a mistake in any table is found before the first
    step.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(
            f"cannot read {display(path)}: {error.strerror}", hint="dsk init writes one"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{display(path)} is not UTF-8 text", hint="save it as UTF-8") from None
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{display(path)} is not valid TOML: {error}",
            hint="look for a quote or bracket that is missing there",
        ) from None
    concepts = data.pop("concept", [])
    if not isinstance(concepts, list) or not all(isinstance(c, dict) for c in concepts):
        raise ConfigError(
            f"{display(path)}: concept is not a list of tables",
            hint="write [[concept]], with two brackets",
        )
    for name, table in data.items():
        if name not in TABLES or not isinstance(table, dict):
            near = difflib.get_close_matches(name, [*TABLES, "concept"], 1)
            raise ConfigError(
                f"{display(path)}: unknown table [{name}]",
                hint=f"did you mean [{near[0]}]?" if near else "known: " + ", ".join(TABLES),
            )
    config = Config(
        path.absolute(),
        data,
        tuple(
            build(ConceptOptions, c, {}, where=f"{display(path)} [[concept]] {n}")
            for n, c in enumerate(concepts, 1)
        ),
    )
    for name in data:
        config.build(TABLES[name], name)
    return config


def find(folder: Path) -> Config:
    """Return the dsk.toml of the folder or its nearest ancestor; an empty Config where there is
    none.
    """
    folder = folder.resolve()
    for candidate in (folder, *folder.parents):
        if (candidate / CONFIG_NAME).is_file():
            return load(candidate / CONFIG_NAME)
    return Config()
