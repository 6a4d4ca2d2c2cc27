rule train:
    """One method, fitted to make a backbone forget (or learn, or steer) a concept."""
    input:
        frozen_backbone,
        own_files,
        lessons=lessons,
    output:
        f"{RUN}/intervention.safetensors",
        f"{RUN}/intervention.json",
        f"{RUN}/record-train.json",
    log:
        "logs/train/{backbone}-{concept}-{method}-{seed}.log",
    benchmark:
        "benchmarks/train/{backbone}-{concept}-{method}-{seed}.tsv"
    wildcard_constraints:
        method=one_of(name for name in METHODS if name not in (*UNTRAINED, *BINARIZED)),
    threads: 1
    resources:
        gpu=GPUS,
        mem_mb=16000,
        runtime=240,
    params:
        out=subpath(output[0], parent=True),
        latents=lambda wildcards, input: "" if wildcards.method == ORACLE else f"--latents {input.lessons}",
        method=train_params,
        backbone=backbone_params,
        concept=concept_params,
    message:
        "{wildcards.method} on {wildcards.backbone} for {wildcards.concept}, seed {wildcards.seed}"
    shell:
        f"{LAUNCH} stages.train"
        " --backbone {wildcards.backbone} --concept {wildcards.concept} --method {wildcards.method}"
        " --seed {wildcards.seed} {params.latents} --threads {threads} --out {params.out} 2>&1 | tee {log} >&2"
