rule precompute:
    """The unedited backbone's own trajectories, of which the states are kept that the study's methods train on."""
    input:
        made_backbone,
    output:
        update(LATENTS),
    log:
        "logs/precompute/{backbone}-{concept}-{seed}.log",
    benchmark:
        "benchmarks/precompute/{backbone}-{concept}-{seed}.tsv"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(),
        runtime=minutes(0.5),
    params:
        backbone=backbone_params,
        concept=concept_params,
        states=states_kept,
    message:
        "trajectories of {wildcards.backbone} for {wildcards.concept}, seed {wildcards.seed}"
    shell:
        logged(
            "python -m stages.precompute --backbone {wildcards.backbone} --concept {wildcards.concept} --seed {wildcards.seed}"
            " --states {params.states} --threads {threads} --out {output}"
        )
