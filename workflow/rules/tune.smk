"""The search for settings: `snakemake tune`, or `snakemake tune --config tune=esd`. No study asks for it."""

from stages.params.protocol import load_protocol
from stages.tuning.side import searches

SEARCH = "artifacts/tuning/{backbone}/{method}"
PROTOCOL = load_protocol()


def searched_on(wildcards):
    """What the protocol says of a backbone that settings are searched on."""
    return next(side for side in PROTOCOL.searches.values() if side.backbone == wildcards.backbone)


def oracle_made(wildcards):
    """The record of the oracle that chance levels are read from; nothing without one, or if it was not made here."""
    oracle = searched_on(wildcards).oracle
    return filled("artifacts/backbones/{backbone}/record-pretrain.json", wildcards, backbone=oracle) if oracle else []


def search_params(wildcards):
    """All that a search depends on: the space, the method's own fields and code, and the side that it looks at."""
    side = searched_on(wildcards)
    concepts = {name: load_params("concepts", name) for name in side.concepts}
    own = with_code(load_params("methods", wildcards.method))
    metric = with_code(params.metric_params(side.metric, wildcards.backbone))
    space = load_params("tuning", wildcards.method)
    return canonical({"space": space, "method": own, "concepts": concepts, "metric": metric, "trials": PROTOCOL.trials})


def search_words(wildcards):
    """The side as options of the command."""
    side = searched_on(wildcards)
    oracle = f" --oracle {side.oracle}" if side.oracle else ""
    return f"--metric {side.metric} --concepts {' '.join(side.concepts)}{oracle}"


def searches_asked(wildcards):
    """The summaries of all searches, or of those of the methods in `--config tune=`."""
    asked = config.get("tune", "all")
    try:
        pairs = searches(PROTOCOL, None if asked == "all" else [asked] if isinstance(asked, str) else asked)
    except ValueError as error:
        refuse(error)
    return [f"{SEARCH}/summary.json".format(method=method, backbone=backbone) for method, backbone in pairs]


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


rule tune:
    input:
        searches_asked,
