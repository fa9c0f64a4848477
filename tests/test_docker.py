"""The Dockerfile and compose.yaml: what can be said of them without a daemon."""

import re
import tomllib
from pathlib import Path

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
    ports = COMPOSE["services"]["review"]["ports"]
    assert ports == ["127.0.0.1:8765:8765"]  # of this machine only


def test_the_review_page_of_compose_takes_options_that_dsk_has():
    from tests.cli.commands import commands

    words = COMPOSE["services"]["review"]["command"]
    assert words[0] == "review"
    named = {word for word in words if str(word).startswith("--")}
    params = commands()["review"].params
    assert named <= {name for param in params for name in (*param.opts, *param.secondary_opts)}
