"""The Dockerfile and compose.yaml: what can be said of them without a daemon."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
STAGES = dict(re.findall(r"^FROM \S+ AS (\w+)\n(.*?)(?=^FROM|\Z)", DOCKERFILE,
                                            re.MULTILINE | re.DOTALL))  # fmt: skip


def test_both_images_run_as_a_user_with_a_health_check_and_volumes():
    for stage in ("cpu", "cuda"):
        body = STAGES[stage]
        for line in (
            "USER 1000",
            'VOLUME ["/data", "/models"]',
            'ENTRYPOINT ["dsk"]',
            "HEALTHCHECK",
        ):
            assert line in body, (stage, line)


def test_what_is_installed_is_pinned_by_the_constraints_and_an_extra_that_exists():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    for stage, extra in (("cpu", "all-cpu"), ("cuda", "all-gpu")):
        [line] = re.findall(r"pip install .*", STAGES[stage])
        assert "--constraint /opt/constraints.txt" in line and f"[{extra}]" in line
        assert extra in extras
    assert "latest" not in DOCKERFILE and "apt-get" not in DOCKERFILE


def test_what_is_copied_exists_and_is_not_ignored():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists() and f"!{source}" in ignored, source


def test_each_service_is_built_from_a_target_and_gains_no_rights():
    for name, service in COMPOSE["services"].items():
        assert service["build"]["target"] in STAGES, name
        assert service["cap_drop"] == ["ALL"] and service["init"] is True
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:")  # of this machine only
        needs_card = "deploy" in service
        assert needs_card == (service["build"]["target"] == "cuda"), name


@pytest.mark.long
@pytest.mark.parametrize("name", ["studio", "studio-cuda"])
def test_the_page_of_compose_takes_options_that_dsk_has(name):
    from tests.cli.commands import commands

    service = COMPOSE["services"][name]
    words = service["command"]
    assert words[:2] == ["studio", "."]
    named = {word for word in words if str(word).startswith("--")}
    params = commands()["studio"].params
    assert named <= {option for param in params for option in (*param.opts, *param.secondary_opts)}
    port = words[words.index("--port") + 1]
    assert service["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert f"'127.0.0.1', {port}" in service["healthcheck"]["test"][-1]
    assert words[words.index("--root") + 1] in {line.split(":")[1] for line in service["volumes"]}


def test_one_page_starts_with_docker_compose_up():
    services = COMPOSE["services"]
    assert [name for name in services if "profiles" not in services[name]] == ["studio"]


def test_the_page_on_docker_names_services_that_compose_has():
    page = (ROOT / "docs" / "docker.md").read_text(encoding="utf-8")
    comments = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    for text in (page, comments):
        named = re.findall(r"docker compose (?:up|run(?: --rm)?) ([\w-]+)", text)
        assert named and set(named) <= set(COMPOSE["services"])
