"""A random base is the same for the same seed, says what it is, and never overwrites a model."""

import pytest
import torch

from datasetkit.core.errors import InputError
from trainer import random_base
from trainer.families import sd


def weights(seed):
    return [value for part in random_base.parts(seed) for value in part.state_dict().values()]


def test_a_seed_makes_one_model_and_another_seed_another():
    state = torch.random.get_rng_state()
    assert all(torch.equal(a, b) for a, b in zip(weights(5), weights(5), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(weights(5), weights(6), strict=True))
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.long
def test_command_writes_a_model_that_loads_and_says_that_it_is_random(tmp_path, capsys):
    folder = tmp_path / "base"
    assert random_base.main([str(folder), "--seed", "7"]) == 0
    assert "random weights" in capsys.readouterr().out
    assert "random weights" in (folder / "README.txt").read_text(encoding="utf-8")
    loaded = sd.load(str(folder))
    assert (len(sd.targets(loaded, "unet")), len(sd.targets(loaded, "text_encoder"))) == (192, 72)
    assert random_base.main([str(folder), "--seed", "8"]) == 0  # its own folder is overwritten


def test_help_says_that_the_base_is_random(capsys):
    with pytest.raises(SystemExit):
        random_base.main(["--help"])
    assert "random weights" in " ".join(capsys.readouterr().out.split())


def test_folder_with_other_files_is_not_overwritten(tmp_path):
    (tmp_path / "model_index.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError):
        random_base.save(tmp_path)
    assert (tmp_path / "model_index.json").read_text(encoding="utf-8") == "{}"
