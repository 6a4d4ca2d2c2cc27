"""Model cards: the manifest's entry as a page."""

from __future__ import annotations

from stages.params.zoo import BACKBONE, Entry

CARD = "README.md"


def card(name: str, entry: Entry) -> str:
    """The README.md of an entry, as Markdown."""
    what = f"A small {entry.recipe.get('family', 'generator')}" if entry.kind == BACKBONE else f"The {entry.kind}"
    facts = {
        "class": entry.recipe.get("class"),
        "seed": entry.seed,
        "commit": entry.commit,
        "processor": entry.processor.get("name"),
        "instruction sets": ", ".join(entry.processor.get("instructions", ())),
        "threads": entry.threads,
        "training": f"{entry.seconds:.0f} s",
        "versions": ", ".join(f"{package} {version}" for package, version in sorted(entry.versions.items())),
        "weights": f"{entry.dtype}; relative error of the worst tensor {entry.rounding:.1e}",
        "sha256 of the recipe": entry.recipe_sha256,
        "files": f"{len(entry.files)}, {sum(file.bytes for file in entry.files.values()) / 1e6:.2f} MB",
    }
    others = {path: file.stored for path, file in sorted(entry.files.items()) if file.stored != f"{name}/{path}"}
    elsewhere = [f"`{path}` is `{stored}`" for path, stored in others.items()]
    return "\n".join(
        [
            f"# {name}",
            "",
            f"{what} of the world `{entry.world}`, trained from random weights by this project on rendered pictures.",
            "",
            "```sh",
            f"python -m stages.zoo take {name} --out folder   # as it was trained, weights in 32 bits",
            "```",
            "",
            "| | |",
            "|---|---|",
            *(f"| {key} | {value} |" for key, value in facts.items() if value not in (None, "")),
            "",
            *_figures(entry),
            *(["Never shown: " + ", ".join(entry.never_shown) + ".", ""] if entry.never_shown else []),
            *(["Stored once for several: " + "; ".join(elsewhere) + ".", ""] if elsewhere else []),
        ]
    )


def _figures(entry: Entry) -> list[str]:
    if not entry.figures:
        return []
    rows = (
        f"| {f['kind']} | {100 * f['rate']:.1f} % | {100 * f['low']:.1f} to {100 * f['high']:.1f} % | {f['n']} |"
        for f in entry.figures
    )
    head = ["| what the judge sees as asked | share | 95 % interval | pictures |", "|---|---:|---:|---:|"]
    return [*head, *rows, ""]
