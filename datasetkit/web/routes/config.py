"""Routes of dsk.toml and of presets."""

from __future__ import annotations

from datasetkit.core.errors import InputError
from datasetkit.verbs.studio import config_file, preset_files
from datasetkit.verbs.studio import models as base_models
from datasetkit.verbs.studio.config_file import ConfigEdit
from datasetkit.verbs.studio.session import StudioSession
from datasetkit.web.table import ApiRoute, Json, Values, delete, flag, get, post, put, table, text


def config(studio: StudioSession, query: Values) -> Json:
    return config_file.read(studio)


def change(studio: StudioSession, body: Values) -> Json:
    values, unset, concepts = table(body, "set"), table(body, "unset"), body.get("concepts", [])
    if not all(isinstance(each, dict) for each in values.values()):
        raise InputError("set must be tables with keys")
    if not all(isinstance(each, list) for each in unset.values()):
        raise InputError("unset must be tables with lists of keys")
    if not isinstance(concepts, list) or not all(isinstance(each, dict) for each in concepts):
        raise InputError("concepts must be a list of objects")
    edit = ConfigEdit(values, unset, concepts)
    return config_file.change(studio, text(body, "hash"), edit, dry_run=flag(body, "dry_run"))


def models(studio: StudioSession, body: Values) -> Json:
    return base_models.models(studio, text(body, "path"))


def presets(studio: StudioSession, query: Values) -> Json:
    return preset_files.listed()


def preset(studio: StudioSession, query: Values) -> Json:
    return preset_files.one(query["name"])


def save_preset(studio: StudioSession, body: Values) -> Json:
    title = text(body, "title") if "title" in body else ""
    tables = table(body, "tables")
    return preset_files.save(body["name"], title, tables, replace=flag(body, "replace"))


def remove_preset(studio: StudioSession, body: Values) -> Json:
    return preset_files.remove(body["name"])


ROUTES: tuple[ApiRoute, ...] = (
    get("/api/config", config),
    put("/api/config", change),
    post("/api/models", models, writes=False),
    get("/api/presets", presets),
    get("/api/presets/{name}", preset),
    put("/api/presets/{name}", save_preset),
    delete("/api/presets/{name}", remove_preset),
)
