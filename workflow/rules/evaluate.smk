rule evaluate:
    """What the study measures on one run's samples, against the unedited backbone's on the same prompts and noise."""
    input:
        made_judge,
        expand(f"{SAMPLES}/{{file}}", file=SAMPLE_FILES, allow_missing=True),
        metric_files,
        attacked=attacked_samples,
        baseline=baseline_samples,
        prompts=rules.prepare.output,
    output:
        update(expand(f"{METRICS}/{{metric}}.json", metric=STUDY.metrics, allow_missing=True)),
    log:
        f"logs/evaluate/{STUDY.name}-{{backbone}}-{{concept}}-{{method}}-{{seed}}.log",
    benchmark:
        f"benchmarks/evaluate/{STUDY.name}-{{backbone}}-{{concept}}-{{method}}-{{seed}}.tsv"
    wildcard_constraints:
        method=one_of(METHODS),
    priority: 3
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(0.5),
        runtime=minutes(0.25),
    params:
        study=STUDY.name,
        out=subpath(output[0], parent=True),
        attacks=lambda wildcards: " ".join(["--attacks", *attacks_on(wildcards)]),
        metrics=metric_params,
        concept=concept_params,
    message:
        "measure {wildcards.method} on {wildcards.backbone} for {wildcards.concept}, seed {wildcards.seed}"
    shell:
        logged(
            "python -m stages.evaluate --backbone {wildcards.backbone} --concept {wildcards.concept} --method {wildcards.method}"
            " --seed {wildcards.seed} --study {params.study} {params.attacks} --threads {threads} --out {params.out}"
        )
