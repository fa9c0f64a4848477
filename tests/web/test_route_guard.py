"""Every route of the table against every refusal of the guard, and no GET changes a byte."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from starlette.routing import compile_path

from datasetkit.project.signature import state_folder
from datasetkit.web.routes import ROUTES
from datasetkit.web.table import ApiRoute, get
from tests.web.client import Browser, review

# What stands in a path in the place of a name.
ID = "1"
WRITING = [route for route in ROUTES if route.method != "GET"]


def path_of(route: ApiRoute) -> str:
    return re.sub(r"\{[^}]*\}", ID, route.path)


def name_of(route: ApiRoute) -> str:
    return f"{route.method} {route.path}"


@pytest.fixture(scope="module")
def page(shared_page):
    """No test of this module changes the dataset."""
    return shared_page


def headers_of(page: Browser, route: ApiRoute) -> dict[str, str]:
    """Return what the page itself sends with a route."""
    if route.method == "GET":
        return {"Cookie": page.cookie}
    kind = {"json": "application/json", "bytes": "application/octet-stream"}[route.body]
    return {"Cookie": page.cookie, "X-Dsk-Token": page.token, "Content-Type": kind}


REFUSALS = {
    "another host name": ({"Host": "evil.example"}, 400),
    "no cookie": ({"Cookie": ""}, 401),
    "a wrong cookie": ({"Cookie": "dsk_review_1=1"}, 401),
    "started by another site": ({"Sec-Fetch-Site": "cross-site"}, 403),
    "started by another port": ({"Sec-Fetch-Site": "same-site"}, 403),
}
REFUSED_CHANGES = {
    "another origin": ({"Origin": "http://evil.example"}, 403),
    "no origin of a file": ({"Origin": "null"}, 403),
    "no token": ({"X-Dsk-Token": ""}, 403),
    "a wrong token": ({"X-Dsk-Token": "0" * 64}, 403),
    "a form": ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
    "plain text": ({"Content-Type": "text/plain"}, 415),
    "parts": ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
}


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("route", ROUTES, ids=name_of)
def test_a_request_that_is_not_of_the_page_is_refused(page, route, refusal):
    changed, status = REFUSALS[refusal]
    body = None if route.method == "GET" else b"{}"
    headers = {**headers_of(page, route), **changed}
    assert page.ask(route.method, path_of(route), body, headers).status == status


@pytest.mark.parametrize("refusal", REFUSED_CHANGES)
@pytest.mark.parametrize("route", WRITING, ids=name_of)
def test_a_change_that_is_not_of_the_page_is_refused(page, route, refusal):
    changed, status = REFUSED_CHANGES[refusal]
    headers = {**headers_of(page, route), **changed}
    assert page.ask(route.method, path_of(route), b"{}", headers).status == status


@pytest.mark.parametrize("route", WRITING, ids=name_of)
def test_a_route_takes_its_own_kind_of_body_alone(page, route):
    other = {"json": "application/octet-stream", "bytes": "application/json"}[route.body]
    headers = {**headers_of(page, route), "Content-Type": other}
    assert page.ask(route.method, path_of(route), b"{}", headers).status == 415


@pytest.mark.parametrize("route", WRITING, ids=name_of)
def test_a_change_is_no_get(page, route):
    patterns = [compile_path(other.path)[0] for other in ROUTES if other.method == "GET"]
    if any(pattern.match(path_of(route)) for pattern in patterns):
        pytest.skip("a GET has the same path")
    status = page.ask("GET", path_of(route), headers={"Cookie": page.cookie}).status
    assert status in (404, 405)


@pytest.mark.parametrize("route", [r for r in ROUTES if r.writes], ids=name_of)
def test_a_page_that_is_read_only_changes_nothing(read_only, route):
    headers = headers_of(read_only, route)
    response = read_only.ask(route.method, path_of(route), b"{}", headers)
    assert (response.status, "read-only" in response.json["error"]) == (403, True)


@pytest.fixture(scope="module")
def read_only(shared_page):
    with review(shared_page.folder, read_only=True) as browser:
        yield browser


def tree(*folders: Path | None) -> dict[str, str]:
    """Return the hash of each file below folders."""
    files: dict[str, str] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")) if folder else ():
            if path.is_file() and not path.is_symlink():
                files[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
            else:
                files[str(path)] = str(path.readlink()) if path.is_symlink() else ""
    return files


@pytest.mark.long
def test_no_get_changes_a_byte(folder, tmp_path):
    (folder / "dsk.toml").write_text("[train]\nnetwork_dim = 8\n")
    reads = [route for route in ROUTES if route.method == "GET" and not route.is_stream]
    with review(folder) as page:
        for route in reads:  # what is computed once, such as thumbnails, is kept in .dsk
            page.ask("GET", path_of(route), headers={"Cookie": page.cookie})
        before = tree(folder, state_folder())
        for route in ROUTES:
            if route.is_stream:
                with page.stream(path_of(route)) as stream:
                    stream.next()
        for route in reads:
            for path in (path_of(route), path_of(route) + "?from=0&points=5&where=tag:hat"):
                page.ask("GET", path, headers={"Cookie": page.cookie})
        assert tree(folder, state_folder()) == before


def test_a_get_that_writes_cannot_be_declared():
    with pytest.raises(ValueError, match="must not change anything"):
        ApiRoute("GET", "/api/x", lambda session, values: {}, writes=True)
    assert not get("/api/x", lambda session, values: {}).writes
