rule precompute:
    """The frozen backbone's own trajectories, which the methods train on."""
    input:
        made_backbone,
    output:
        "artifacts/{backbone}/{concept}/latents.safetensors",
    log:
        "logs/precompute/{backbone}-{concept}.log",
    benchmark:
        "benchmarks/precompute/{backbone}-{concept}.tsv"
    threads: 1
    resources:
        gpu=1,
        mem_mb=8000,
        runtime=120,
    params:
        backbone=backbone_params,
        concept=concept_params,
    message:
        "trajectories of {wildcards.backbone} for {wildcards.concept}"
    shell:
        "python -m stages.precompute --backbone {wildcards.backbone} --concept {wildcards.concept} --threads {threads}"
        " --out {output} 2>&1 | tee {log} >&2"
