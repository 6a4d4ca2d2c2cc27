"""What the rules of tune.smk read: the protocol, and which searches are asked for."""

from stages.params.layers import CONCEPTS
from stages.params.protocol import load_protocol
from stages.tuning.side import of_kind, searches

SEARCH = "artifacts/tuning/{backbone}/{method}"
OF_KIND = f"{SEARCH}/{{kind}}"  # of a method whose settings differ by the kind of concept

try:
    PROTOCOL = load_protocol()
except ValueError as error:
    refuse(error)


def searched_on(wildcards):
    """What the protocol says of a backbone that settings are searched on."""
    return next(side for side in PROTOCOL.searches.values() if side.backbone == wildcards.backbone)


def tuned_on(wildcards):
    """The concepts of a search: those of the protocol, or of one kind among them."""
    return of_kind(searched_on(wildcards).concepts, getattr(wildcards, "kind", ""))


def oracle_made(wildcards):
    """The record of the oracle that chance levels are read from; nothing without one, or if it was not made here."""
    oracle = searched_on(wildcards).oracle
    return filled("artifacts/backbones/{backbone}/record-pretrain.json", wildcards, backbone=oracle) if oracle else []


def search_params(wildcards):
    """All that a search depends on: the space, the method's own fields and code, and the side that it looks at."""
    side = searched_on(wildcards)
    concepts = {name: load_params("concepts", name) for name in tuned_on(wildcards)}
    own = with_code(load_params("methods", wildcards.method))
    metric = with_code(params.metric_params(side.metric, wildcards.backbone))
    space = load_params("tuning", wildcards.method)
    return canonical({"space": space, "method": own, "concepts": concepts, "metric": metric, "trials": PROTOCOL.trials})


def search_words(wildcards):
    """The side as options of the command."""
    side = searched_on(wildcards)
    oracle = f" --oracle {side.oracle}" if side.oracle else ""
    kind = f" --kind {wildcards.kind}" if hasattr(wildcards, "kind") else ""
    return f"--metric {side.metric} --concepts {' '.join(tuned_on(wildcards))}{kind}{oracle}"


def searches_asked(wildcards):
    """The summaries of all searches, or of those of the methods in `--config tune=`."""
    asked = config.get("tune", "all")
    try:
        found = searches(PROTOCOL, None if asked == "all" else [asked] if isinstance(asked, str) else asked)
    except ValueError as error:
        refuse(error)
    return [
        f"{OF_KIND if kind else SEARCH}/summary.json".format(method=method, backbone=backbone, kind=kind)
        for method, backbone, kind in found
    ]
