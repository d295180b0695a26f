"""A cache is read with `safetensors` and `pyarrow` alone, by the lines that the README shows."""

import re
from pathlib import Path

import torch

from tests.video_platform.latents.toy import POLICY, fill, record
from video_platform.latents import open_cache, snapshot
from video_platform.video.policy import ClipSize

README = Path(__file__).parents[3] / "README.md"


def shown() -> str:
    """Return the block of the README that opens a cache."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    return next(block for block in blocks if "safe_open" in block)


def test_ten_lines_read_a_cache_with_two_libraries(tmp_path, monkeypatch, capsys):
    sizes = (POLICY.size, ClipSize(5, 16, 24))
    records = [record(number, size=sizes[number % 2]) for number in range(7)]
    fill(str(tmp_path / "outputs/shapes/cache"), records, stored="bfloat16")
    snapshot(str(tmp_path / "outputs/shapes/cache"))
    monkeypatch.chdir(tmp_path)
    block = shown()
    modules = re.findall(r"^(?:import|from) (.*?)(?: import .*)?$", block, re.MULTILINE)
    assert {*", ".join(modules).split(", ")} == {"json", "pathlib", "pyarrow", "safetensors"}
    assert len([line for line in block.splitlines() if line]) == 10
    seen = {}
    exec(block, seen)
    cache = open_cache("outputs/shapes/cache")
    assert seen["row"]["id"] == cache[-1].id
    assert seen["mean"].dtype == torch.bfloat16
    assert torch.equal(seen["mean"].float(), cache[-1].mean)
    printed = capsys.readouterr().out
    assert all(f"{sample.id} {sample.caption} tensor(" in printed for sample in cache)
