"""`python -m pipelines` as a user meets it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipelines.__main__ import main
from pipelines.clip import Clip, read_provenance, save_clip
from tests.tiny import make_card
from video_platform.errors import ConfigError

REPOSITORY = Path(__file__).parents[2]


def run(code_or_args, **options):
    return subprocess.run(
        [sys.executable, *code_or_args],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        env={
            "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY}/platform",
            "PATH": "",
            "OMP_NUM_THREADS": "1",
        },
        **options,
    )


def test_generating_loads_neither_ray_nor_deepspeed_nor_mlflow(model, tmp_path):
    code = (
        "import sys; from pipelines.__main__ import main; "
        f"main([{str(model)!r}, 'a red circle', '--out', {str(tmp_path / 'c.mp4')!r}]); "
        "print(sorted({'ray', 'deepspeed', 'mlflow', 'transformers', 'pandas'} & set(sys.modules)))"
    )
    result = run(["-c", code], check=True)
    assert result.stdout.splitlines()[-1] == "[]"
    assert (tmp_path / "c.mp4").is_file()


def test_a_clip_says_what_made_it(model, tmp_path, capsys):
    out = tmp_path / "deep" / "clip.mp4"
    main([str(model), "a red circle", "--out", str(out), "--seed", "5", "--steps", "1"])
    told = read_provenance(out)
    assert told["ai_generated"] is True
    assert told["digital_source_type"].endswith("trainedAlgorithmicMedia")
    assert (told["model"], told["seed"], told["steps"]) == ("tiny", 5, 1)
    assert told["run_id"] == make_card().run_id
    assert "red" not in json.dumps(told)  # the prompt travels as a hash only
    sidecar = json.loads(out.with_suffix(".json").read_text())
    assert sidecar["frames"] == 5
    assert told.items() <= sidecar.items()
    assert "seed 5" in capsys.readouterr().out


def test_the_same_command_writes_the_same_file(model, tmp_path):
    for name in ("a", "b"):
        main([str(model), "a red circle", "--out", str(tmp_path / f"{name}.mp4"), "--seed", "1"])
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere", "x"], "there is no model folder 'nowhere'"),
        ([".", "x"], "not a model folder"),
        (["MODEL", "x", "--height", "17"], "multiples of 8"),
        (["MODEL", "x", "--out", "clip.avi"], "must end in .mp4"),
        (["MODEL", "x", "--steps", "many"], "'--steps'"),
        (["MODEL"], "PROMPT"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(model, arguments, told):
    arguments = [str(model) if word == "MODEL" else word for word in arguments]
    result = run(["-m", "pipelines", *arguments])
    assert result.returncode == 2
    assert told in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_place_that_cannot_be_written_is_told(model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write"):
        main([str(model), "x", "--out", str(tmp_path / "file" / "clip.mp4")])


def test_help_is_quick_to_load():
    code = "import sys, pipelines.__main__; print('torch' in sys.modules)"
    assert run(["-c", code], check=True).stdout.strip() == "False"


def test_a_file_without_provenance_tells_nothing(tmp_path):
    from video_platform.video.encode import write_mp4

    frames = np.zeros((5, 16, 16, 3), dtype=np.uint8)
    write_mp4(tmp_path / "a.mp4", frames, fps=8.0)
    assert read_provenance(tmp_path / "a.mp4") == {}
    save_clip(Clip(frames=frames, fps=8.0), tmp_path / "b.mp4")
    assert read_provenance(tmp_path / "b.mp4")["ai_generated"] is True
