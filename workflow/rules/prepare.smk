rule prepare:
    """The prompts a concept is measured on: labelled rows of a dataset, with one sampling seed each."""
    input:
        lambda wildcards: load_params("concepts", wildcards.concept)["dataset"],
        published=[record_of(name) for name in STUDY.sources],
    output:
        update(f"artifacts/prompts/{STUDY.name}/{{concept}}.json"),
    log:
        f"logs/prepare/{STUDY.name}-{{concept}}.log",
    benchmark:
        f"benchmarks/prepare/{STUDY.name}-{{concept}}.tsv"
    threads: 1
    resources:
        mem_mb=each_attempt(1000),
        runtime=each_attempt(10),
    params:
        study=STUDY.name,
        counts=canonical(STUDY.prompts),
        published=canonical({name: one.model_dump() for name, one in STUDY.published.items()}),
        split=STUDY.split,
        concept=concept_params,
    message:
        "prompts of {wildcards.concept}"
    shell:
        logged("python -m stages.prepare --concept {wildcards.concept} --study {params.study} --out {output}")
