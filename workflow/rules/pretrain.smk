rule part:
    """What a world needs before its backbones, trained or from the zoo: judge, autoencoder, tokenizer of bits."""
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
        out=out_of(stored_part),
        code=made_by(part_params, stored_part),
    message:
        "{wildcards.part} of {wildcards.world}"
    shell:
        logged(
            "python -m stages.pretrain {wildcards.part} --world {wildcards.world} --threads {threads} --out {params.out}"
        )


rule pretrain:
    """A small generator of a real architecture class, trained on its world or taken from the zoo."""
    input:
        training_autoencoder,
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
        out=out_of(stored_backbone),
        backbone=made_by(pretrain_params, stored_backbone),
    message:
        "backbone {wildcards.backbone}"
    shell:
        logged(
            "python -m stages.pretrain backbone --backbone {wildcards.backbone} --threads {threads} --out {params.out}"
        )
