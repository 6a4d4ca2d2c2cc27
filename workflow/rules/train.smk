rule train:
    """One method, fitted to make a backbone forget (or learn, or steer) a concept."""
    input:
        trained_backbone,
        method_files,
        learns_from=training_inputs,
    output:
        update(f"{RUN}/intervention.safetensors"),
        update(f"{RUN}/intervention.json"),
        update(f"{RUN}/record-train.json"),
    log:
        "logs/train/{backbone}-{concept}-{method}-{seed}.log",
    benchmark:
        "benchmarks/train/{backbone}-{concept}-{method}-{seed}.tsv"
    wildcard_constraints:
        method=one_of(TRAINED),
    threads: 1
    resources:
        gpu=GPUS,
        mem_mb=memory(),
        runtime=minutes(),
    params:
        out=subpath(output[0], parent=True),
        latents=lambda wildcards, input: (
            "" if wildcards.method == ORACLE or not input.learns_from else f"--latents {input.learns_from}"
        ),
        method=train_params,
        backbone=backbone_params,
        concept=concept_params,
    message:
        "{wildcards.method} on {wildcards.backbone} for {wildcards.concept}, seed {wildcards.seed}"
    shell:
        logged(
            f"{LAUNCH} stages.train"
            " --backbone {wildcards.backbone} --concept {wildcards.concept} --method {wildcards.method}"
            " --seed {wildcards.seed} {params.latents} --threads {threads} --out {params.out}"
        )
