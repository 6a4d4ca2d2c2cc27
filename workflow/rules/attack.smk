rule attack:
    """A search for prompts that bring the concept back in one run, and pictures of what it found."""
    input:
        made_backbone,
        attack_files,
        made_judge,
        run=trained_run,
    output:
        update(f"{ATTACKS}/{{attack}}/metadata.jsonl"),
        update(f"{ATTACKS}/record-attack-{{attack}}.json"),
    log:
        f"logs/attack/{STUDY.name}-{{backbone}}-{{concept}}-{{method}}-{{seed}}-{{attack}}.log",
    benchmark:
        f"benchmarks/attack/{STUDY.name}-{{backbone}}-{{concept}}-{{method}}-{{seed}}-{{attack}}.tsv"
    wildcard_constraints:
        method=one_of(METHODS),
    priority: 2
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(),
        runtime=minutes(),
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
        logged(
            "python -m stages.attack --study {params.study} --backbone {wildcards.backbone} --concept {wildcards.concept}"
            " --method {wildcards.method} --seed {wildcards.seed} --attack {wildcards.attack} --run {params.run}"
            " --threads {threads} --out {params.out}"
        )
