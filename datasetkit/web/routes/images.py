"""Routes of the tab Images: concepts, their images, and the images themselves by number."""

from __future__ import annotations

from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from datasetkit.core.errors import InputError
from datasetkit.verbs.review.thumbnails import ImageGone
from datasetkit.verbs.studio import concepts, prepare
from datasetkit.verbs.studio.images import PREVIEW_SIDE, SIDES, ShownImage, jpeg
from datasetkit.verbs.studio.session import StudioSession
from datasetkit.web.table import (
    ApiRoute,
    Endpoint,
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
    text,
)


def list_concepts(studio: StudioSession, query: Values) -> Json:
    return concepts.overview(studio)


def add_concept(studio: StudioSession, body: Values) -> Json:
    folder = text(body, "folder") if body.get("folder") else ""
    return concepts.add(studio, text(body, "name"), folder)


def sources(studio: StudioSession, query: Values) -> Json:
    concept = query_number(query, "concept", 0, 10**6)
    offset = query_number(query, "offset", 0, 10**9)
    return concepts.sources(studio, concept, offset, query_number(query, "limit", 500, 20_000))


def source(studio: StudioSession, query: Values) -> Json:
    found = concepts.source(studio, _number(query["id"]))
    if found is None:
        raise NotFound("no image has this id", hint="it may have been moved")
    return found


def left_out(studio: StudioSession, query: Values) -> Json:
    return concepts.left_out(studio, query_number(query, "concept", 0, 10**6))


def prepare_images(studio: StudioSession, body: Values) -> Json:
    """Say what preparing would do, or start it."""
    steps = prepare.read_steps(body.get("steps"))
    concept = None if body.get("concept") is None else number(body, "concept")
    do = prepare.plan if flag(body, "dry_run") else prepare.start
    return do(studio, concept, steps)


def preview_prepared(studio: StudioSession, body: Values) -> Json:
    """Try the preparation on three images."""
    return prepare.preview(studio, number(body, "concept"), prepare.read_steps(body.get("steps")))


def _number(written: str) -> int:
    if not is_whole_number(written):
        raise NotFound("an image id is a whole number")
    return int(written)


def shown(studio: StudioSession, written: str) -> ShownImage:
    """Return the image of a number in a URL. Raises NotFound."""
    image = studio.images.get(_number(written))
    if image is None:
        raise NotFound("no image has this id", hint="it may have been moved")
    return image


def _source(studio: StudioSession, request: Request) -> ShownImage:
    return shown(studio, request.path_params["id"])


def _made(studio: StudioSession, request: Request) -> ShownImage:
    """Return what was made of the image of a number."""
    image = concepts.made_of(studio, shown(studio, request.path_params["id"]))
    if image is None:
        raise NotFound("nothing was made of this image yet", hint="prepare it")
    return image


def serve(studio: StudioSession, request: Request, image: ShownImage) -> Response:
    """Return the JPEG of an image; `side` of the query is the number of pixels."""
    side = query_number(request.query_params, "side", PREVIEW_SIDE, SIDES[1])
    try:
        data = jpeg(image, max(side, SIDES[0]), max_pixels=studio.options.max_pixels)
    except ImageGone as error:
        return error_response(error, 409)
    except InputError as error:
        return error_response(error, 415)
    return image_response(data, "image/jpeg", request, image.v)


def _image(find: Callable[[StudioSession, Request], ShownImage]) -> Endpoint:
    async def answer(studio: StudioSession, request: Request) -> Response:
        return await run_in_threadpool(lambda: serve(studio, request, find(studio, request)))

    return answer


ROUTES: tuple[ApiRoute, ...] = (
    get("/api/concepts", list_concepts),
    post("/api/concepts", add_concept),
    get("/api/sources", sources),
    get("/api/sources/{id}", source),
    get("/api/left-out", left_out),
    post("/api/prepare", prepare_images),
    post("/api/prepare/preview", preview_prepared, writes=False),
    endpoint("GET", "/source/{id}", _image(_source)),
    endpoint("GET", "/made/{id}", _image(_made)),
)
