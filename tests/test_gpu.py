"""What only a GPU can show; skipped where there is none."""
from pathlib import Path

import pytest
import torch
from tiny_run import rows, tiny

from mmcycle.generate.translator import Translator
from mmcycle.train.trainer import train

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gpu")


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_run_trains_on_the_gpu_resumes_there_and_moves_to_the_cpu(root: Path, precision: str) -> None:
    words = ["run.accelerator=cuda", "run.devices=1", f"run.precision={precision}"]
    out = root / precision
    train(tiny(root, *words, "train.steps=8"), out)
    assert all(row["bad_steps"] == 0 for row in rows(out) if "losses" in row)
    ended = train(tiny(root, "run.accelerator=cpu", f"run.precision={precision}", "train.steps=8"), out)
    assert ended.step == 8


def test_a_translation_on_the_gpu_is_that_of_the_cpu(root: Path) -> None:
    x = torch.rand(3, 40, 56, generator=torch.Generator().manual_seed(0)) * 2 - 1
    there, here = (Translator.load(root / "32-true", device=device).translate(x) for device in ("cuda", "cpu"))
    assert (there - here).abs().max() < 5e-3                # float32 with TF32 convolutions


def test_the_replay_buffer_and_the_random_states_live_on_the_device(root: Path) -> None:
    from mmcycle.train.engine import Engine
    from mmcycle.train.step import Teacher

    config = tiny(root, "run.accelerator=cuda", "run.devices=1")
    teacher = Teacher(config, Engine(config.run))
    assert teacher.replay["b"].samples.is_cuda and teacher.model.rng.device.type == "cuda"
