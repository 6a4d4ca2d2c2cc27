rule binarize:
    """Trained masks as zeros and ones: a method of its own, which takes the finished run of the method it is `of`."""
    input:
        made_backbone,
        lessons=lessons,
        masks=trained_masks,
    output:
        f"{RUN}/intervention.safetensors",
        f"{RUN}/intervention.json",
        f"{RUN}/record-train.json",
    log:
        "logs/binarize/{backbone}-{concept}-{method}-{seed}.log",
    benchmark:
        "benchmarks/binarize/{backbone}-{concept}-{method}-{seed}.tsv"
    wildcard_constraints:
        method=one_of(BINARIZED),
    threads: 1
    resources:
        gpu=1,
        mem_mb=8000,
        runtime=60,
    params:
        out=subpath(output[0], parent=True),
        masks=subpath(input.masks, parent=True),
        method=train_params,
        backbone=backbone_params,
        concept=concept_params,
    message:
        "{wildcards.method} on {wildcards.backbone} for {wildcards.concept}, seed {wildcards.seed}"
    shell:
        "python -m stages.binarize --backbone {wildcards.backbone} --concept {wildcards.concept} --method {wildcards.method}"
        " --seed {wildcards.seed} --runs {params.masks} --latents {input.lessons} --threads {threads} --out {params.out}"
        " 2>&1 | tee {log} >&2"
