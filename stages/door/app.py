"""The command `palimpsest`. Each calls an entry of `stages` or a room; nothing heavy is imported for its help."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from stages.launch.cli import WRONG_INPUT, log_to_stderr, one_line
from stages.params.project import HOME, is_project, make

app = typer.Typer(
    name="palimpsest",
    help="Erase a concept from an image or video generator, attack the result, measure it, take it elsewhere.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
What = Enum(  # type: ignore[misc]  # its members are what the command line takes
    "What", {name: name for name in ("methods", "backbones", "concepts", "studies", "metrics", "attacks", "prompts")}
)
New = Enum("New", {name: name for name in ("concept", "method", "study", "backbone")})  # type: ignore[misc]
Seed = Annotated[int, typer.Option(help="Of training and of the pictures.")]
Threads = Annotated[int, typer.Option(help="Of the processor; equal numbers give equal bits.")]
Out = Annotated[Path, typer.Option(help="The folder to write; it must be empty or not there.")]
Study = Annotated[str, typer.Argument(help="A file of params/studies/.")]
Only = Annotated[str, typer.Option(help="Only this one of the study's.")]


def main(argv: Sequence[str] | None = None) -> None:
    """The console script."""
    app(args=None if argv is None else list(argv), prog_name="palimpsest")


def told(command: Callable[..., int | None]) -> Callable[..., None]:
    """A command whose errors of wrong input are one line and exit code 2; what it returns is the exit code."""

    @functools.wraps(command)
    def wrapped(*values: Any, **options: Any) -> None:
        log_to_stderr()
        try:
            code = command(*values, **options) or 0
        except WRONG_INPUT as error:
            sys.stderr.write(f"error: {one_line(error)}\n")
            code = 2
        except KeyboardInterrupt:
            code = 130
        raise typer.Exit(code)

    return wrapped


@app.callback()
def before(
    project: Annotated[str, typer.Option(help=f"The project folder; as {HOME}, which it overrides.")] = "",
    version: Annotated[bool, typer.Option("--version", help="Say the version and end.", is_eager=True)] = False,
) -> None:
    """Erase a concept from an image or video generator, attack the result, measure it, take it elsewhere."""
    if version:
        from importlib.metadata import version as of

        typer.echo(f"palimpsest {of('palimpsest')}")
        raise typer.Exit
    if project:
        if not is_project(Path(project)):
            sys.stderr.write(f"error: {project} is no project folder; make one with: palimpsest init {project}\n")
            raise typer.Exit(2)
        os.environ[HOME] = str(Path(project).absolute())


@app.command()
@told
def erase(
    backbone: Annotated[str, typer.Argument(help="A file of params/backbones/, such as sd14.")],
    words: Annotated[str, typer.Argument(help="What the concept is called, such as 'Van Gogh'.")],
    out: Out,
    kind: Annotated[str, typer.Option(help="object, style, person, attribute or sensitive; of a new concept.")] = "",
    method: Annotated[str, typer.Option(help="A file of params/methods/.")] = "esd_x",
    seed: Seed = 0,
    pictures: Annotated[int, typer.Option(help="To measure on: for the concept, and for other things.")] = 24,
    synonym: Annotated[list[str] | None, typer.Option(help="Another word for it; may be repeated.")] = None,
    neutral: Annotated[str, typer.Option(help="What stands in its place, such as 'an animal'.")] = "",
    name: Annotated[str, typer.Option(help="Of the concept's file; by default the words.")] = "",
    threads: Threads = 1,
) -> int:
    """Erase a concept: fit, sample before and after, measure, export, and write a model card.

    Example: palimpsest erase sd14 "Van Gogh" --kind style --method esd_x --out erased
    """
    from stages.door.calls import code_of

    given = {"backbone": backbone, "words": words, "method": method, "seed": seed, "pictures": pictures, "out": out}
    given |= {"kind": kind, "neutral": neutral, "name": name, "threads": threads}
    return code_of("erase", [*flags(given), *(f"--synonym={word}" for word in synonym or ())])


@app.command()
@told
def sample(
    backbone: Annotated[str, typer.Argument(help="A file of params/backbones/.")],
    prompts: Annotated[list[str], typer.Argument(help="What to draw.")],
    out: Out,
    run: Annotated[str, typer.Option(help="The folder of an intervention; without it the backbone as it is.")] = "",
    each: Annotated[int, typer.Option(help="Pictures of each prompt.")] = 4,
    seed: Annotated[int, typer.Option(help="Of the first picture of each prompt; the next ones count on.")] = 0,
    threads: Threads = 1,
) -> int:
    """Draw pictures of prompts, with or without an intervention.

    Example: palimpsest sample sd14 "a starry night" --run erased/intervention --out pictures
    """
    from stages.door.runs import sample_prompts

    sample_prompts(backbone, prompts, out, run=run, seeds=range(seed, seed + each), threads=threads)
    return 0


@app.command()
@told
def attack(
    study: Study,
    attack: Annotated[str, typer.Argument(help="A file of params/attacks/, such as ring_a_bell.")],
    method: Only = "",
    backbone: Only = "",
    concept: Only = "",
    threads: Threads = 1,
) -> int:
    """Look for prompts that bring the concept back in the runs of a study, and measure what was found.

    Example: palimpsest attack van_gogh_sd14_esd_x ring_a_bell
    """
    from stages.door.runs import attack_runs, chosen

    attack_runs(study, attack, chosen(study, method=method, backbone=backbone, concept=concept), threads)
    return 0


@app.command()
@told
def measure(study: Study, method: Only = "", backbone: Only = "", concept: Only = "", threads: Threads = 1) -> int:
    """Measure the pictures of a study again, with the metrics that its file names now.

    Example: palimpsest measure van_gogh_sd14_esd_x
    """
    from stages.door.runs import chosen, measure_runs

    measure_runs(study, chosen(study, method=method, backbone=backbone, concept=concept), threads)
    return 0


@app.command()
@told
def export(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run, or erased/intervention.")],
    out: Out,
    backbone: Annotated[str, typer.Option(help="A file of params/backbones/; by default that of its record.")] = "",
    gate: Annotated[float, typer.Option(help="How far membranes (SPM) are open, for every prompt.")] = 1.0,
    force: Annotated[bool, typer.Option("--force", help="Write over what is in --out.")] = False,
) -> int:
    """Write a run as files that diffusers and peft load by themselves.

    Example: palimpsest export artifacts/runs/sd14/dog/esd_x/0 --out no-dog
    """
    from stages.door.calls import code_of
    from stages.door.runs import backbone_of

    given = {"backbone": backbone or backbone_of(run), "run": run, "gate": gate, "out": out}
    return code_of("export", [*flags(given), *(["--force"] if force else [])])


@app.command()
@told
def verify(
    folder: Annotated[str, typer.Argument(help="Published results; by default docs/results of the project.")] = "",
) -> int:
    """Derive published tables again from single pictures' outcomes, and name the first number that differs.

    Example: palimpsest verify docs/results
    """
    from stages.door.calls import code_of

    return code_of("verify", [folder] if folder else [])


@app.command()
@told
def board(study: Study) -> int:
    """Print the tables of a study, best methods in bold, and write its page.

    Example: palimpsest board smoke
    """
    from stages.door.calls import call
    from stages.params.load import check_name
    from stages.params.project import located

    call("report", "--study", check_name(study, "study"))
    tables = located("artifacts/tables")
    for path in sorted(tables.glob(f"{study}-*.md")) or [tables / f"{study}.md"]:
        typer.echo(path.read_text(encoding="utf-8"))
    typer.echo(f"The page: {located('artifacts/report/index.html')}")
    return 0


@app.command("list")
@told
def list_(what: Annotated[What, typer.Argument(help="What to list.")]) -> int:
    """List what there is, one line each: name, where it works, what it costs, where it comes from, what it is.

    Example: palimpsest list methods
    """
    from stages.door.listing import listing

    typer.echo(listing(what.value))
    return 0


@app.command()
@told
def new(
    kind: Annotated[New, typer.Argument(help="What to write.")],
    name: Annotated[str, typer.Argument(help="Of the file.")],
) -> int:
    """Write a commented file of params/ that is valid at once, to be changed.

    Example: palimpsest new concept owl
    """
    from stages.door.starting import start

    typer.echo(f"{start(kind.value, name)}: valid as it stands; every line says what it is for")
    return 0


@app.command()
@told
def init(folder: Annotated[Path, typer.Argument(help="To make, or to fill.")] = Path()) -> int:
    """Make a project folder: parameters, tables of prompts and the workflow, to be changed at will.

    Example: palimpsest init my-project
    """
    parts = make(folder)
    typer.echo(f"{folder.absolute()}: {', '.join(parts)}. Work in it, or name it: --project {folder}, or {HOME}")
    return 0


@app.command()
@told
def doctor(study: Annotated[str, typer.Option(help="Say what is missing to run this one.")] = "") -> int:
    """Say what is there: versions, processor, GPU, project, caches, disk; and what a study lacks.

    Example: palimpsest doctor --study demo
    """
    from stages.door.doctor import missing, report

    typer.echo(report())
    if not study:
        return 0
    lacking = missing(study)
    typer.echo("\n".join([f"study      {study}: {'lacks' if lacking else 'all there'}", *lacking]))
    return 1 if lacking else 0


def flags(given: dict[str, Any]) -> list[str]:
    """Options of an entry; those that are empty are left out."""
    return [f"--{key}={value}" for key, value in given.items() if value != ""]
