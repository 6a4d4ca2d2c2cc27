"""Loading pipelines from a folder or a repository, with errors that say which file, which licence and which command."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from safetensors import SafetensorError

from stages.backbones.core.settings import Settings
from stages.backbones.loading.folders import (
    check_family,
    check_file,
    check_folder,
    expanded,
    located,
    read_index,
    variant_of,
)
from stages.params import suggestion
from stages.params.project import located as project_file

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def load_pipeline(cls: type[Any], settings: Settings, device: str, **parts: Any) -> Any:
    """A diffusers pipeline from settings.path; never runs remote code, never reads pickles.

    `parts` are given in place of the checkpoint's; parts that its index says it is without are None. Raises
    FileNotFoundError or ValueError in one line that names the missing file and the command that brings it.
    """
    settings = located(settings)
    check_made(settings)
    chosen = options(settings)
    try:
        index = read_index(settings) or cls.load_config(settings.path, revision=settings.revision)
        absent = dict.fromkeys(name for name, kind in index.items() if kind == [None, None])
        pipeline = cls.from_pretrained(settings.path, **chosen, **absent | parts)
    except Exception as error:
        raise explain(error, settings) from error
    return pipeline.to(device)


def check_made(settings: Settings) -> None:
    """FileNotFoundError when a world's own backbone has not been trained yet."""
    index = Path(settings.path) / "model_index.json"
    if settings.world and not index.is_file():
        raise FileNotFoundError(f"{index} is missing; make it with: snakemake --cores all {index}")


def check_checkpoint(settings: Settings, pipeline: type, needed: Collection[str], unread: Collection[str]) -> None:
    """ValueError or FileNotFoundError for what lies at settings.path, if it is no whole pipeline of that class.

    `needed` parts may not be null in its index; `unread` ones may be missing.
    """
    check_made(settings)
    index = read_index(settings)
    check_family(settings, pipeline.__name__, index)
    check_folder(settings, index, unread)
    for part in needed if index else ():
        if not isinstance(index.get(part), list) or index[part][0] is None:
            raise ValueError(f"{settings.path}: its model_index.json has no {part}, which a {pipeline.__name__} needs")


def load_part(cls: type[Any], part: str, settings: Settings) -> Any:
    """One part of the pipeline at settings.path, on the CPU."""
    chosen = options(settings) | {"variant": variant_of(settings, part)}
    try:
        return cls.from_pretrained(settings.path, subfolder=part, **chosen)
    except Exception as error:
        raise explain(error, settings) from error


def load_network(cls: type[Any], part: str, settings: Settings) -> Any:
    """A diffusers model of the pipeline; ValueError names the first tensors that are missing or that it does not know.

    diffusers itself would leave missing ones random, with a warning.
    """
    chosen = options(settings) | {"variant": variant_of(settings, part)}
    try:
        model, info = cls.from_pretrained(settings.path, subfolder=part, output_loading_info=True, **chosen)
    except Exception as error:
        raise explain(error, settings) from error
    for key, what in (("missing_keys", "is without"), ("unexpected_keys", "has unknown")):
        if names := sorted(info[key]):
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            where = f"{settings.path}/{part}: not the weights of this {cls.__name__}"
            raise ValueError(f"{where}: it {what} tensors {', '.join(names[:3])}{more}")
    return model


def choose_scheduler(chosen: str, own: Any, name: str) -> Any:
    """The diffusers scheduler of that class with the numbers of a checkpoint's own; ValueError says which there are.

    What does not say that it clips clean latents does not: some classes would, by default.
    """
    found = {cls.__name__: cls for cls in (type(own), *own.compatibles)}
    if chosen not in found:
        raise ValueError(
            f"{name}: scheduler: no {chosen!r} in the place of {type(own).__name__}{suggestion(chosen, found)}"
        )
    clips = "clip_sample" in inspect.signature(found[chosen]).parameters
    unsaid = {"clip_sample": own.config.get("clip_sample", False)} if clips else {}
    try:
        return found[chosen].from_config(own.config, **unsaid)
    except ImportError as error:  # of a package that diffusers leaves to its users
        raise ValueError(f"{name}: scheduler: {' '.join(str(error).split())}") from None


def load_alone(cls: type[Any], path: str, **options: Any) -> Any:
    """What stands outside a pipeline, from a folder or a repository by transformers; errors as of `load_pipeline`."""
    path = expanded(path)
    path = str(project_file(path)) if project_file(path).is_dir() else path
    for file in sorted(Path(path).iterdir()) if Path(path).is_dir() else ():
        check_file(file)
    try:
        return cls.from_pretrained(path, **options)
    except Exception as error:
        settings = Settings(path=path, family=cls.__name__)
        raise explain(error, settings, "config.json", ("transformers", cls.__name__)) from error


def options(settings: Settings) -> dict[str, Any]:
    """How every part is loaded."""
    if settings.dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {settings.dtype!r}")
    chosen = {"dtype": DTYPES[settings.dtype], "revision": settings.revision, "variant": settings.variant}
    return chosen | {"use_safetensors": True}


def explain(
    error: Exception,
    settings: Settings,
    index: str = "model_index.json",
    writer: tuple[str, str] = ("diffusers", "DiffusionPipeline"),
) -> Exception:
    """A loading error as one line with the way out; `index` is the file read first, `writer` what writes the folder."""
    path, page, causes = settings.path, f"https://huggingface.co/{settings.path}", list(chain(error))
    text = " ".join(str(error).split()) or type(error).__name__
    file = next(
        (found[1] for cause in causes if (found := re.search(r"/resolve/[^/]+/(\S+?)\.?(\s|$)", str(cause)))), ""
    )
    file = file or index
    revision = f" --revision {settings.revision}" if settings.revision else ""
    if Path(path).is_dir():
        return ValueError(f"{path}: cannot be loaded: {text}")
    if any(isinstance(cause, GatedRepoError) for cause in causes):
        return FileNotFoundError(
            f"{path} is gated and {file} was refused: accept its licence at {page}, then run: "
            f"hf auth login && hf download {path}{revision}"
        )
    if any(isinstance(cause, RepositoryNotFoundError) for cause in causes):
        return FileNotFoundError(
            f"there is no folder and no repository {path}: see {page}, or log in with: hf auth login"
        )
    if any(isinstance(cause, SafetensorError) for cause in causes):
        damaged = found[1] if (found := re.search(r"/snapshots/[^/]+/([^\s']+)", text)) else ""
        return ValueError(
            f"{path}: {damaged or 'a file'} is damaged in the local cache ({text}); delete it and download it again: "
            f"hf download {' '.join(filter(None, (path, damaged)))}{revision} --force-download"
        )
    if "safetensors" in text and "download" not in text:
        copy = f"P.from_pretrained('{path}').save_pretrained('checkpoints/{Path(path).name}')"
        return ValueError(
            f"{path} has no safetensors, and pickles are refused ({text}); write it anew with: "
            f'python -c "from {writer[0]} import {writer[1]} as P; {copy}" '
            f"and put that folder in its place (licence: {page})"
        )
    return FileNotFoundError(
        f"{path}: {file} is not in the local cache and cannot be fetched now ({text}); "
        f"with a network, run: hf download {path}{revision} (licence: {page})"
    )


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what caused it, innermost last."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
