"""The workflow asks for no more than it needs, and runs only what is pinned."""

import re
from pathlib import Path

import yaml

WORKFLOW = Path(__file__).parents[1] / ".github" / "workflows" / "ci.yml"
TEXT = WORKFLOW.read_text(encoding="utf-8")
JOBS = yaml.safe_load(TEXT)["jobs"]


def test_it_may_read_the_repository_and_nothing_else():
    assert yaml.safe_load(TEXT)["permissions"] == {"contents": "read"}
    for job in JOBS.values():
        assert "permissions" not in job and job["timeout-minutes"] <= 60
        for step in job["steps"]:
            if str(step.get("uses", "")).startswith("actions/checkout"):
                assert step["with"]["persist-credentials"] is False
    assert "secrets." not in TEXT and "pull_request_target" not in TEXT


def test_each_action_is_pinned_to_a_commit_and_names_its_version():
    actions = re.findall(r"uses: (.*)$", TEXT, re.MULTILINE)
    assert actions
    for action in actions:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


def test_it_runs_on_three_systems_with_every_python_that_is_supported():
    matrix = JOBS["tests"]["strategy"]["matrix"]
    assert {os.partition("-")[0] for os in matrix["os"]} == {"ubuntu", "windows", "macos"}
    assert matrix["python"] == ["3.11", "3.12", "3.13", "3.14"]


def test_the_folders_of_tests_that_it_names_exist():
    for folder in re.findall(r"\btests/[\w/.]+", TEXT):
        assert (WORKFLOW.parents[2] / folder).exists(), folder
