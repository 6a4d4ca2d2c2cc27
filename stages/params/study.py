"""What a study asks for, checked before anything runs: its runs, and the resolved parameters of every stage.

Read by the Snakefile at parse time, so nothing here imports torch: classes are read as source, not imported.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from stages.params import check
from stages.params.check_methods import check_attack, check_gate, check_method, check_method_on, refusal, works_on
from stages.params.check_metrics import check_metric, check_metric_for, sees
from stages.params.datasets import Split
from stages.params.layers import attack_params, echoes, kind_of, untuned
from stages.params.learning import Measured, check_apart, check_data, check_noise, lacks_data
from stages.params.load import check_name, load_params, names
from stages.params.names import sweep
from stages.params.protocol import check_tuning
from stages.params.published_sets import PublishedSet, read_sets, size_of
from stages.params.tuned import check_layers, check_strays
from stages.params.within import check_within

# Sets that no study has to name: the share of its concept's.
ALWAYS = {"neutral": 0.5, "alone": 0.25, "synonym": 0.5, "implied": 0.25}


@dataclass(frozen=True, order=True)
class Run:
    """One fitted method: the unit of training, sampling and measuring."""

    backbone: str
    concept: str
    method: str
    seed: int


@dataclass(frozen=True)
class Study:
    """A checked study: its runs in the order of its file, how many prompts it samples and what it measures."""

    name: str
    runs: tuple[Run, ...]
    prompts: Mapping[str, int]  # set -> pictures, of `counts`
    metrics: tuple[str, ...]
    attacks: Mapping[Run, tuple[str, ...]] = field(default_factory=dict)  # what looks for the concept in a run
    split: Split = "test"  # of the prompts and the noise that it measures by: to report, or to tune
    published: Mapping[str, PublishedSet] = field(default_factory=dict)  # of the sets, those of published prompts

    @property
    def sources(self) -> list[str]:
        """The files of params/prompts that its sets are of."""
        return list(dict.fromkeys(one.source for one in self.published.values()))

    def unique(self, *parts: str) -> list[tuple[Any, ...]]:
        """The distinct combinations of the named parts of a run: `unique("backbone", "concept")`."""
        return list(dict.fromkeys(tuple(getattr(run, part) for part in parts) for run in self.runs))


def load_study(name: str, root: Path | str = "params") -> Study:
    """The study of params/studies/<name>.yaml and everything it names; ValueError says what is wrong and where."""
    content = check.checked("studies", name, root)
    runs = expand(content, root)
    split: Split = content.get("split", "test")
    published, own = read_sets(content, f"params/studies/{name}.yaml", root), counts(content["prompts"])
    if published and split == "tune":
        raise ValueError(
            f"params/studies/{name}.yaml: published: settings are not chosen by prompts that are reported on"
        )
    sizes = own | {which: size_of(one, root) for which, one in published.items()}
    study = Study(name, tuple(runs), sizes, tuple(content["metrics"]), runs, split, published)
    for (backbone,) in study.unique("backbone"):
        check.check_backbone(check_name(backbone, "backbone"), root)
    asked = [which for which, n in content["prompts"].items() if n]
    concepts = {name: check.check_concept(name, asked, root, split) for (name,) in study.unique("concept")}
    measured = {name: Measured.of(concept, list(own), root, split) for name, concept in concepts.items()}
    for concept in concepts.values():
        check_apart(concept, measured[concept.name])
        check_noise(concept, [seed for (seed,) in study.unique("seed")], root)
    if split == "tune":
        for backbone, which in study.unique("backbone", "concept"):
            check_tuning(which, load_params("backbones", backbone, root), f"params/studies/{name}.yaml", root)
    check_strays(root)
    for (method,) in study.unique("method"):
        check_method(method, root)
        check_layers("methods", method, root)
    for concept, method in study.unique("concept", "method"):
        aim, own = concepts[concept].aim, load_params("methods", method, root)
        if own.get("aim", aim) != aim:
            raise ValueError(f"{method} is for concepts to {own['aim']}; the aim of {concept} is to {aim}")
    for backbone, concept, method in study.unique("backbone", "concept", "method"):
        check_method_on(method, backbone, root, concepts[concept].kind)
        check_within(method, backbone, root, concepts[concept].kind)
    for backbone, concept, method in study.unique("backbone", "concept", "method"):
        check_data(method, backbone, concepts[concept], measured[concept], root)
    for metric in study.metrics:
        check_metric(metric, root)
        for backbone, concept in study.unique("backbone", "concept"):
            check_metric_for(metric, concepts[concept], backbone, root)
    _check_attacks(study, root)
    return study


def counts(asked: Mapping[str, int]) -> dict[str, int]:
    """How many pictures a study draws of each set: what its file asks for, and the sets of `ALWAYS` beside them.

    A file leaves a set out with 0. A set that it does not name is empty if the concept has no such prompts.
    """
    always = {which: math.ceil(share * asked["concept"]) for which, share in ALWAYS.items() if "concept" in asked}
    return {which: n for which, n in (dict(asked) | always | dict(asked)).items() if n}


def _check_attacks(study: Study, root: Path | str) -> None:
    attacked = dict.fromkeys((attack, run.backbone) for run, attacks in study.attacks.items() for attack in attacks)
    for attack, backbone in attacked:
        content, family = check_attack(attack, root), load_params("backbones", backbone, root)["family"]
        if not works_on(content, family):
            raise ValueError(
                f"{attack} works on {', '.join(content['families'])}; {backbone} is of the family {family}"
            )
        check_layers("attacks", attack, root)
        attack_params(attack, backbone, root)
        if attack in study.prompts:
            raise ValueError(f"params/attacks/{attack}.yaml: the study samples prompts of that name, too; rename it")
    for run, attacks in study.attacks.items():
        for attack in attacks:
            check_gate(attack, run.method, run.backbone, root, kind_of(run.concept, root))
    if attacked and not any(sees(metric, root) for metric in study.metrics):
        raise ValueError(
            f"params/studies/{study.name}.yaml: attacks need a metric that sees the concept "
            f"({', '.join(name for name in names('metrics', root) if sees(name, root))}), "
            f"got {', '.join(study.metrics)}"
        )


def expand(content: Mapping[str, Any], root: Path | str = "params") -> dict[Run, tuple[str, ...]]:
    """The runs of a study's file in its order, each with its attacks.

    A cell's runs are its lists and its sweep times its seeds, or the study's; a run of two cells has both's attacks.
    """
    runs: dict[Run, tuple[str, ...]] = {}
    for cell in content["cells"]:
        for backbone, concept in product(cell["backbones"], cell["concepts"]):
            every = cell["methods"] == "all"
            methods = fitting(backbone, concept, root) if every else cell["methods"]
            methods = [*methods, *(sweep(**cell["sweep"]) if "sweep" in cell else [])]
            for values in product(methods, cell.get("seeds", content["seeds"])):
                run = Run(backbone, concept, *values)
                runs[run] = tuple(dict.fromkeys([*runs.get(run, ()), *cell.get("attacks", [])]))
    return runs


def fitting(backbone: str, concept: str, root: Path | str = "params") -> list[str]:
    """The methods that make sense on a backbone for a concept: their files say so, and what they name is there."""
    about, aim = (
        check.checked("backbones", backbone, root),
        check.checked("concepts", concept, root).get("aim", "erase"),
    )
    here, methods = bool(about.get("world")), []
    for name in names("methods", root):
        own = load_params("methods", name, root)
        meant = concept in own.get("concepts", [concept]) and own.get("world", here) == here
        can = works_on(own, about["family"]) and refusal(own, backbone, root) is None
        can = can and untuned("methods", name, backbone, root, kind_of(concept, root)) is None
        can = can and not echoes(name, backbone, root, kind_of(concept, root))
        if meant and can and own.get("aim", aim) == aim and not lacks_data(name, backbone, concept, root):
            methods.append(name)
    return methods
