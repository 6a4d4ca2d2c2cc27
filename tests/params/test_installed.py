"""A wheel is enough: prompt tables, methods and backbones load in a folder that holds no clone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "Snakefile", "stages", "Infinity")
PARTS += ("params", "data", "workflow", "profiles")
USES = """
import os, sys
from pathlib import Path
import stages
assert Path(stages.__file__).is_relative_to(sys.argv[1]), stages.__file__
from stages.params import method_params, names
from stages.params.check import find_path
from stages.params.concept import load_concept
from stages.params.datasets import read_prompts
from stages.params.project import located, make, writable
from stages.params.study import load_study

red = load_concept("red")  # in a folder that holds nothing: what came with the package
print(red.name, len(names("methods")) > 40, method_params("esd", "sd-shapes")["steps"], located(red.dataset).is_file())
try:
    writable()
except ValueError as error:
    print(error)
print(read_prompts(sys.argv[2])["prompt"][0])
print(*make(Path("mine")))
Path("mine/params/concepts/blue.yaml").write_text("prompts: [a]\\nneutral: [b]\\nretain: [c]\\n")
os.environ["PALIMPSEST_HOME"] = str(Path("mine").absolute())
print("blue" in names("concepts"), len(load_study("smoke").runs), load_concept("red") == red, writable())
print(find_path("data/black_box.yaml") == Path("mine/data/black_box.yaml").absolute())
os.environ["PALIMPSEST_HOME"] = sys.argv[3]
from stages.methods import load_method
print(load_method("esd", "sd-shapes").steps)
from stages.backbones.loading.by_name import load_settings
print(load_settings("sd-shapes")[1].path)
os.environ["PALIMPSEST_HOME"] = "/nowhere"
try:
    load_concept("red")
except ValueError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that a wheel of this project was installed to, and nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    source = folder / "source"
    source.mkdir()
    for part in PARTS:
        subprocess.run(["cp", "-r", str(ROOT / part), str(source)], check=True)
    offline = ["--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "wheel", *offline, "--wheel-dir", str(folder), str(source)], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run(
        [*pip, "install", "--no-deps", "--no-index", "--target", str(folder / "site"), str(wheel)], check=True
    )
    return folder / "site"


def test_an_installed_library_reads_tables_methods_and_backbones_outside_a_clone(site: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("id,set,prompt,colour,without_colour,seed\n0,full,a red cup,red,a cup,0\n")
    env = {name: value for name, value in os.environ.items() if name != "PALIMPSEST_HOME"} | {"PYTHONPATH": str(site)}
    command = [sys.executable, "-c", USES, str(site), str(table), str(ROOT)]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = ROOT / "artifacts/backbones/sd-shapes"
    assert done.stdout.splitlines() == [
        "red True 150 True",
        f"{tmp_path} is no project folder (it has no params/); make one with: palimpsest init FOLDER",
        "a red cup",
        "params data Snakefile workflow profiles",
        f"True 3 True {tmp_path / 'mine'}",
        "True",
        "150",
        "artifacts/backbones/sd-shapes" if not made.exists() else str(made),
        "no concept 'red'; have: none; there is no folder /nowhere/params: set PALIMPSEST_HOME to a project, or make "
        "one: palimpsest init",
    ]
    assert not (tmp_path / "mine/data/zoo").exists()
    assert (tmp_path / "mine/profiles/default/config.yaml").is_file()


def test_the_installed_command_lists_what_came_with_it_and_makes_a_project(site: Path, tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name != "PALIMPSEST_HOME"} | {"PYTHONPATH": str(site)}

    def said(*options: str) -> str:
        command = [sys.executable, str(site / "bin" / "palimpsest"), *options]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert {"red", "dog"} <= {line.split()[0] for line in said("list", "concepts").splitlines()}
    assert said("init", "mine").startswith(f"{tmp_path / 'mine'}: params, data, Snakefile")
    assert "valid as it stands" in said("--project", "mine", "new", "concept", "owl")
    assert (tmp_path / "mine/params/concepts/owl.yaml").is_file()
