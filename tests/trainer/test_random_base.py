"""The stand-in is the same for the same seed, says that it knows nothing, and overwrites no real
model.
"""

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


def test_the_command_writes_a_model_that_loads_and_says_that_it_knows_nothing(tmp_path, capsys):
    folder = tmp_path / "base"
    assert random_base.main([str(folder), "--seed", "7"]) == 0
    assert "knows nothing" in capsys.readouterr().out
    assert "knows nothing" in (folder / "README.txt").read_text(encoding="utf-8")
    loaded = sd.load(str(folder))
    assert (len(sd.targets(loaded, "unet")), len(sd.targets(loaded, "text_encoder"))) == (192, 72)
    assert random_base.main([str(folder), "--seed", "8"]) == 0  # its own folder is made anew


def test_help_says_that_it_knows_nothing(capsys):
    with pytest.raises(SystemExit):
        random_base.main(["--help"])
    assert "knows nothing" in " ".join(capsys.readouterr().out.split())


def test_a_folder_with_anything_else_in_it_is_left_alone(tmp_path):
    (tmp_path / "model_index.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError):
        random_base.save(tmp_path)
    assert (tmp_path / "model_index.json").read_text(encoding="utf-8") == "{}"
