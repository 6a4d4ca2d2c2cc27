"""What the rules of zoo.smk read: what params/zoo.yaml lists, and what each of it is trained or judged with."""

WORLDS_OF_ZOO = "artifacts/zoo/worlds"


def zoo_records(wildcards):
    """The last record of everything that params/zoo.yaml lists; errors in it stop this rule alone."""
    parts = [one for one in zoo.listed() if one.kind != zoo.BACKBONE]
    backbones = [one for one in zoo.listed() if one.kind == zoo.BACKBONE]
    return [f"{WORLDS_OF_ZOO}/{one.world}/{one.kind}/record-pretrain.json" for one in parts] + [
        f"artifacts/zoo/backbones/{one.name}/record-{'figures' if one.prompts else 'pretrain'}.json"
        for one in backbones
    ]


def zoo_judge(wildcards):
    """The judge that a backbone of the zoo is measured by, itself trained anew."""
    return f"{WORLDS_OF_ZOO}/{world_of(wildcards)}/judge/record-pretrain.json"


def zoo_autoencoder(wildcards):
    """The autoencoder that a backbone of the zoo is trained with, itself trained anew."""
    content = load_params("backbones", wildcards.backbone)
    return f"{WORLDS_OF_ZOO}/{content['world']}/{content.get('autoencoder', 'autoencoder')}/record-pretrain.json"
