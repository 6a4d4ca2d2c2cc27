rule binarize:
    """Trained masks as zeros and ones: a method of its own, which takes the finished run of the method it is `of`."""
    input:
        made_backbone,
        latents=training_inputs,
        masks=trained_masks,
    output:
        update(f"{RUN}/intervention.safetensors"),
        update(f"{RUN}/intervention.json"),
        update(f"{RUN}/record-binarize.json"),
    log:
        "logs/binarize/{backbone}-{concept}-{method}-{seed}.log",
    benchmark:
        "benchmarks/binarize/{backbone}-{concept}-{method}-{seed}.tsv"
    wildcard_constraints:
        method=one_of(BINARIZED),
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(),
        runtime=minutes(0.25),
    params:
        out=subpath(output[0], parent=True),
        masks=subpath(input.masks, parent=True),
        method=train_params,
        backbone=backbone_params,
        concept=concept_params,
    message:
        "{wildcards.method} on {wildcards.backbone} for {wildcards.concept}, seed {wildcards.seed}"
    shell:
        logged(
            "python -m stages.binarize --backbone {wildcards.backbone} --concept {wildcards.concept} --method {wildcards.method}"
            " --seed {wildcards.seed} --runs {params.masks} --latents {input.latents} --threads {threads} --out {params.out}"
        )
