"""The captioner that asks a server, and what happens when the server misbehaves."""

import base64
import email.utils
import io
import threading
import time

import pytest
from PIL import Image

from datasetkit.core.errors import ConfigError, Exit
from taggers import chat_client
from taggers.captioner import CaptionerOptions, Description, NoDescription
from taggers.captioners import resolve
from taggers.chat_client import ServerUnusable, base_of, is_this_machine
from tests import chat_server
from tests.chat_server import error, raw, says

RED = Image.new("RGB", (40, 30), "red")


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(chat_client, "FIRST_PAUSE", 0.001)
    monkeypatch.delenv(chat_client.KEY_VARIABLE, raising=False)
    with chat_server.serve() as running:
        yield running


def opened(server, **options):
    found = resolve("server", CaptionerOptions(endpoint=server.endpoint, **options))
    found.fetch()
    return found.open()


def ask(server, image=RED, prompt="Describe it.", **options):
    captioner = opened(server, **options)
    (answer,) = captioner.describe([(captioner.prepare(image), prompt)])
    return answer


# ---- what is sent


def test_request_has_the_prompt_the_image_and_the_settings(server):
    answer = ask(
        server, system="Be plain.", temperature=0.5, top_p=0.9, max_tokens=77, seed=3, model="m"
    )
    assert answer == Description("A red square.")
    (request,) = server.requests
    assert request["model"] == "m"
    assert request["messages"][0] == {"role": "system", "content": "Be plain."}
    text, image = request["messages"][1]["content"]
    assert text == {"type": "text", "text": "Describe it."}
    head, _, data = image["image_url"]["url"].partition(",")
    assert head == "data:image/jpeg;base64"
    sent = Image.open(io.BytesIO(base64.b64decode(data)))
    assert sent.size == RED.size
    assert (request["temperature"], request["top_p"], request["max_tokens"]) == (0.5, 0.9, 77)
    assert (request["seed"], request["stream"]) == (3, False)


def test_large_images_are_sent_smaller_and_small_ones_as_they_are(server):
    captioner = opened(server, max_side=64)
    for size, expected in (((640, 320), (64, 32)), ((1000, 1), (64, 1)), ((64, 64), (64, 64))):
        url = captioner.prepare(Image.new("RGB", size))
        data = base64.b64decode(url.partition(",")[2])
        assert Image.open(io.BytesIO(data)).size == expected


def test_key_comes_from_the_environment_and_is_shown_nowhere(server, monkeypatch):
    monkeypatch.setenv(chat_client.KEY_VARIABLE, "sk-secret\n")
    assert isinstance(ask(server), Description)
    assert server.headers["Authorization"] == "Bearer sk-secret"
    server.replies = [error(400, "the key sk-secret is wrong")]
    answer = ask(server)
    assert "the key ... is wrong" in answer.reason
    assert "sk-secret" not in repr(resolve("server", CaptionerOptions(endpoint=server.endpoint)))
    monkeypatch.setenv(chat_client.KEY_VARIABLE, "two words")
    with pytest.raises(ConfigError) as refused:
        ask(server)
    assert "two words" not in refused.value.message


def test_proxies_of_the_environment_do_not_see_images_for_this_machine(server, monkeypatch):
    with chat_server.serve() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.address)
        assert isinstance(ask(server), Description)
        assert proxy.requests == []


# ---- where it is sent


@pytest.mark.parametrize(
    ("typed", "base"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/v1"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080/v1"),
        ("http://localhost:11434/v1/", "http://localhost:11434/v1"),
        ("http://[::1]:1234/v1/chat/completions", "http://[::1]:1234/v1"),
        ("https://host/api/v2", "https://host/api/v2"),
    ],
)
def test_address_is_taken_as_people_copy_it(typed, base):
    assert base_of(typed) == base


@pytest.mark.parametrize(
    "typed",
    [
        "", "localhost:8080", "ftp://localhost/", "http://", "http://host:port/", "file:///etc",
        "http://me:secret@host/v1", "http://host/v1?key=secret", "http://ho st/v1",
        "http://host/v1\nX: y",
    ],
)  # fmt: skip
def test_what_is_not_an_address_is_refused_without_showing_a_password(typed):
    with pytest.raises(ConfigError) as refused:
        base_of(typed)
    assert "secret" not in refused.value.message + refused.value.hint


def test_other_machines_need_consent_and_a_notice_says_where_images_go():
    for base in ("http://127.0.0.1:1/v1", "http://127.8.9.1/v1", "http://[::1]/v1"):
        assert is_this_machine(base)
    for base in ("http://192.168.1.5/v1", "http://127.0.0.1.example.org/v1", "https://api.x/v1"):
        assert not is_this_machine(base)
        with pytest.raises(ConfigError, match="another machine"):
            resolve("server", CaptionerOptions(endpoint=base, model="m"))
    allowed = resolve(
        "server", CaptionerOptions(endpoint="http://192.168.1.5/v1", model="m", remote=True)
    )
    assert allowed.notice == (
        "the images are sent to 192.168.1.5, and nothing is encrypted on the way"
    )
    safe = resolve("server", CaptionerOptions(endpoint="https://x.y/v1", model="m", remote=True))
    assert safe.notice == "the images are sent to x.y"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(server, status):
    with chat_server.serve() as other:
        server.replies = [error(status, Location=f"{other.endpoint}/chat/completions")]
        with pytest.raises(ServerUnusable, match="redirects to"):
            ask(server)
        assert other.requests == []


# ---- which model


def test_only_model_of_a_server_needs_no_name(server):
    found = resolve("server", CaptionerOptions(endpoint=server.endpoint))
    assert found.identity.name == "server:tiny"


def test_several_models_are_listed_and_none_is_chosen(server):
    server.models = ["one", "two"]
    with pytest.raises(ConfigError) as refused:
        resolve("server", CaptionerOptions(endpoint=server.endpoint))
    assert "one | two" in refused.value.hint
    server.models = []
    with pytest.raises(ServerUnusable, match="has no model"):
        resolve("server", CaptionerOptions(endpoint=server.endpoint))
    server.models = None
    with pytest.raises(ServerUnusable, match="does not list"):
        resolve("server", CaptionerOptions(endpoint=server.endpoint))
    assert isinstance(ask(server, model="named"), Description)


def test_a_server_that_is_not_there_stops_the_run():
    found = resolve("server", CaptionerOptions(endpoint="http://127.0.0.1:9/v1", model="m"))
    with pytest.raises(ServerUnusable, match="cannot be reached") as refused:
        found.fetch()
    assert refused.value.exit_code == Exit.MODEL
    assert "start the server" in refused.value.hint


# ---- failures that pass, and those that do not


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_failures_that_may_pass_are_repeated(server, status):
    server.replies = [error(status, "busy"), error(status), says("Fine.")]
    assert ask(server) == Description("Fine.")
    assert len(server.requests) == 3


def test_after_five_attempts_the_image_fails_with_the_words_of_the_server(server):
    server.replies = [error(500, "no slots\nleft")]
    answer = ask(server)
    assert isinstance(answer, NoDescription)
    assert "answered 500: no slots left, 5 times" in answer.reason
    assert len(server.requests) == 5


def test_retry_after_is_obeyed(server):
    server.replies = [error(429, "slow down", Retry_After="0.15"), says("Fine.")]
    begin = time.monotonic()
    assert ask(server) == Description("Fine.")
    assert time.monotonic() - begin >= 0.14


def test_retry_after_may_be_a_date():
    in_a_minute = email.utils.formatdate(time.time() + 60, usegmt=True)
    assert 50 < (chat_client._retry_after(in_a_minute) or 0) <= 61
    assert chat_client._retry_after("Mon, 30 Nov 1998 05:11:32 GMT") == 0


@pytest.mark.parametrize("value", ["-5", "nan", "soon", "inf"])
def test_odd_retry_after_is_ignored(server, value):
    server.replies = [error(503, Retry_After=value), says("Fine.")]
    assert ask(server) == Description("Fine.")


@pytest.mark.parametrize(("status", "named"), [(401, "DSK_CAPTION_KEY"), (404, "--endpoint")])
def test_key_and_address_that_are_wrong_stop_the_run(server, status, named):
    server.replies = [error(status, "nope")]
    with pytest.raises(ServerUnusable, match="nope") as refused:
        ask(server)
    assert named in refused.value.hint
    assert len(server.requests) == 1


def test_image_that_the_server_refuses_fails_alone_and_is_not_repeated(server):
    server.replies = [error(400, "image too large"), says("Fine.")]
    captioner = opened(server)
    first, second = captioner.describe([(captioner.prepare(RED), "a")] * 2)
    assert "image too large" in first.reason
    assert second == Description("Fine.")


def test_a_server_that_hangs_ends_at_the_timeout(server):
    server.replies = [server.hang]
    begin = time.monotonic()
    answer = ask(server, timeout=0.1)
    assert "did not answer within 0.1 s" in answer.reason
    assert time.monotonic() - begin < 5


def test_a_server_that_sends_a_byte_now_and_then_ends_at_the_timeout_too(server):
    def drip(handler, _):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.05)

    server.replies = [drip]
    begin = time.monotonic()
    answer = ask(server, timeout=0.2)
    assert "did not answer within 0.2 s" in answer.reason
    assert time.monotonic() - begin < 5


def test_cut_body_is_repeated(server):
    server.replies = [raw(b'{"choices": [', length=500), says("Fine.")]
    assert ask(server) == Description("Fine.")


def test_closed_connection_is_repeated(server):
    server.replies = [lambda handler, _: handler.connection.close(), says("Fine.")]
    assert ask(server) == Description("Fine.")


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (raw(b"<html>hello</html>", kind="text/html"), "is not JSON but text/html"),
        (raw(b"data: {}\n\n", kind="text/event-stream"), "is not JSON but text/event-stream"),
        (raw(b"\xff\xfe\x00"), "is not JSON"),
        (raw(b"[" * 100_000), "is not JSON"),
        (raw(b"[]"), "is not a JSON object"),
        (raw(b"{}"), "has no message"),
        (raw(b'{"choices": []}'), "has no message"),
        (raw(b'{"choices": [{"message": null}]}'), "has no message"),
        (raw(b'{"choices": [7]}'), "has no message"),
        (raw(b'{"error": {"message": "out of \\u001b[31mmemory"}}'), "has no message: out of"),
        (raw(b" " * (chat_client.LARGEST_ANSWER + 10)), "larger than 4 MB"),
    ],
)
def test_answers_that_are_none_fail_for_their_image(server, reply, reason):
    server.replies = [reply]
    answer = ask(server)
    assert reason in answer.reason
    assert "\x1b" not in answer.reason


def test_json_under_another_content_type_is_read(server):
    good = b'{"choices": [{"message": {"content": "Fine."}}]}'
    server.replies = [raw(good, kind="text/plain")]
    assert ask(server) == Description("Fine.")


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (says(""), "empty"),
        (says(None), "empty"),
        (says(" \n"), "empty"),
        (says(17), "empty"),
        (says("I'm sorry, but I can't help with that."), "refused"),
        (says("", refusal="not allowed"), "refused to describe it: not allowed"),
        (says("A cat.", reason="content_filter"), "filter"),
        (says("A red squ", reason="length"), "cut off in its first sentence"),
        (says("<think>It is red", reason="length"), "cut off while"),
    ],
)
def test_refusals_and_empty_answers_are_failures_of_the_image(server, reply, reason):
    server.replies = [reply]
    answer = ask(server)
    assert isinstance(answer, NoDescription)
    assert reason in answer.reason
    assert len(server.requests) == 1


@pytest.mark.parametrize("reason", ["stop", None, "eos", "tool_calls"])
def test_other_finish_reasons_keep_the_text(server, reason):
    server.replies = [says("A cat.", reason=reason)]
    assert ask(server) == Description("A cat.")


def test_answer_at_the_limit_is_kept_up_to_its_last_full_sentence(server):
    server.replies = [says("A cat sits. It has 3.5 kg. Its fur is", reason="length")]
    answer = ask(server)
    assert answer.text == "A cat sits. It has 3.5 kg."
    assert "cut off" in answer.note


def test_text_in_parts_is_joined(server):
    server.replies = [says([{"type": "text", "text": "A "}, {"type": "text", "text": "cat."}, 5])]
    assert ask(server) == Description("A cat.")


def test_server_that_fails_for_every_image_stops_the_run(server):
    server.replies = [raw(b"nonsense")]
    captioner = opened(server)
    with pytest.raises(ServerUnusable, match="5 images in a row"):
        captioner.describe([(captioner.prepare(RED), "a")] * 20)
    assert len(server.requests) == 5


def test_images_that_the_model_refuses_do_not_stop_the_run(server):
    server.replies = [says("")]
    captioner = opened(server)
    answers = captioner.describe([(captioner.prepare(RED), "a")] * 8)
    assert len(answers) == 8


def test_close_ends_requests_that_are_on_their_way(server):
    server.replies = [server.hang]
    captioner = opened(server, timeout=60)
    answers = []
    thread = threading.Thread(
        target=lambda: answers.extend(captioner.describe([(captioner.prepare(RED), "a")]))
    )
    thread.start()
    while not server.requests:
        time.sleep(0.01)
    captioner.close()
    thread.join(5)
    assert not thread.is_alive()
    assert "stopped" in answers[0].reason
