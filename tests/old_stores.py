"""Stores of earlier versions of datasetkit."""

import sqlite3
from pathlib import Path

from datasetkit.core.files import make_project_folder
from datasetkit.project import store


def make_store(root: Path, version: int) -> Path:
    """Write an empty store of a version of the schema; return its path."""
    make_project_folder(root)
    path = root / store.STORE
    database = sqlite3.connect(path)
    database.executescript(vars(store)["_SCHEMA"])
    for number, added in vars(store)["_ADDED"].items():
        if number <= version:
            database.executescript(added)
    database.execute(f"PRAGMA user_version = {version}")
    database.close()
    return path
