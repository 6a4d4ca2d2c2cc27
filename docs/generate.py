"""The reference pages, made from params/, the schemas, the commands and the docstrings while MkDocs builds.

MkDocs calls `on_config` and `on_files` (mkdocs.yml: hooks); `pages` alone is what tests read.
"""

from __future__ import annotations

import ast
import csv
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]  # so that the pages describe this tree, whatever is installed

from commands import commands, face  # noqa: E402  (after the path)
from declared import definition, fields, fit_returns, module  # noqa: E402  (after the path)
from presets import departs, papers, trained_on  # noqa: E402
from writing import keys_of, leading, listed, page, table  # noqa: E402

from stages.params import load_params, names  # noqa: E402
from stages.params.prompt_sources import load_source  # noqa: E402

PARAMS, SCHEMAS = ROOT / "params", ROOT / "stages" / "params" / "schemas"
ROOMS = {
    room.name: sorted(room.rglob("*.py")) for room in sorted((ROOT / "stages").glob("*/")) if any(room.glob("*.py"))
}
LIBRARY = {f"stages.{room}": files for room, files in ROOMS.items()} | {
    "Infinity": sorted((ROOT / "Infinity").glob("*.py"))
}
FACE = "stages"  # the package itself: what a script imports first


def on_config(config: Any) -> Any:
    """Adds the library's pages to the navigation."""
    library = [{title: f"reference/library/{title}.md"} for title in (FACE, *LIBRARY)]
    for section in config.nav:
        if "Reference" in section:
            section["Reference"].append({"Library": library})
    return config


def on_files(files: Any, config: Any) -> Any:
    """Adds the generated pages to those of docs/."""
    from mkdocs.structure.files import File

    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def pages() -> dict[str, str]:
    """The text of every generated page, by its path under docs/."""
    made = {
        "reference/commands.md": commands(),
        "reference/methods.md": methods(),
        "reference/backbones.md": backbones(),
        "reference/concepts.md": concepts(),
        "reference/metrics.md": classes("metrics", "Metrics", "Metrics measure pictures and clips."),
        "reference/attacks.md": classes("attacks", "Attacks", "Attacks look for prompts that bring a concept back."),
        "reference/papers.md": papers(),
        "reference/studies.md": studies(),
        "reference/prompts.md": prompts(),
        f"reference/library/{FACE}.md": library(FACE, face()),
    }
    return made | {f"reference/library/{title}.md": library(title, files) for title, files in LIBRARY.items()}


def methods() -> str:
    """One row per file of params/methods, then the fields of every class."""
    rows = []
    for name in names("methods", PARAMS):
        content = load_params("methods", name, PARAMS)
        rows.append(
            {
                "method": f"`{name}`",
                "class": linked(content["class"]),
                "fit returns": fit_returns(content["class"]),
                "families": ", ".join(content.get("families", ["all"])),
                "fitted in": "the job that samples" if content.get("trained") is False else "a job of its own",
                "trains on": trained_on(name, content),
                "settings for": {True: "small worlds", False: "real checkpoints"}.get(content.get("world"), "both"),
                "departs when tuned": departs(name, content),
                "about": comment("methods", name),
            }
        )
    intro = (
        "One row per file of `params/methods/`. A plain name is the method as its paper has it, on small worlds with"
        " what `params/tuned/` has for them; `_released` follows the authors' code, `_documented` what was written down"
        " for Infinity. The keys of such a file that are no fields of its class are explained in"
        " [Add a method](../how-to/method.md#keys-beside-the-fields). `Trains on` names the states of the unedited"
        " backbone's own runs: the last (`final`), the first and the last (`ends`), or `all`; a method that trains on"
        " none waits for no trajectories. `Departs when tuned` names the fields in which the tuned settings make"
        " another kind of method of it; reports have a column of what ran."
    )
    return page("Methods", intro, table(rows), schema("methods"), fields_of(used("methods")))


def backbones() -> str:
    """One row per file of params/backbones, the families, and the keys that such a file may have."""
    contents = {name: load_params("backbones", name, PARAMS) for name in names("backbones", PARAMS)}
    rows = [
        {
            "backbone": f"`{name}`",
            "family": f"`{content['family']}`",
            "class": linked(content["class"]),
            "weights": f"trained here on `{content['world']}`" if content.get("world") else f"`{content['path']}`",
            "about": comment("backbones", name),
        }
        for name, content in contents.items()
    ]
    families = [
        {
            "family": f"`{family}`",
            "real checkpoints": listed(n for n, c in contents.items() if c["family"] == family and not c.get("world")),
            "small backbones": listed(n for n, c in contents.items() if c["family"] == family and c.get("world")),
        }
        for family in sorted({content["family"] for content in contents.values()})
    ]
    intro = "One row per file of `params/backbones/`. A method's `families:` names families of this table."
    settings = ("## Keys", "Fields of `stages.backbones.core.settings.Settings`:")
    keys = table(fields("stages.backbones.core.settings.Settings"))
    return page("Backbones", intro, "## Families", table(families), "## Files", table(rows), *settings, keys)


def concepts() -> str:
    """One row per file of params/concepts, and the keys that such a file may have."""
    rows = []
    for name in names("concepts", PARAMS):
        content = load_params("concepts", name, PARAMS)
        target = ", ".join(f"{label}: {value}" for label, value in content.get("target", {}).items())
        rows.append(
            {
                "concept": f"`{name}`",
                "kind": content.get("kind", ""),
                "aim": content.get("aim", "erase"),
                "target": target,
                "dataset": f"`{content['dataset']}`" if "dataset" in content else "",
                "about": comment("concepts", name),
            }
        )
    return page("Concepts", "One row per file of `params/concepts/`.", table(rows), schema("concepts"))


def studies() -> str:
    """One row per file of params/studies, and the keys that such a file may have."""
    rows = [
        {"study": f"`{name}`", "description": load_params("studies", name, PARAMS).get("description", "")}
        for name in names("studies", PARAMS)
    ]
    run = "One row per file of `params/studies/`. Run one with `snakemake --cores all --config study=NAME`."
    return page("Studies", run, table(rows), schema("studies"), schema("pipeline"))


def classes(kind: str, title: str, intro: str) -> str:
    """One row per file of a kind whose files name a class, then the fields of every class."""
    rows = [
        {
            kind.rstrip("s"): f"`{name}`",
            "class": linked(load_params(kind, name, PARAMS)["class"]),
            "about": comment(kind, name),
        }
        for name in names(kind, PARAMS)
    ]
    about = f"{intro} One row per file of `params/{kind}/`."
    return page(title, about, table(rows), schema(kind), fields_of(used(kind)))


def prompts() -> str:
    """The columns of a prompt table, from its schema, the tables of data/, and the sources of published ones."""
    content = yaml.safe_load((SCHEMAS / "prompts.schema.yaml").read_text(encoding="utf-8"))
    rows = [prompt_table(path) for path in sorted((ROOT / "data").glob("*.csv"))]
    keys = ("## Columns", keys_of(content))
    own = ("## Tables that come with the project", table(rows))
    published = (
        "## Published prompts",
        "One row per file of `params/prompts/`; `python -m stages.fetch NAME` brings it.",
    )
    sources = table([prompt_source(name) for name in names("prompts", PARAMS)])
    of_source = ("## Keys of a source", table(fields("stages.params.prompt_sources.Source")))
    return page("Prompt tables", content["description"], *keys, *own, *published, sources, *of_source)


def prompt_source(name: str) -> dict[str, str]:
    """A row of the published files: how many rows it has, on what terms, what it is."""
    source = load_source(name, PARAMS)
    terms = f"{source.license}{', gated' if source.gated else ''}"
    sha = f"`{source.sha256[:8]}`" if source.sha256 else "not known"
    place = f"[{source.repository or source.hub}]({source.page})"
    row = {"source": f"`{name}`", "rows": str(source.rows), "sha256": sha, "from": place, "licence": terms}
    return row | {"about": comment("prompts", name)}


def prompt_table(path: Path) -> dict[str, str]:
    """A table's row: its name, its labels, how many prompts it has."""
    with path.open(newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    labels = listed(name for name in head if f"without_{name}" in head)
    return {"table": f"`data/{path.name}`", "labels": labels, "prompts": str(len(rows))}


def library(title: str, files: Iterable[Path]) -> str:
    """The docstrings of a room's modules."""
    modules = [dotted(path) for path in files if ast.parse(path.read_text(encoding="utf-8")).body]
    return page(f"`{title}`", *(f"::: {module}" for module in modules))


def dotted(path: Path) -> str:
    """The import path of a module's file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def schema(kind: str) -> str:
    """The keys that a file of a kind may have, from its schema."""
    content = yaml.safe_load((SCHEMAS / f"{kind}.schema.yaml").read_text(encoding="utf-8"))
    return "\n\n".join((f"## Keys of a {content['title']}", content["description"], keys_of(content)))


def fields_of(paths: Iterable[str]) -> str:
    """A section per class: its docstring and its fields."""
    made = []
    for path in paths:
        about = [ast.get_docstring(node) or "" for node in (module(path), definition(path))]
        made += [f"## {path.rpartition('.')[2]}", f"`class: {path}`", *about, table(fields(path)) or "No fields."]
    return "\n\n".join(made)


def used(kind: str) -> list[str]:
    """The classes that files of a kind name, each once, by class name."""
    paths = {load_params(kind, name, PARAMS)["class"] for name in names(kind, PARAMS)}
    return sorted(paths, key=lambda path: path.rpartition(".")[2])


def linked(path: str) -> str:
    """A class's name, linked to its docstring."""
    room = ".".join(path.split(".")[:2])
    return f"[{path.rpartition('.')[2]}](library/{room}.md#{path})"


def comment(kind: str, name: str) -> str:
    """The comment at the top of params/<kind>/<name>.yaml."""
    lines = (PARAMS / kind / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    return " ".join(leading(lines))
