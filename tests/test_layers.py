"""The layers hold: who may import whom, read from the source."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "video_platform": ROOT / "platform" / "video_platform",
    "video_models": ROOT / "video_models",
    "pipelines": ROOT / "pipelines",
    "jobs": ROOT / "jobs",
}
ALLOWED = {
    "video_platform": set(),
    "video_models": set(),
    "pipelines": {"video_models", "video_platform"},
    "jobs": {"pipelines", "video_models", "video_platform"},
}
ONLY_IN_MODELS = {"torch": None, "safetensors": {"formats"}, "transformers": {"image", "text"}}
"""What `video_models` may import beside the standard library, and in which rooms (None: all)."""


def imports_of(path: Path) -> set[str]:
    """Return the full names of the modules that a file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            names.add(node.module or "")
    return names


def test_platform_folder_is_no_package():
    assert not (ROOT / "platform" / "__init__.py").exists()
    assert not (ROOT / "tests" / "platform" / "__init__.py").exists()


@pytest.mark.parametrize("package", PACKAGES)
def test_arrows_between_our_packages_point_down(package):
    for path in PACKAGES[package].rglob("*.py"):
        ours = {name.split(".")[0] for name in imports_of(path)} & PACKAGES.keys()
        assert ours <= ALLOWED[package] | {package}, f"{path} imports {ours}"


def test_models_need_nothing_but_torch():
    room = PACKAGES["video_models"]
    for path in room.rglob("*.py"):
        for name in (
            {name.split(".")[0] for name in imports_of(path)}
            - sys.stdlib_module_names
            - {"video_models"}
        ):
            assert name in ONLY_IN_MODELS, f"{path} imports {name}"
            rooms = ONLY_IN_MODELS[name]
            inside = rooms is None or path.relative_to(room).parts[0] in rooms
            assert inside, f"{path} imports {name}"


def test_recipes_can_be_read_without_the_heavy_libraries():
    import subprocess

    heavy = {"torch", "ray", "mlflow", "deepspeed", "transformers", "av", "pyarrow", "pandas"}
    code = f"import sys, jobs.recipe, jobs.cli; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_files_stay_small_enough_to_read():
    for root in (*PACKAGES.values(), ROOT / "tests"):
        for path in root.rglob("*.py"):
            assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path
