rule baseline:
    """The unedited backbone's samples, which every method is compared with: same prompts, same noise."""
    input:
        made_backbone,
        prompts=rules.prepare.output,
    output:
        expand(
            "artifacts/{{backbone}}/{{concept}}/{method}/{{seed}}/samples/{study}/{file}",
            method=BASELINE,
            study=STUDY.name,
            file=SAMPLE_FILES,
        ),
    log:
        f"logs/sample/{STUDY.name}-{{backbone}}-{{concept}}-{BASELINE}-{{seed}}.log",
    benchmark:
        f"benchmarks/sample/{STUDY.name}-{{backbone}}-{{concept}}-{BASELINE}-{{seed}}.tsv"
    threads: 1
    resources:
        gpu=1,
        mem_mb=8000,
        runtime=120,
    params:
        out=subpath(output[0], ancestor=2),
        method=BASELINE,
        backbone=backbone_params,
    message:
        "samples of {wildcards.backbone} unedited, prompts of {wildcards.concept}, seed {wildcards.seed}"
    shell:
        "python -m stages.sample --backbone {wildcards.backbone} --concept {wildcards.concept} --method {params.method}"
        " --seed {wildcards.seed} --prompts {input.prompts} --threads {threads} --out {params.out} 2>&1 | tee {log} >&2"
