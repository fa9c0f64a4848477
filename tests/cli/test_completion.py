"""Shell completion: installed by dsk in a home of its own, then asked for in a new shell."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What is typed -> a word that must be offered, in each shell.
TYPED = {"dsk tr": "train", "dsk export --format d": "diffusion-pipe", "dsk lora me": "merge"}
BASH = """
source ~/.bashrc
complete -p dsk >/dev/null
while IFS= read -r typed; do
  read -ra COMP_WORDS <<< "$typed"; COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
  _dsk_completion dsk; echo "${COMPREPLY[@]}"
done
"""
ZSH = """
source ~/.zshrc
[[ -n ${_comps[dsk]} ]] || exit 1
while IFS= read -r typed; do
  _TYPER_COMPLETE_ARGS="$typed" _DSK_COMPLETE=complete_zsh dsk | tr '\\n' ' '; echo
done
"""
FISH = """
source ~/.config/fish/completions/dsk.fish
while read typed; complete -C $typed | tr '\\n' ' '; echo; end
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


@pytest.fixture
def env(tmp_path):
    program = tmp_path / "bin" / "dsk"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m datasetkit "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"HOME": str(tmp_path), "PATH": path, "PYTHONPATH": str(ROOT),
                         "XDG_CONFIG_HOME": str(tmp_path / ".config")}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("shell", list(SCRIPTS))
def test_what_dsk_installs_completes_commands_options_and_values(shell, env):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    # It is installed for the shell that dsk runs in; `; true` keeps that from being replaced.
    done = subprocess.run(
        [shell, "-c", "dsk --install-completion; true"], env=env, capture_output=True, text=True
    )
    assert f"{shell} completion installed" in done.stdout, done.stdout + done.stderr
    options = {"bash": ["--norc"], "zsh": ["-f"], "fish": []}[shell]
    asked = subprocess.run(
        [shell, *options, "-c", SCRIPTS[shell]], env=env, capture_output=True, text=True,
        input="".join(f"{typed}\n" for typed in TYPED),
    )  # fmt: skip
    answers = asked.stdout.splitlines()
    assert len(answers) == len(TYPED), asked.stdout + asked.stderr
    for answer, word in zip(answers, TYPED.values(), strict=True):
        assert word in answer, asked.stdout + asked.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_lines_of_the_page_print_a_script(shell, env):
    text = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    assert f"_DSK_COMPLETE=source_{shell} dsk" in text
    done = subprocess.run(
        ["dsk"], env=env | {"_DSK_COMPLETE": f"source_{shell}"}, capture_output=True, text=True
    )
    assert done.returncode == 0 and "dsk" in done.stdout and "complet" in done.stdout
