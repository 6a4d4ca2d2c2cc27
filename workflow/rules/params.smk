"""The study, checked before anything runs, and the parameters that rules are compared by when the study runs again."""

import os
import re
import sys
from functools import cache

sys.path.insert(0, workflow.basedir)  # a copied or moved clone runs its own code, whatever is installed

from stages import params
from stages.params import canonical, check, names, tracker, within, zoo
from stages.params.kept import kept_states, most
from stages.params.prompt_sources import load_source, record_of
from stages.params import study as studies
from stages.worlds.by_name import WORLDS, code_of

load_params, method_params = cache(params.load_params), cache(params.method_params)  # thousands of jobs, few files
digest = cache(check.code)

BASELINE = "none"  # edits nothing: every method is compared with its samples
ORACLE = "oracle"  # learns from the world itself, not from the backbone's trajectories
BINARIZED_CLASS = "stages.methods.binarized.Binarized"


def refuse(error):
    """End with the one line that says what is wrong."""
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(2)


try:
    check.check_schema(config, "pipeline", "params/pipeline.yaml")
    os.environ.update(tracker.Tracker.of(config).environment())
    STUDY = studies.load_study(config["study"])
    ZOO = zoo.read_manifest() if zoo.asked(config) else {}
    for line in zoo.set_aside(ZOO, [name for (name,) in STUDY.unique("backbone")]) if workflow.is_main_process else ():
        print(f"warning: {line}", file=sys.stderr)
except ValueError as error:
    refuse(error)


def method_file(name):
    """What a method's file says; {} if it cannot be read: a broken file stops only the studies that name it."""
    try:
        return load_params("methods", name)
    except ValueError:
        return {}


METHODS = {name: method_file(name) for name in [*names("methods"), *(run.method for run in STUDY.runs)]}
UNTRAINED = [name for name, content in METHODS.items() if content.get("trained") is False]
BINARIZED = [name for name, content in METHODS.items() if content.get("class") == BINARIZED_CLASS]
TRAINED = [name for name in METHODS if name not in (*UNTRAINED, *BINARIZED)]


def kind_of(wildcards):
    """The kind of a run's concept, empty if its file does not say it."""
    return load_params("concepts", wildcards.concept).get("kind", "")


def fields_of(method, wildcards):
    """A method's fields on a run's backbone, for concepts of its concept's kind."""
    return method_params(method, wildcards.backbone, kind=kind_of(wildcards))


def fields_of_attack(wildcards):
    """An attack's fields on a run's backbone, for concepts of its concept's kind."""
    return params.attack_params(wildcards.attack, wildcards.backbone, kind=kind_of(wildcards))


def states_read(method, wildcards):
    """The states of the unedited backbone's runs that a method's class says it trains on; None for none."""
    return kept_states(fields_of(method, wildcards))


def states_kept(wildcards):
    """Those that the study's methods train on, of one backbone and concept; all if nothing asks, but someone."""
    run = (wildcards.backbone, wildcards.concept)
    methods = {other.method for other in STUDY.runs if (other.backbone, other.concept) == run}
    methods |= {masks_of(method, wildcards) for method in methods if method in BINARIZED}
    return most(states_read(method, wildcards) for method in methods) or "all"


def masks_of(method, wildcards):
    """The method whose masks a binarized one takes."""
    return fields_of(method, wildcards).get("of", "minimalist")


PARTS = ("judge", "autoencoder", "tokenizer")  # of a world: what is trained before its backbones and its metrics


def one_of(names):
    """A pattern that matches these names and nothing else."""
    return "|".join(map(re.escape, names)) or "(?!)"


wildcard_constraints:
    backbone=one_of(names("backbones")),
    concept=one_of(names("concepts")),
    method=one_of(name for name in METHODS if name not in UNTRAINED),
    attack=one_of(names("attacks")),
    part=one_of(PARTS),
    world=one_of(WORLDS),
    seed="[0-9]+",


def attacks_on(wildcards):
    """What looks for the concept in a run."""
    run = studies.Run(wildcards.backbone, wildcards.concept, wildcards.method, int(wildcards.seed))
    return STUDY.attacks[run]


def stored_backbone(wildcards):
    """The zoo's entry that a backbone is taken from; None if it is trained here."""
    recipe = zoo.recipe_of(load_params("backbones", wildcards.backbone))
    return zoo.taken(ZOO, wildcards.backbone, recipe)


def stored_part(wildcards):
    """The zoo's entry of a part of a world; None if it is trained here."""
    world, part = wildcards.world, wildcards.part
    return zoo.taken(ZOO, zoo.part_name(world, part), zoo.part_recipe(world, part))


def backbone_params(wildcards):
    """What a backbone's users read of its file."""
    return canonical(load_params("backbones", wildcards.backbone), without=("build", "pretrain", *zoo.UNREAD))


def pretrain_params(wildcards):
    """What a backbone's training reads of its file: everything but how it is sampled and cached."""
    return canonical(load_params("backbones", wildcards.backbone), without=(*zoo.SAMPLING, *zoo.UNREAD))


def part_params(wildcards):
    """Digests of the code that a part of a world is trained by."""
    return [digest(path) for path in code_of(wildcards.world, wildcards.part)]


def made_by(training, stored):
    """What a job is compared by: of a training its parameters, of what the zoo has the files."""
    return lambda wildcards: (
        training(wildcards) if stored(wildcards) is None else f"zoo {zoo.content_digest(stored(wildcards))}"
    )


def out_of(stored):
    """The folder of a job's first output, and the zoo if it is taken from there."""

    def options(wildcards, output):
        folder = os.path.dirname(output[0])
        return folder if stored(wildcards) is None else f"{folder} --zoo {zoo.FOLDER}"

    return options


def sources_asked(wildcards):
    """The records of the published prompts of `--config fetch=`, or of those that the study measures on."""
    asked = config.get("fetch", STUDY.sources)
    try:
        return [record_of(name) for name in ([asked] if isinstance(asked, str) else asked) if load_source(name)]
    except ValueError as error:
        refuse(error)


def concept_params(wildcards):
    return canonical(load_params("concepts", wildcards.concept), without=("kind",))  # it chooses a method's fields


def with_code(content):
    """Fields and a digest of the code that they go to."""
    return content | {"code": digest(content["class"])}


def methods_within(content, wildcards):
    """The fields in this run of the methods that one fits within its own training.

    Not of one whose masks are taken from a finished run.
    """
    if content["class"] == BINARIZED_CLASS:
        return {}
    return {key: fields_of(name, wildcards) for key, name in within.referred(content)}


def train_params(wildcards):
    """A method's fields in this run with its code, and those of the methods that are fitted within it."""
    content = fields_of(wildcards.method, wildcards)
    within = methods_within(content, wildcards)
    return canonical(with_code(content) | {key: with_code(other) for key, other in within.items()})


def attack_params(wildcards):
    return canonical(with_code(fields_of_attack(wildcards)))


def metric_params(wildcards):
    return [canonical(with_code(load_params("metrics", name))) for name in STUDY.metrics]
