rule sample:
    """An edited backbone's samples: one folder of images for each set of prompts."""
    input:
        made_backbone,
        run=f"{RUN}/intervention.safetensors",
        spec=f"{RUN}/intervention.json",
        prompts=rules.prepare.output,
    output:
        update(expand(f"{SAMPLES}/{{file}}", file=SAMPLE_FILES, allow_missing=True)),
    log:
        f"logs/sample/{STUDY.name}-{{backbone}}-{{concept}}-{{method}}-{{seed}}.log",
    benchmark:
        f"benchmarks/sample/{STUDY.name}-{{backbone}}-{{concept}}-{{method}}-{{seed}}.tsv"
    priority: 1
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(),
        runtime=minutes(0.5),
    params:
        run=subpath(input.run, parent=True),
        out=subpath(output[0], ancestor=2),
        backbone=backbone_params,
    message:
        "samples of {wildcards.method} on {wildcards.backbone} for {wildcards.concept}, seed {wildcards.seed}"
    shell:
        logged(
            "python -m stages.sample --backbone {wildcards.backbone} --concept {wildcards.concept} --method {wildcards.method}"
            " --seed {wildcards.seed} --run {params.run} --prompts {input.prompts} --threads {threads} --out {params.out}"
        )
