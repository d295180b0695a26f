"""The command line: what it lists, what it refuses, and in which words."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs.cli import RECIPE_JOBS, main
from jobs.recipe import Recipe
from jobs.submit import rooted
from video_platform.config import load_recipe, to_yaml

RECIPES = Path(__file__).parents[2] / "jobs" / "recipes"


def test_help_names_every_command_and_answers_at_once():
    start = time.process_time()
    children = os.times()
    result = subprocess.run(
        [sys.executable, "-m", "jobs.cli", "--help"], capture_output=True, text=True, check=True
    )
    spent = os.times().children_user - children.children_user
    assert spent + time.process_time() - start < 2, "something heavy is imported for --help"
    for name in (*RECIPE_JOBS, "inspect", "cache", "generate", "submit", "lineage"):
        assert name in result.stdout


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_is_valid_and_prints_as_a_recipe_that_says_the_same(path, tmp_path, capsys):
    assert main(["pretrain", str(path), "--print-config"]) == 0
    printed = tmp_path / "printed.yaml"
    printed.write_text(capsys.readouterr().out)
    recipe = load_recipe(Recipe, path)
    assert load_recipe(Recipe, printed) == recipe
    assert to_yaml(recipe) == printed.read_text()


def test_the_project_folder_is_named_once():
    recipe = load_recipe(Recipe, RECIPES / "shapes.yaml", ["project=here"])
    assert (recipe.source.url, recipe.cache.url) == ("here/videos", "here/cache")


def test_a_submitted_job_finds_what_is_meant_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    layers = "layers={codes: {kind: codes, path: vq}, edges: {kind: control, method: edges}}"
    given = ['autoencoder.path="a: b"', "cache.url=s3://bucket/cache", layers]
    recipe = load_recipe(Recipe, RECIPES / "shapes.yaml", given)
    sent = load_recipe(Recipe, RECIPES / "shapes.yaml", [*given, *rooted(recipe)])
    assert sent.folder == tmp_path / "outputs/shapes"
    assert sent.source.url == str(tmp_path / "outputs/shapes/videos")
    assert sent.cache.url == "s3://bucket/cache"
    assert sent.autoencoder_folder == tmp_path / "a: b"
    assert sent.layers["codes"].path == str(tmp_path / "vq")
    assert sent.layers["edges"] == recipe.layers["edges"]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["precompute", "none.yaml"], "there is no recipe file 'none.yaml'"),
        (["precompute", "{shapes}", "sorce.url=x"], "did you mean 'source'"),
        (["precompute", "{shapes}", "cache.unit_size=many"], "cache.unit_size = 'many'"),
        (["precompute", "{shapes}", "cache.unit_size"], "section.key=value"),
        (["pretrain", "{shapes}", "pretrain=null"], "pretrain needs pretrain"),
        (["precompute", "{shapes}", "cache=null"], "precompute needs cache"),
        (["precompute", "{shapes}", "--plan", "cache=null"], "precompute needs cache"),
        (["precompute", "{shapes}", "text=[{{kind: t5}}]"], "text.0: a t5 encoder needs path"),
        (["precompute", "{shapes}", "text=[{{}}, {{}}]"], "several encoders called 'words'"),
        (["precompute", "{shapes}", "model.text=t5"], "model.text is 't5'; text has words"),
        (
            ["precompute", "{shapes}", "layers={{a: {{kind: mask}}}}"],
            "layers.a: a mask layer needs",
        ),
        (["cache", "gc", "cache", "--older-than", "soon"], "give an age such as 12h or 7d"),
        (["distil", "{shapes}"], "distil"),
        (["pretrain"], "RECIPE"),
    ],
)
def test_wrong_use_is_one_clear_line_and_exit_code_2(argv, words, capsys):
    argv = [part.format(shapes=RECIPES / "shapes.yaml") for part in argv]
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_print_config_shows_overrides(capsys):
    assert main(["precompute", str(RECIPES / "shapes.yaml"), "name=mine", "--print-config"]) == 0
    assert "name: mine" in capsys.readouterr().out
