use rule part as zoo_part with:
    output:
        update(f"{WORLDS_OF_ZOO}/{{world}}/{{part}}/record-pretrain.json"),
    log:
        "logs/zoo/{world}-{part}.log",
    benchmark:
        "benchmarks/zoo/{world}-{part}.tsv"
    params:
        out=subpath(output[0], parent=True),
        code=part_params,
    message:
        "{wildcards.part} of {wildcards.world}, for the zoo"


use rule pretrain as zoo_backbone with:
    input:
        zoo_autoencoder,
    output:
        update("artifacts/zoo/backbones/{backbone}/model_index.json"),
        update("artifacts/zoo/backbones/{backbone}/record-pretrain.json"),
    log:
        "logs/zoo/{backbone}.log",
    benchmark:
        "benchmarks/zoo/{backbone}.tsv"
    params:
        out=lambda wildcards, output: f"{os.path.dirname(output[0])} --worlds {WORLDS_OF_ZOO}",
        backbone=pretrain_params,
    message:
        "backbone {wildcards.backbone}, for the zoo"


rule zoo_figures:
    """What the judge sees in a backbone's pictures, for its card."""
    input:
        "artifacts/zoo/backbones/{backbone}/record-pretrain.json",
        zoo_judge,
    output:
        update("artifacts/zoo/backbones/{backbone}/record-figures.json"),
    log:
        "logs/zoo/{backbone}-figures.log",
    benchmark:
        "benchmarks/zoo/{backbone}-figures.tsv"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(),
        runtime=minutes(0.5),
    message:
        "what the judge sees of {wildcards.backbone}"
    shell:
        logged("python -m stages.zoo judge {wildcards.backbone} --threads {threads}")


rule zoo:
    """Everything that params/zoo.yaml lists, trained from nothing; `python -m stages.zoo add` puts it into data/zoo."""
    input:
        zoo_records,
