"""The README's file map is the tree: each file with the first line of its docstring.

Run `python tests/test_readme.py` to write the map anew.
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
ROOMS = ("jobs", "pipelines", "video_models", "platform/video_platform")
MAP = re.compile(r"(?<=<!-- map -->\n).*(?=<!-- /map -->)", re.DOTALL)


def file_map() -> str:
    """Return one table a package: file and purpose."""
    blocks = []
    for room in ROOMS:
        lines = [f"**{room}/**", "", "| file | what it holds |", "|---|---|"]
        for path in sorted((ROOT / room).rglob("*.py")):
            summary = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            name = path.relative_to(ROOT / room).as_posix()
            lines.append(
                f"| `{name}` | {summary.splitlines()[0].rstrip('.:') if summary else ''} |"
            )
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def test_the_file_map_is_the_tree():
    match = MAP.search(README.read_text(encoding="utf-8"))
    assert match, "README.md has no file map between its <!-- map --> marks"
    assert match[0] == file_map(), "run `python tests/test_readme.py` to write the map anew"


if __name__ == "__main__":
    README.write_text(MAP.sub(lambda _: file_map(), README.read_text(encoding="utf-8")))
