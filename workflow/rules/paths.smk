"""Where things lie, and which files the rules take from each other."""

from stages.params.concept import load_concept
from stages.params.layout import LATENTS, RUN
from stages.params.oracles import twin

SAMPLES = f"{RUN}/samples/{STUDY.name}"
ATTACKS = f"{RUN}/attacks/{STUDY.name}"
METRICS = f"{RUN}/metrics/{STUDY.name}"
SAMPLE_FILES = (*(f"{prompts}/metadata.jsonl" for prompts in STUDY.prompts), "record-sample.json")
INTERVENTION = ("intervention.safetensors", "intervention.json")


def filled(pattern, wildcards, **others):
    """A pattern with a job's wildcards in it, some of them changed."""
    return pattern.format(**dict(wildcards.items()) | others)


def world_of(wildcards):
    """The world a backbone is trained on here, or None for a finished checkpoint."""
    return load_params("backbones", wildcards.backbone).get("world")


def made_part(wildcards, part):
    """The record of a part of a backbone's world; nothing for a finished checkpoint."""
    world = world_of(wildcards)
    return f"artifacts/worlds/{world}/{part}/record-pretrain.json" if world else []


def made_autoencoder(wildcards):
    """What turns the world's pictures into a backbone's latents or bits."""
    return made_part(wildcards, load_params("backbones", wildcards.backbone).get("autoencoder", "autoencoder"))


def training_autoencoder(wildcards):
    """The autoencoder that a backbone is trained with; nothing if it is taken from the zoo."""
    return made_autoencoder(wildcards) if stored_backbone(wildcards) is None else []


def made_judge(wildcards):
    return made_part(wildcards, "judge")


def made_backbone(wildcards):
    """The record of a backbone trained here: its other files can be equal after a different training."""
    return f"artifacts/backbones/{wildcards.backbone}/record-pretrain.json" if world_of(wildcards) else []


def trained_backbone(wildcards):
    """The backbone that a method edits; the oracle is, or is trained as, a twin beside it."""
    if wildcards.method != ORACLE:
        return made_backbone(wildcards)
    known = known_oracle(wildcards)
    return filled("artifacts/backbones/{backbone}/record-pretrain.json", wildcards, backbone=known) if known else []


def known_oracle(wildcards):
    """The backbone of params/backbones/ that was never shown the concept; None if one must be trained."""
    return twin(load_params("backbones", wildcards.backbone).get("oracle"), load_concept(wildcards.concept))


def training_inputs(wildcards):
    """What a method learns from; nothing if it reads none of the unedited backbone's runs."""
    if wildcards.method == ORACLE:
        return [] if known_oracle(wildcards) else made_autoencoder(wildcards)
    return filled(LATENTS, wildcards) if states_read(wildcards.method, wildcards) else []


def method_files(wildcards):
    """The files that the fields of a method, and of those fitted within it, name: pictures of a word, a setup, prompts."""
    content = fields_of(wildcards.method, wildcards)
    every = [content, *methods_within(content, wildcards).values()]
    return sorted({file for one in every for file in check.watched(one, concept=wildcards.concept)})


def attack_files(wildcards):
    return check.watched(fields_of_attack(wildcards))


def metric_files(wildcards):
    return [file for name in STUDY.metrics for file in check.watched(load_params("metrics", name))]


def trained_masks(wildcards):
    """The run whose masks a binarized method takes."""
    of = masks_of(wildcards.method, wildcards)
    return filled(f"{RUN}/intervention.safetensors", wildcards, method=of)


def trained_run(wildcards):
    """The saved intervention of a run, beside its samples if it was fitted there."""
    folder = SAMPLES if wildcards.method in UNTRAINED else RUN
    return filled(f"{folder}/{INTERVENTION[0]}", wildcards)


def attacked_samples(wildcards):
    return [filled(f"{ATTACKS}/{attack}/metadata.jsonl", wildcards) for attack in attacks_on(wildcards)]


def baseline_samples(wildcards):
    return [filled(f"{SAMPLES}/{file}", wildcards, method=BASELINE) for file in SAMPLE_FILES]
