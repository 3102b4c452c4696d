"""The command that calibrates: what it cannot do it says in words."""

import os
import subprocess
import sys
from pathlib import Path

from nlui.training_model import write_random_model


def complaint(*arguments: str, models: Path) -> str:
    command = [sys.executable, "-m", "llmos.nlui.calibrate", *arguments]
    environment = os.environ | {"LLMOS_MODELS": str(models)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_model_without_an_adapter_has_no_card(tmp_path: Path) -> None:
    model = write_random_model(tmp_path / "random.gguf", "qwen2")
    assert "has no adapter whose card could hold" in complaint("--model", str(model), models=tmp_path)


def test_too_few_pairs_are_refused_before_any_is_asked(tmp_path: Path) -> None:
    assert "20 pairs are too few" in complaint("--pairs", "20", models=tmp_path)
