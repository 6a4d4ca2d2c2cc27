rule prepare:
    """The prompts a concept is measured on: labelled rows of a dataset, with one sampling seed each."""
    input:
        lambda wildcards: load_params("concepts", wildcards.concept)["dataset"],
    output:
        f"artifacts/prompts/{STUDY.name}/{{concept}}.json",
    log:
        f"logs/prepare/{STUDY.name}-{{concept}}.log",
    benchmark:
        f"benchmarks/prepare/{STUDY.name}-{{concept}}.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        study=STUDY.name,
        counts=canonical(STUDY.prompts),
        concept=concept_params,
    message:
        "prompts of {wildcards.concept}"
    shell:
        "python -m stages.prepare --concept {wildcards.concept} --study {params.study} --out {output} 2>&1 | tee {log} >&2"
