"""The documents say what is so: tables list params/, links and paths lead somewhere, and what they add can be added."""

import ast
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from stages.params import KINDS, names

ROOT = Path(__file__).parents[1]
WRITTEN = [page for page in sorted((ROOT / "docs").rglob("*.md")) if "results" not in page.parts]  # those are derived
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *WRITTEN]
FILE = re.compile(r"^(Add to )?(?:Write\n)?`([\w./-]+\.\w+)`:\n\n```\w+\n(.*?)^```", re.DOTALL | re.MULTILINE)
COUNTS = {"one": 1, "two": 2, "three": 3}
COPIED = ("stages", "Infinity", "params", "data", "docs", "README.md")

page_of = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@cache
def load_generator(name: str = "generate"):
    """docs/generate.py, which MkDocs calls and no package holds, or a module beside it."""
    if name != "generate":
        load_generator()  # which makes those beside it importable
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    return load_generator().pages()


def files_of(page: Path) -> list[tuple[bool, str, str]]:
    """The files that a page gives in full: whether it adds to one, its path, its text."""
    return [(bool(added), path, text) for added, path, text in FILE.findall(page.read_text(encoding="utf-8"))]


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_a_generated_table_lists_exactly_the_files_of_params(generated: dict[str, str], kind: str) -> None:
    singular = {"studies": "study"}.get(kind, kind.rstrip("s"))
    table = re.search(rf"^\| {singular} \|.*?(?=\n\n|\Z)", generated[f"reference/{kind}.md"], re.DOTALL | re.MULTILINE)
    assert re.findall(r"^\| `([^`]+)` \|", table[0], re.MULTILINE) == names(kind)


def test_every_published_file_has_a_row(generated: dict[str, str]) -> None:
    table = generated["reference/prompts.md"].partition("## Published prompts")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE) == names("prompts")


def test_every_family_has_a_row(generated: dict[str, str]) -> None:
    families = {yaml.safe_load(path.read_text()).get("family") for path in ROOT.glob("params/backbones/*.yaml")} - {
        None
    }
    rows = re.findall(r"^\| `(\w+)` \|", generated["reference/backbones.md"].partition("## Files")[0], re.MULTILINE)
    assert set(rows) == families


def test_fields_come_with_those_of_the_bases_and_the_words_that_they_take(generated: dict[str, str]) -> None:
    page = generated["reference/methods.md"]
    assert "| `states` | `Literal['student', 'frozen', 'fresh']` |" in page
    metrics = generated["reference/metrics.md"]
    assert "| `draws` |" in metrics[metrics.index("## Rates") :]  # of its base, Outcomes


def test_every_command_has_its_help(generated: dict[str, str]) -> None:
    stages = [
        path.stem for path in ROOT.glob("stages/*.py") if "argparse" in path.read_text() or "@entry" in path.read_text()
    ]
    assert {"train", "report", "experiment"} <= set(stages)
    for stage in stages:
        assert f"usage: python -m stages.{stage} " in generated["reference/commands.md"]


def test_keys_beside_the_fields_are_those_of_the_schema() -> None:
    schema = yaml.safe_load(read("stages/params/schemas/methods.schema.yaml"))["properties"]
    section = read("docs/how-to/method.md").partition("## Keys beside the fields")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == set(schema) | {"like"}


def test_the_readme_can_be_read_in_one_go() -> None:
    assert len(read("README.md").splitlines()) <= 150


@page_of
def test_links_lead_somewhere(page: Path, generated: dict[str, str]) -> None:
    anchors = {(ROOT / "docs" / path).resolve(): headings(text) for path, text in generated.items()}
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists() or target in anchors, link
        if anchor:
            have = anchors[target] if target in anchors else headings(target.read_text(encoding="utf-8"))
            assert anchor in have, link


def headings(text: str) -> set[str]:
    """The anchors of a page's headings."""
    return {
        re.sub(r"[^\w-]+", "", head.lower().replace(" ", "-")) for head in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }


@page_of
def test_named_files_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    given = {path for _, path, _ in files_of(page)} | {"data/my_prompts.json"}
    for path in re.findall(r"`((?:stages|params|data|workflow|tests|docs|Infinity)/[\w./-]*)`", text):
        assert (ROOT / path).exists() or path in given, path


@page_of
def test_named_modules_are_there(page: Path) -> None:
    given = {path.removesuffix(".py").replace("/", ".") for _, path, _ in files_of(page)}
    for name in re.findall(r"\bstages(?:\.\w+)+", page.read_text(encoding="utf-8")):
        assert known(name) or any(name.startswith(module) for module in given), name


def known(name: str) -> bool:
    """Whether a dotted name is a package, a module, or a name that one of them defines or imports."""
    path = ROOT / name.replace(".", "/")
    if path.is_dir() or path.with_suffix(".py").is_file() or name == "stages.x":
        return True
    parent, _, last = name.rpartition(".")
    path = ROOT / parent.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return file.is_file() and last in re.findall(r"\w+", file.read_text(encoding="utf-8"))


@page_of
def test_commands_have_the_options_that_are_used(page: Path) -> None:
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for stage, words in re.findall(r"python -m stages\.(\w+)( [^\n`|]*)", text):
        options = set(re.findall(r"(--[\w-]+)", help_of(stage)))
        assert set(re.findall(r" (--[\w-]+)", words)) <= options, words


@page_of
def test_commands_of_the_console_script_have_the_options_that_are_used(page: Path) -> None:
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    names = load_generator("commands").command_names()
    for command, words in re.findall(r"(?:^|`)palimpsest ([a-z]+)( [^\n`|]*)?", text, re.MULTILINE):
        assert command in names, command
        assert set(re.findall(r" (--[\w-]+)", words)) <= set(re.findall(r"(--[\w-]+)", command_help(command))), words


@cache
def command_help(name: str) -> str:
    return load_generator("commands").help_of_command(name)


@cache
def help_of(stage: str) -> str:
    return load_generator("commands").help_of(stage)


@page_of
def test_studies_that_commands_run_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    have = {*names("studies"), "NAME", *(Path(path).stem for _, path, _ in files_of(page))}
    for command, study in re.findall(r"(snakemake[^\n`]*?--config[^\n`]*? study=(\w+))", text):
        assert study in have or study == "demoo", command
        assert study in have or f"no study '{study}'" in text


def test_examples_are_as_many_files_as_their_pages_say() -> None:
    rows = re.findall(r"^\|[^|]*\| \[[^]]*\]\((\w+)\.md\) \| (\w+)", read("docs/how-to/index.md"), re.MULTILINE)
    said = {page: COUNTS[count] for page, count in rows if count in COUNTS}
    for page in ("method", "metric", "attack"):
        files = [path for added, path, _ in files_of(ROOT / f"docs/how-to/{page}.md") if "studies" not in path]
        assert len(files) in (said[page], 2 * said[page])  # one example or two
        assert "Two files." in read(f"docs/how-to/{page}.md")


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What a copy of the project answers once every file that the pages give is in it."""
    copy = tmp_path_factory.mktemp("followed")
    for part in COPIED:
        source = ROOT / part
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, copy / part, ignore=ignore) if source.is_dir() else shutil.copy(source, copy)
    studies = []
    for page in sorted((ROOT / "docs").rglob("*.md")):
        for added, path, text in files_of(page):
            assert added or not (copy / path).exists(), f"{page.name}: {path} is in the project already"
            (copy / path).parent.mkdir(parents=True, exist_ok=True)
            with (copy / path).open("a", encoding="utf-8") as file:
                file.write(text)
            studies += [Path(path).stem] if "studies" in path else []
    for file in ("tuned/esd", "methods/redirect"):
        quicken(copy / f"params/{file}.yaml")
    shutil.copy(ROOT / "tests/follow_docs.py", copy)
    command = [sys.executable, "follow_docs.py", *studies]
    done = subprocess.run(command, cwd=copy, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def quicken(file: Path) -> None:
    """Trainings of two steps: of a method, or of each architecture that it is tuned on."""
    content, quick = yaml.safe_load(file.read_text()), {"steps": 2, "batch": 2}
    if "class" in content:
        content |= quick
    else:
        worlds = {world: {name: fields | quick for name, fields in rows.items()} for world, rows in content.items()}
        content = worlds
    file.write_text(yaml.safe_dump(content))


def test_the_studies_of_the_pages_are_accepted(followed: dict) -> None:
    assert followed["studies"]["van_gogh"] == ["esd_x", "negative_prompt", "none"]
    assert len(followed["studies"]["first"]) == 3 + 4  # none, esd, uce, and a sweep of two fields with two values each
    assert {"dog", "detours", "mine"} <= set(followed["studies"])


def test_the_method_of_the_page_is_fitted_and_found_by_the_grid(followed: dict) -> None:
    assert followed["methods"] == {"quiet": "PromptGuidance", "redirect": "Weights"}
    assert {"quiet", "redirect"} <= set(followed["all"])


def test_the_attack_of_the_page_searches(followed: dict) -> None:
    assert len(followed["attack"]) == 2
    assert all(" and " in prompt for prompt in followed["attack"])


def test_the_metric_of_the_page_measures(followed: dict) -> None:
    values = {row["metric"]: row["value"] for row in followed["metric"]}
    assert values == {"saturation": 0.0, "saturation_change": -1.0}


def test_the_checkpoint_of_the_page_samples(followed: dict) -> None:
    assert followed["checkpoint"] == [1, 3, 32, 32]


def test_the_table_of_the_page_gives_prompt_sets(followed: dict) -> None:
    asked = {"concept": ["van gogh"], "retain": ["", "hokusai", "monet"]}
    assert followed["prompts"] == asked | {"neutral": [""], "alone": [], "synonym": [], "implied": []}


def test_the_tutorial_leaves_what_it_says(followed: dict) -> None:
    assert {
        "runs/no-red/intervention.json",
        "runs/no-red/record-train.json",
        "exported/no-red/model_index.json",
    } <= set(followed["tutorial"])
    assert {"runs/before.png", "runs/after.png"} <= set(followed["tutorial"])


def test_the_readmes_python_samples(followed: dict) -> None:
    assert followed["readme"] == [1, 3, 32, 32]
    assert followed["concepts"] == ["a photo of a dog"]


def test_the_lock_of_the_documents_holds_pins_alone_and_fits_the_ranges() -> None:
    pins = {}
    for lock in ("requirements.lock", "requirements-docs.lock"):
        for line in read(lock).splitlines():
            assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line), f"{lock}: {line}"
            name, _, version = line.partition("==")
            assert canonicalize_name(name) not in pins, f"{name} is pinned twice"
            pins[canonicalize_name(name)] = version
    for wanted in map(Requirement, tomllib.loads(read("pyproject.toml"))["project"]["optional-dependencies"]["docs"]):
        assert wanted.specifier.contains(pins[canonicalize_name(wanted.name)]), wanted


def test_pages_of_the_navigation_are_all_there_are(generated: dict[str, str]) -> None:
    listed = set(re.findall(r"([\w/-]+\.md)", read("mkdocs.yml")))
    written = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert written <= listed
    assert listed - written <= set(generated)


def test_the_generator_is_plain_python() -> None:
    """It is imported by tests, in an environment without MkDocs."""
    for path in sorted((ROOT / "docs").glob("*.py")):
        tree = ast.parse(read(f"docs/{path.name}"))
        top = {node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)}
        assert not any(name.startswith("mkdocs") for name in top), path
