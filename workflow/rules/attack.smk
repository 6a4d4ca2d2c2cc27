rule attack:
    """A search for prompts that bring the concept back in one run, and pictures of what it found."""
    input:
        made_backbone,
        run=trained_run,
    output:
        f"{SAMPLES}/{{attack}}/metadata.jsonl",
        f"{SAMPLES}/record-attack-{{attack}}.json",
    log:
        f"logs/attack/{STUDY.name}-{{backbone}}-{{concept}}-{{method}}-{{seed}}-{{attack}}.log",
    benchmark:
        f"benchmarks/attack/{STUDY.name}-{{backbone}}-{{concept}}-{{method}}-{{seed}}-{{attack}}.tsv"
    wildcard_constraints:
        method=one_of(METHODS),
        attack=one_of(names("attacks")),
    priority: 2
    threads: 1
    resources:
        gpu=1,
        mem_mb=8000,
        runtime=240,
    params:
        study=STUDY.name,
        images=STUDY.prompts["concept"],
        out=subpath(output[0], parent=True),
        run=subpath(input.run, parent=True),
        method=train_params,
        attack=attack_params,
        backbone=backbone_params,
        concept=concept_params,
    message:
        "{wildcards.attack} on {wildcards.method} of {wildcards.backbone} for {wildcards.concept}, seed {wildcards.seed}"
    shell:
        "python -m stages.attack --study {params.study} --backbone {wildcards.backbone} --concept {wildcards.concept}"
        " --method {wildcards.method} --seed {wildcards.seed} --attack {wildcards.attack} --run {params.run}"
        " --threads {threads} --out {params.out} 2>&1 | tee {log} >&2"
