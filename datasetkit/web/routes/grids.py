"""Routes of the tab Compare: grids, their cells, marks, and keeping a LoRA file."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from datasetkit.core.errors import InputError
from datasetkit.verbs.review.thumbnails import ImageGone, open_unchanged
from datasetkit.verbs.studio import grids
from datasetkit.verbs.studio.grid_files import GridSource
from datasetkit.verbs.studio.lora_zip import LoraZip
from datasetkit.verbs.studio.session import StudioSession
from datasetkit.web.routes.images import serve
from datasetkit.web.table import (
    ApiRoute,
    Json,
    NotFound,
    Values,
    endpoint,
    error_response,
    flag,
    get,
    image_response,
    is_whole_number,
    number,
    post,
    query_number,
    table,
    text,
)

_MOST_CELLS: Final = 10**6
# Formats that browsers show as they are.
_TYPES: Final = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}


def list_grids(studio: StudioSession, query: Values) -> Json:
    return grids.overview(studio)


def grid(studio: StudioSession, query: Values) -> Json:
    return grids.table(studio, _grid(studio, query["id"]))


def mark(studio: StudioSession, body: Values) -> Json:
    source = _grid(studio, body["id"])
    return grids.mark(studio, source, number(body, "cell"), number(body, "mark"))


def keep_folders(studio: StudioSession, query: Values) -> Json:
    return grids.folders(studio)


def keep(studio: StudioSession, body: Values) -> Json:
    source = _grid(studio, text(body, "grid"))
    cell = None if body.get("cell") is None else number(body, "cell")
    return grids.keep(
        studio,
        source,
        number(body, "file"),
        cell,
        _keep_options(table(body, "options")),
        dry_run=flag(body, "dry_run"),
    )


def _keep_options(given: Values) -> dict[str, Any]:
    """Return the options of `dsk keep` that the page sets. Raises InputError."""
    options: dict[str, Any] = {"to": text(given, "to"), "replace": flag(given, "replace")}
    if given.get("name"):
        options["name"] = text(given, "name")
    trigger = given.get("trigger", [])
    if not isinstance(trigger, list):
        raise InputError("trigger must be a list of words")
    if trigger:
        options["trigger"] = tuple(text({"trigger": word}, "trigger") for word in trigger)
    weight = given.get("weight", 0)
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise InputError("weight must be a number")
    options["weight"] = float(weight)
    return options


def _grid(studio: StudioSession, grid_id: str) -> GridSource:
    source = grids.find(studio, grid_id)
    if source is None:
        raise NotFound("no grid has this id", hint="it may have been moved or removed")
    return source


async def cell(studio: StudioSession, request: Request) -> Response:
    """Return the image of a cell as it is, or as a smaller JPEG."""
    return await run_in_threadpool(lambda: _cell(studio, request))


def _cell(studio: StudioSession, request: Request) -> Response:
    written = request.path_params["n"]
    if not is_whole_number(written):
        raise NotFound("a cell has a whole number")
    source = _grid(studio, request.path_params["grid"])
    image = grids.cell_image(studio, source, int(written))
    if image is None:
        raise NotFound("the grid has no image here", hint="draw the grid again")
    if request.query_params.get("side") or image.format not in _TYPES:
        return serve(studio, request, image)
    try:
        with open_unchanged(image.path, image.stamp) as file:
            data = file.read()
    except ImageGone as error:
        return error_response(error, 409)
    return image_response(data, _TYPES[image.format], request, image.v)


async def download(studio: StudioSession, request: Request) -> Response:
    """Return a LoRA with its preview and JSON as a zip."""
    made = await run_in_threadpool(lambda: _zip(studio, request))
    headers = {
        "content-disposition": f"attachment; filename*=UTF-8''{quote(made.name)}",
        "cache-control": "no-store",
    }
    return StreamingResponse(made.blocks, media_type="application/zip", headers=headers)


def _zip(studio: StudioSession, request: Request) -> LoraZip:
    source = _grid(studio, request.path_params["grid"])
    written, query = request.path_params["n"], request.query_params
    if not is_whole_number(written):
        raise NotFound("a LoRA of a grid has a whole number")
    cell = query_number(query, "cell", 0, _MOST_CELLS) if "cell" in query else None
    options: dict[str, Any] = {"weight": _weight(query.get("weight", "0"))}
    if query.get("name"):
        options["name"] = text(query, "name")
    return grids.download(studio, source, int(written), cell, options)


def _weight(written: str) -> float:
    try:
        return float(written)
    except ValueError:
        raise InputError("weight must be a number") from None


ROUTES: tuple[ApiRoute, ...] = (
    get("/api/grids", list_grids),
    get("/api/grids/{id}", grid),
    post("/api/grids/{id}/marks", mark),
    get("/api/loras/keep", keep_folders),
    post("/api/loras/keep", keep),
    endpoint("GET", "/cell/{grid}/{n}", cell),
    endpoint("GET", "/lora/{grid}/{n}", download),
)
