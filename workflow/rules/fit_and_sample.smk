rule fit_and_sample:
    """A method that fits in a moment, and its samples: the unedited backbone, closed forms, guidance."""
    input:
        made_backbone,
        method_files,
        prompts=rules.prepare.output,
    output:
        update(expand(f"{SAMPLES}/{{file}}", file=[*SAMPLE_FILES, *INTERVENTION], allow_missing=True)),
    log:
        f"logs/sample/{STUDY.name}-{{backbone}}-{{concept}}-{{method}}-{{seed}}.log",
    benchmark:
        f"benchmarks/sample/{STUDY.name}-{{backbone}}-{{concept}}-{{method}}-{{seed}}.tsv"
    wildcard_constraints:
        method=one_of(UNTRAINED),
    priority: 1
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(),
        runtime=minutes(0.5),
    params:
        out=subpath(output[0], ancestor=2),
        method=train_params,
        backbone=backbone_params,
        concept=concept_params,
    message:
        "samples of {wildcards.method} on {wildcards.backbone} for {wildcards.concept}, seed {wildcards.seed}"
    shell:
        logged(
            "python -m stages.sample --backbone {wildcards.backbone} --concept {wildcards.concept} --method {wildcards.method}"
            " --seed {wildcards.seed} --prompts {input.prompts} --threads {threads} --out {params.out}"
        )
