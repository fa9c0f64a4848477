"""The guard of the review page refuses a corpus of foreign requests."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from datasetkit import api
from datasetkit.captions.invisible import without_invisible
from datasetkit.core.errors import ConfigError
from datasetkit.options.review import ReviewOptions
from datasetkit.web import security
from datasetkit.web.routes.captions import ACTIONS, READS
from tests.web.client import captions, image_ids, review, run_server

HOSTS = [
    "evil.example",
    "127.0.0.1",
    "localhost",
    "127.0.0.1:1",
    "127.0.0.1.evil.example:{port}",
    "localhost.:{port}",
    "evil.example:{port}",
    "127.0.0.2:{port}",
    "0.0.0.0:{port}",
    "[::1]:{port}",
    "2130706433:{port}",
    "127.1:{port}",
    "0x7f000001:{port}",
    "127.0.0.1:{port}@evil.example",
    "evil.example#127.0.0.1:{port}",
    "127.0.0.1:{port},evil",
    "127.0.0.1:0{port}",
    "",
    " ",
    "localhost:{port}/",
    "lоcalhost:{port}",
    "[::ffff:127.0.0.1]:{port}",
    "[::ffff:7f00:1]:{port}",
    "127.0.0.1.:{port}",
    "017700000001:{port}",
    "127.0.0.1:+{port}",
    "localhost:{port}:{port}",
    "localhost%00:{port}",
    "user@127.0.0.1:{port}",
    "http://127.0.0.1:{port}",
    "127。0。0。1:{port}",
    "127.0.0.1.nip.io:{port}",
    "localtest.me:{port}",
]
ORIGINS = [
    "null", "http://evil.example", "https://127.0.0.1:{port}", "http://127.0.0.1",
    "http://127.0.0.1:1", "http://localhost.evil.example:{port}",
    "http://127.0.0.1:{port}.evil.example", "http://127.0.0.1:{port}/", "file://",
    "chrome-extension://abcdefgh", "http://localhost:{port}", "",
    "http://127.0.0.1:{port} http://evil",
]  # fmt: skip
PATHS = [
    "/../dsk.toml", "/..%2f..%2fetc/passwd", "/%2e%2e/%2e%2e/etc/passwd",
    "/static/../../pyproject.toml", "//etc/passwd", "/thumb/../../../etc/passwd",
    "/thumb/..%2f..%2fp0.jpg", "/thumb/p0.jpg", "/thumb/1/../2", "/thumb/-1", "/thumb/1e3",
    "/thumb/+1", "/thumb/%201", "/thumb/0x1", "/thumb/1_0", "/thumb/\xb2", "/thumb/%D9%A1",
    "/thumb/999999", "/thumb/99999999999999999999999999", "/thumb/" + "9" * 5000, "/preview/0",
    "/preview/1%00.jpg", "/preview/%2fetc%2fpasswd", "/preview/file:%2f%2f%2fetc%2fpasswd",
    "/page.js/..%2f..%2f__init__.py", "/page.js/", "/./.dsk/store.sqlite", "/.dsk/store.sqlite",
    "/.dsk/excluded", "/p0.jpg", "/p0.txt", "/set/p0.jpg", "/api", "/api/", "/api/image/..%2f1",
    "/api/image/p0.jpg", "/api/image/" + "1" * 5000, "/..\\..\\windows\\win.ini",
    "/thumb/1;.css", "/NOTICE", "/index.html", "/ui/src/App.tsx", "/__init__.py",
    "http://evil.example/thumb/1",
    "/\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16").encode().decode("latin-1"),
]  # fmt: skip
CALLS = [
    "apply", "caption", "keep", "undo", "redo", "tags", "outliers", "filter", "suggestions",
    "translate",
]  # fmt: skip


@pytest.fixture(scope="module")
def page(shared_page):
    """No test of this module changes the dataset."""
    return shared_page


def test_the_corpus_has_every_action():
    assert sorted(ACTIONS) == sorted(CALLS)
    assert sorted(READS) == sorted(
        ["images", "ids", "changes", "complete", "near-duplicates", "progress"]
    )


@pytest.mark.parametrize("host", HOSTS)
def test_another_host_name_is_refused_before_anything_else(page, host):
    name = host.format(port=page.server.port)
    for path in ("/", f"/?{urlsplit(page.server.url).query}", "/api/session", "/thumb/1"):
        sent = (
            f"GET {path} HTTP/1.1\r\nHost: {name}\r\nCookie: {page.cookie}\r\nConnection: "
            "close\r\n\r\n"
        ).encode()
        response = page.raw(sent)
        assert response.startswith(b"HTTP/1.1 400 "), (name, response[:60])
        assert b"set-cookie" not in response.lower()


def test_two_host_headers_or_none_are_refused(page):
    for lines in ("Host: {0}\r\nHost: {0}\r\n", "Host: {0}\r\nHost: evil\r\n", ""):
        for version in ("1.1", "1.0"):
            head = (
                f"GET /api/session HTTP/{version}\r\n{lines.format(page.host)}Cookie: "
                f"{page.cookie}\r\n\r\n"
            )
            assert b" 400 " in page.raw(head.encode())[:20]


@pytest.mark.parametrize(
    "head",
    [
        "GET http://evil.example/api/session HTTP/1.1\r\nHost: evil.example\r\n",
        "GET /api/session HTTP/1.1\r\nHost: {0}\r\n Host: evil\r\n",
        "GET /api/session HTTP/1.1\r\nHost : {0}\r\n",
        "GET /api/session\r\n",
        "GET /api/ses\rsion HTTP/1.1\r\nHost: {0}\r\n",
        "POST /api/undo HTTP/1.1\r\nHost: {0}\r\nContent-Length: 2\r\nContent-Length: 3\r\n",
        "POST /api/undo HTTP/1.1\r\nHost: {0}\r\nContent-Length: -1\r\n",
        "POST /api/undo HTTP/1.1\r\nHost: {0}\r\nTransfer-Encoding: chunked, identity\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc",  # TLS
        "PRI * HTTP/2.0\r\n\r\nSM\r\n",
    ],
)  # fmt: skip
def test_a_malformed_request_gets_no_data(page, head):
    sent = (head.format(page.host) + f"Cookie: {page.cookie}\r\n\r\n{{}}").encode("latin-1")
    response = page.raw(sent)
    assert b" 200 " not in response[:20] and page.token.encode() not in response
    assert page.get("session")["version"] == 1


def test_its_own_host_names_are_allowed_in_any_case(page):
    for name in (page.host, f"localhost:{page.server.port}", f"LOCALHOST:{page.server.port}"):
        assert (
            page.ask("GET", "/api/session", headers={"Host": name, "Cookie": page.cookie}).status
            == 200
        )


def test_it_listens_on_the_loopback_address_only(page):
    ports = Path("/proc/net/tcp")
    if not ports.exists():
        pytest.skip("only Linux lists its sockets in a file")
    port = f"{page.server.port:04X}"
    lines = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in ports.with_name(name).read_text().splitlines()[1:]
    ]
    listening = [line[1] for line in lines if line[3] == "0A" and line[1].endswith(f":{port}")]
    assert listening == [f"0100007F:{port}"]


# ---- the token


def test_each_run_has_new_tokens_of_256_random_bits(folder):
    tokens = set()
    for _ in range(2):
        with run_server(folder) as browser:
            token = urlsplit(browser.server.url).query.removeprefix("token=")
            assert len(bytes.fromhex(token)) == 32
            browser.enter()
            tokens |= {token, browser.token, browser.cookie.partition("=")[2]}
    assert len(tokens) == 6, "entry, cookie and header are three secrets"


def test_the_token_is_exchanged_for_a_cookie_that_scripts_and_other_sites_cannot_use(folder):
    with run_server(folder) as browser:
        response = browser.ask("GET", "/?" + urlsplit(browser.server.url).query)
        assert (response.status, response.headers["location"], response.body) == (303, "./", b"")
        parts = response.headers["set-cookie"].split("; ")
        assert parts[0].startswith(f"dsk_review_{browser.server.port}=")
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} == set(parts[1:])
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    "query", ["token=", "token=0", "token=" + "0" * 64, "token=é", "token[]=1", "Token={real}"]
)
def test_a_wrong_token_is_refused(page, query):
    real = urlsplit(page.server.url).query.removeprefix("token=")
    response = page.ask("GET", "/?" + query.format(real=real).replace("é", "%C3%A9"))
    assert response.status == 401 and "set-cookie" not in response.headers


def test_nothing_is_served_without_the_cookie(page):
    paths = [
        "/",
        "/page.js",
        "/api/session",
        *(f"/api/{name}" for name in READS),
        "/api/image/1",
        "/thumb/1",
    ]
    wrong = [
        {},
        {"Cookie": "dsk_review=1"},
        {"Cookie": page.cookie[:-1]},
        {"Cookie": page.cookie + "0"},
        {"Cookie": f"other={page.cookie.partition('=')[2]}"},
        {"Cookie": "=;;\x7f"},
        {"X-Dsk-Token": page.token},
        {"Authorization": f"Bearer {page.token}"},
    ]
    for path in paths:
        for headers in wrong:
            response = page.ask("GET", path, headers=headers)
            assert response.status == 401, (path, headers)
            assert b"p0" not in response.body
    assert page.ask("GET", "/api/session", headers={"Cookie": "a=b; " + page.cookie}).status == 200


def test_no_query_crashes_the_server(page, capfd):
    many = "&".join(f"a{n}=1" for n in range(50))
    for query in (many, "token=" + "0" * 50_000, "%ff=%fe&token=%ff", "token", "&&&=;"):
        assert page.ask("GET", f"/?{query}").status == 401
        assert (
            page.ask("GET", f"/api/images?{query}", headers={"Cookie": page.cookie}).status == 200
        )
    assert "".join(capfd.readouterr()) == ""


def test_a_page_on_another_port_has_no_access(folder):
    with review(folder) as one, run_server(folder, read_only=True) as other:
        assert other.ask("GET", "/api/session", headers={"Cookie": one.cookie}).status == 401
        secret = one.cookie.partition("=")[2]
        response = other.ask(
            "GET", "/api/session", headers={"Cookie": f"dsk_review_{other.server.port}={secret}"}
        )
        assert response.status == 401
        other.enter()
        body = b'{"scope": {"in": "all"}}'
        for mixed in ({"Cookie": other.cookie, "X-Dsk-Token": one.token}, {"Cookie": one.cookie}):
            assert other.ask("POST", "/api/tags", body, {**other.headers, **mixed}).status in (
                401,
                403,
            )


def test_the_token_is_never_logged(folder, capfd):
    with review(folder) as browser:
        browser.ask("GET", "/nothing?token=zzz", headers={"Cookie": browser.cookie})
        token = urlsplit(browser.server.url).query.removeprefix("token=")
    logged = "".join(capfd.readouterr())
    assert token not in logged and "zzz" not in logged
    keys = security.SessionKeys()
    assert keys.entry.new() not in repr(keys)


# ---- POST requests


def refused(page, headers, *, status, body=b"{}"):
    before = page.get("session")["version"]
    for name in CALLS:
        response = page.ask("POST", f"/api/{name}", body, headers)
        assert response.status == status, (name, headers, response.body)
    assert page.get("session")["version"] == before


@pytest.mark.parametrize("origin", ORIGINS)
def test_a_post_from_another_origin_is_refused(page, origin):
    refused(page, {**page.headers, "Origin": origin.format(port=page.server.port)}, status=403)


@pytest.mark.parametrize(
    "site", ["cross-site", "same-site", "", "SAME-ORIGIN", "same-origin, none"]
)
def test_a_request_started_by_another_site_is_refused(page, site):
    refused(page, {**page.headers, "Sec-Fetch-Site": site}, status=403)
    for path in ("/", "/api/session", "/thumb/1", "/preview/1"):
        assert (
            page.ask("GET", path, headers={"Cookie": page.cookie, "Sec-Fetch-Site": site}).status
            == 403
        )


def test_a_post_without_the_header_token_is_refused(page):
    for token in (
        None,
        "",
        "0" * 64,
        page.token[:-1],
        page.token.upper() + "x",
        page.cookie.partition("=")[2],
    ):
        headers = {name: value for name, value in page.headers.items() if name != "X-Dsk-Token"}
        refused(page, headers if token is None else {**headers, "X-Dsk-Token": token}, status=403)


@pytest.mark.parametrize(
    "kind",
    [
        None,
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/json",
        "application/jsonp",
        "application/json, text/plain",
    ],
)
def test_a_post_with_another_content_type_is_refused(page, kind):
    headers = {name: value for name, value in page.headers.items() if name != "Content-Type"}
    refused(page, headers if kind is None else {**headers, "Content-Type": kind}, status=415)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"1", b"null", b"\xff", b'{"a":' * 100_000, b"NaN", b'"text"']
)
def test_a_post_whose_body_is_no_json_object_is_refused(page, body):
    refused(page, page.headers, status=400, body=body)


def test_a_post_above_the_size_limit_is_refused(page):
    body = b" " * (security.MAX_BODY + 1)
    assert page.ask("POST", "/api/apply", body, page.headers).status == 413


@pytest.mark.parametrize("name", ["Origin", "X-Dsk-Token", "Content-Type", "Sec-Fetch-Site"])
def test_a_repeated_header_is_refused_if_one_value_is_wrong(page, name):
    own = {**page.headers, "Origin": f"http://{page.host}", "Sec-Fetch-Site": "same-origin"}
    site = {"Origin": "http://evil", "Sec-Fetch-Site": "cross-site"}
    others = {**site, "X-Dsk-Token": "0" * 64, "Content-Type": "text/plain"}
    for pair in ((own[name], others[name]), (others[name], own[name])):
        lines = [
            *(f"{key}: {value}" for key, value in own.items() if key != name),
            *(f"{name}: {one}" for one in pair),
        ]
        head = "\r\n".join(
            ["POST /api/undo HTTP/1.1", f"Host: {page.host}", *lines, "Content-Length: 2", "", "{}"]
        )
        assert page.raw(head.encode())[9:12] in (b"403", b"415")


def test_method_override_headers_are_ignored(page):
    before = captions(page.folder)
    body = json.dumps(
        {"version": page.version, "scope": {"in": "all"}, "do": {"remove": ["sks"]}}
    ).encode()
    for header in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
        assert page.ask("GET", "/api/apply", body, {**page.headers, header: "POST"}).status == 405
        headers = {"Cookie": page.cookie, "Content-Type": "application/json", header: "GET"}
        assert page.ask("POST", "/api/apply", body, headers).status == 403
    assert captions(page.folder) == before


def test_the_page_itself_may_post(page):
    headers = {**page.headers, "Origin": f"http://{page.host}", "Sec-Fetch-Site": "same-origin"}
    body = json.dumps({"scope": {"in": "all"}}).encode()
    assert page.ask("POST", "/api/tags", body, headers).status == 200


@pytest.mark.parametrize(
    "method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"]
)
def test_other_methods_do_nothing(page, method):
    before = captions(page.folder)
    for path in ("/", "/api/apply", "/api/session", "/thumb/1"):
        response = page.ask(method, path, b"{}", {"Cookie": page.cookie})
        assert response.status in (400, 403, 405)
        assert not any(name.startswith("access-control") for name in response.headers)
    assert captions(page.folder) == before


def test_a_get_changes_nothing(page):
    before = captions(page.folder)
    for name in CALLS:
        assert page.ask("GET", f"/api/{name}?do=remove", headers=page.headers).status == 405
    assert captions(page.folder) == before


def test_websockets_are_not_spoken(page):
    head = (
        f"GET /api/session HTTP/1.1\r\nHost: {page.host}\r\nUpgrade: websocket\r\nConnection: "
        "Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert b" 101 " not in page.raw(head.encode())[:20]


def test_proxy_headers_are_ignored(page):
    headers = {
        "Cookie": page.cookie,
        "Host": "evil.example",
        "X-Forwarded-Host": page.host,
        "Forwarded": page.host,
    }
    assert page.ask("GET", "/api/session", headers=headers).status == 400


# ---- headers


def test_every_response_has_the_security_headers(page):
    asked = [
        page.ask("GET", "/", headers={"Cookie": page.cookie}),
        page.ask("GET", "/page.js", headers={"Cookie": page.cookie}),
        page.ask("GET", "/api/session", headers={"Cookie": page.cookie}),
        page.ask("GET", "/thumb/1", headers={"Cookie": page.cookie}),
        page.ask("GET", "/nothing", headers={"Cookie": page.cookie}),
        page.ask("GET", "/"),
        page.ask("GET", "/", headers={"Host": "evil.example"}),
        page.ask("POST", "/api/apply", b"{", page.headers),
    ]
    for response in asked:
        policy = response.headers["content-security-policy"]
        assert (
            policy.startswith("default-src 'none';")
            and "unsafe" not in policy
            and "*" not in policy
        )
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["x-frame-options"] == "DENY"
        assert response.headers["cross-origin-resource-policy"] == "same-origin"
        assert not any(name.startswith("access-control") for name in response.headers)
        assert "server" not in response.headers


# ---- files


@pytest.mark.parametrize("path", PATHS)
def test_no_url_leads_to_another_file(page, path):
    sent = (
        f"GET {path} HTTP/1.1\r\nHost: {page.host}\r\nCookie: {page.cookie}\r\nConnection: "
        "close\r\n\r\n"
    )
    response = page.raw(sent.encode("latin-1"))
    assert response.split(b" ")[1] in (b"400", b"404"), response[:80]
    assert b"root:" not in response and b"sks" not in response


def test_an_image_that_became_a_link_is_not_followed(folder, tmp_path):
    secret = tmp_path / "secret.jpg"
    with review(folder) as browser:
        (folder / "p1.jpg").rename(secret)
        (folder / "p1.jpg").symlink_to(secret)
        # Not the thumbnail, which may be cached from before.
        assert browser.ask("GET", "/preview/2", headers={"Cookie": browser.cookie}).status in (
            404,
            409,
        )


def test_a_replaced_image_is_not_cached_under_its_old_url(folder):
    with review(folder) as browser:
        shown = browser.get("image/2")["v"]
        (folder / "p2.jpg").replace(folder / "p1.jpg")
        response = browser.ask("GET", f"/preview/2?v={shown}", headers={"Cookie": browser.cookie})
        # 409 until the page has scanned the new file, then the new image, which is not cached.
        assert response.status == 409 or response.headers["cache-control"] == "no-store"


def test_an_image_behind_a_linked_folder_is_not_shown(folder, tmp_path):
    other, decoy = tmp_path / "other", tmp_path / "decoy"
    decoy.mkdir()
    for n in range(6):
        (decoy / f"p{n}.jpg").write_bytes(b"secret")
    with review(folder) as browser:
        folder.rename(other)
        folder.symlink_to(decoy)
        for n in range(1, 7):
            # Not its thumbnail, which may be cached from before.
            response = browser.ask("GET", f"/preview/{n}", headers={"Cookie": browser.cookie})
            assert response.status in (404, 409) and b"secret" not in response.body


def test_what_is_no_image_is_never_sent(folder):
    (folder / "fake.jpg").write_text("<script>alert(1)</script>")
    with review(folder) as browser:
        assert [one["name"] for one in browser.session["failed"]] == ["fake.jpg"]
        for number in image_ids(browser):
            response = browser.ask("GET", f"/preview/{number}", headers={"Cookie": browser.cookie})
            assert (
                response.headers["content-type"] == "image/jpeg"
                and response.body[:3] == b"\xff\xd8\xff"
            )


# ---- text


EVIL = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\u202egnp.exe",
    "'\"><svg/onload=1>",
    "{{7*7}}",
]


def test_captions_and_names_are_text_in_json(folder):
    from tests.web import datasets

    for n, evil in enumerate(EVIL):
        name = evil.replace("/", "_") + f"{n}.jpg"
        datasets.drawing(folder / name, 100 + n)
        (folder / name).with_suffix(".txt").write_text(f"{evil}, solo\n", encoding="utf-8")
    with review(folder) as browser:
        shown = browser.get("images", captions=1)
        visible = [without_invisible(evil) for evil in EVIL]
        assert {f"{text}, solo" for text in visible} <= set(shown["caption"])
        response = browser.ask("GET", "/api/images?captions=1", headers={"Cookie": browser.cookie})
        assert response.headers["content-type"] == "application/json"
        assert set(visible) <= set(browser.post("tags", scope={"in": "all"})["tag"])


# ---- other hosts


def test_other_machines_have_access_only_by_an_allowed_host_name(folder):
    with pytest.raises(ConfigError, match="lets other machines in"):
        api.review(folder, ReviewOptions(host="0.0.0.0"))
    with pytest.raises(ConfigError, match="not an IP address"):
        api.review(folder, ReviewOptions(host="example.org", allow_host=("example.org",)))
    with run_server(folder, host="0.0.0.0", allow_host=("box.lan",)) as browser:
        port = browser.server.port
        assert browser.server.url.startswith(f"http://box.lan:{port}/?token=")
        query = urlsplit(browser.server.url).query
        assert browser.ask("GET", f"/?{query}", headers={"Host": f"box.lan:{port}"}).status == 303
        assert browser.ask("GET", f"/?{query}", headers={"Host": f"127.0.0.1:{port}"}).status == 400


def test_a_port_in_use_is_reported(folder, page):
    with pytest.raises(ConfigError, match="cannot listen"):
        api.review(folder, ReviewOptions(port=page.server.port))
