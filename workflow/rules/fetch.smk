rule source:
    """One published prompt file, brought from its authors and checked."""
    output:
        update("artifacts/sources/{source}/source.json"),
    log:
        "logs/fetch/{source}.log",
    benchmark:
        "benchmarks/fetch/{source}.tsv"
    wildcard_constraints:
        source=one_of(names("prompts")),
    threads: 1
    resources:
        mem_mb=each_attempt(500),
        runtime=each_attempt(30),
    params:
        content=lambda wildcards: canonical(load_params("prompts", wildcards.source)),
    message:
        "published prompts {wildcards.source}"
    shell:
        logged("python -m stages.fetch {wildcards.source}")


rule fetch:
    input:
        sources_asked,
