"""Routes for choosing folders and sending files."""

from __future__ import annotations

from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from datasetkit.core.errors import InputError
from datasetkit.verbs.studio import concepts, folders, uploads
from datasetkit.verbs.studio.session import StudioSession
from datasetkit.verbs.studio.upload_names import sent_files
from datasetkit.verbs.studio.uploads import Receiver, Upload
from datasetkit.web.table import (
    ApiRoute,
    Json,
    NotFound,
    Values,
    delete,
    endpoint,
    get,
    is_whole_number,
    json_response,
    post,
    text,
)

# What is collected before a thread writes it.
_CHUNK: Final = 2**20


def browse(studio: StudioSession, body: Values) -> Json:
    """List the folders below a folder."""
    return folders.browse(studio, text(body, "path"), str(body.get("filter") or ""))


def list_uploads(studio: StudioSession, query: Values) -> Json:
    """Name the uploads that have not ended."""
    found = uploads.open_uploads(studio.root, studio.folder)
    rows = [{k: v for k, v in uploads.state(u).items() if k != "files"} for u in found]
    return {"uploads": rows}


def begin(studio: StudioSession, body: Values) -> Json:
    """Begin an upload, or go on with the one of the same files."""
    files = sent_files(body.get("files"))
    return uploads.begin(studio.root, studio.folder, _target(studio, body), files)


def _target(studio: StudioSession, body: Values) -> str:
    """Return the folder that files go to: `to`, or that of a concept by its name."""
    concept, to = body.get("concept"), body.get("to", "")
    if not isinstance(to, str) or not isinstance(concept, str | None):
        raise InputError("`to` must be a folder, or `concept` the name of a concept")
    return to if concept is None else concepts.upload_folder(studio, concept)


def state(studio: StudioSession, query: Values) -> Json:
    return uploads.state(_upload(studio, query))


def end(studio: StudioSession, body: Values) -> Json:
    """Import what has arrived, as one plan."""
    result = uploads.finish(_upload(studio, body), studio.context)
    return {
        "folder": str(result.folder),
        "imported": len(result.files),
        "images": result.images,
        "present": result.present,
        "renamed": result.renamed,
        "left_out": [
            {"name": item.path, "kind": item.kind, "reason": item.reason}
            for item in result.left_out
        ],
        "entry": result.entry,
    }


def cancel(studio: StudioSession, body: Values) -> Json:
    uploads.discard(_upload(studio, body))
    return {}


async def receive(studio: StudioSession, request: Request) -> Response:
    """Write the body of a request to the disk as it arrives."""
    number = request.path_params["n"]
    if not is_whole_number(number):
        raise NotFound("a file of an upload has a whole number")
    receiver = await run_in_threadpool(
        lambda: Receiver(_upload(studio, request.path_params), int(number))
    )
    try:
        collected = bytearray()
        async for chunk in request.stream():
            collected += chunk
            if len(collected) >= _CHUNK:
                await run_in_threadpool(receiver.write, bytes(collected))
                collected.clear()
        await run_in_threadpool(receiver.write, bytes(collected))
        return json_response(await run_in_threadpool(receiver.finish))
    except ClientDisconnect:
        return Response(status_code=400)  # nobody reads it
    finally:
        receiver.abort()


def _upload(studio: StudioSession, values: Any) -> Upload:
    upload = uploads.find(studio.root, studio.folder, str(values["id"]))
    if upload is None:
        raise NotFound("this upload was ended or cancelled", hint="begin it again")
    return upload


ROUTES: tuple[ApiRoute, ...] = (
    post("/api/browse", browse, writes=False),
    get("/api/uploads", list_uploads),
    post("/api/uploads", begin),
    get("/api/uploads/{id}", state),
    endpoint("PUT", "/api/uploads/{id}/{n}", receive, writes=True, body="bytes"),
    post("/api/uploads/{id}/end", end),
    delete("/api/uploads/{id}", cancel),
)
