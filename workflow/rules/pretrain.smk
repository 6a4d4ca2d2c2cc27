rule part:
    """What a world needs before its backbones: a judge of pictures, an autoencoder, a tokenizer of bits."""
    output:
        update("artifacts/worlds/{world}/{part}/record-pretrain.json"),
    log:
        "logs/pretrain/{world}-{part}.log",
    benchmark:
        "benchmarks/pretrain/{world}-{part}.tsv"
    priority: 4
    threads: 1
    resources:
        gpu=1,
        mem_mb=each_attempt(4000),
        runtime=each_attempt(60),
    params:
        out=subpath(output[0], parent=True),
        code=part_params,
    message:
        "{wildcards.part} of {wildcards.world}"
    shell:
        logged(
            "python -m stages.pretrain {wildcards.part} --world {wildcards.world} --threads {threads} --out {params.out}"
        )


rule pretrain:
    """A small generator of a real architecture class, trained on its world."""
    input:
        made_autoencoder,
    output:
        update("artifacts/backbones/{backbone}/model_index.json"),
        update("artifacts/backbones/{backbone}/record-pretrain.json"),
    log:
        "logs/pretrain/{backbone}.log",
    benchmark:
        "benchmarks/pretrain/{backbone}.tsv"
    priority: 4
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(),
        runtime=minutes(),
    params:
        out=subpath(output[0], parent=True),
        backbone=pretrain_params,
    message:
        "backbone {wildcards.backbone}"
    shell:
        logged(
            "python -m stages.pretrain backbone --backbone {wildcards.backbone} --threads {threads} --out {params.out}"
        )
