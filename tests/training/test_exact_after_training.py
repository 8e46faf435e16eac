"""What training leaves has its ranges for exact arithmetic, and so makes exact streams."""

import pytest

from dcvc.checkpoint import load_codec
from dcvc.cli import main
from dcvc.demo.footage import Take, write_takes

COMMON = ["--max_steps", "1", "--num_workers", "0", "--device", "cpu", "--quiet"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("videos")
    write_takes([Take(2, 0, False)], folder, 6, size=(96, 64))
    return ["--train_video_dir", str(folder), "--val_video_dir", str(folder)]


def test_a_recipe_and_a_stage_of_a_light_codec(videos, tmp_path):
    recipe = ["--recipe", "light-smoke", "--set", "stage1.crop_size=64", "stage1.batch_size=2"]
    stage = ["--codec", "light", "--model_size", "s", "--stage", "1", "--crop_size", "64", "--batch_size", "2",
             "--use_video_dataset", "--skip_eval"]
    for name, words in (("recipe", recipe), ("stage", stage)):
        assert main(["train", *words, *videos, *COMMON, "--checkpoint_dir", str(tmp_path / name)]) == 0
        assert load_codec(tmp_path / name).form().exact, name
