rule search:
    """The trials of one method on one architecture, on the tuning side alone, and the best of them."""
    input:
        made_backbone,
        made_judge,
        oracle_made,
    output:
        update(f"{SEARCH}/summary.json"),
        update(f"{SEARCH}/trials.csv"),
    log:
        "logs/tune/{backbone}-{method}.log",
    benchmark:
        "benchmarks/tune/{backbone}-{method}.tsv"
    wildcard_constraints:
        method=one_of(names("tuning")),
        backbone=one_of(side.backbone for side in PROTOCOL.searches.values()),
        kind=one_of(CONCEPTS),
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(),
        runtime=minutes(PROTOCOL.trials),
    params:
        out=subpath(output[0], parent=True),
        words=search_words,
        asked=search_params,
        backbone=backbone_params,
    message:
        "search {wildcards.method} on {wildcards.backbone}"
    shell:
        logged(
            "python -m stages.tune search --method {wildcards.method} --backbone {wildcards.backbone} {params.words}"
            " --threads {threads} --out {params.out}"
        )


use rule search as search_of_kind with:
    output:
        update(f"{OF_KIND}/summary.json"),
        update(f"{OF_KIND}/trials.csv"),
    log:
        "logs/tune/{backbone}-{method}-{kind}.log",
    benchmark:
        "benchmarks/tune/{backbone}-{method}-{kind}.tsv"
    message:
        "search {wildcards.method} for {wildcards.kind} on {wildcards.backbone}"


rule tune:
    input:
        searches_asked,
