rule judge:
    """The classifier that tells what a picture of a world shows; its features serve the Frechet distance."""
    output:
        "artifacts/worlds/{world}/judge/judge.safetensors",
        "artifacts/worlds/{world}/judge/record-pretrain.json",
    log:
        "logs/pretrain/{world}-judge.log",
    benchmark:
        "benchmarks/pretrain/{world}-judge.tsv"
    priority: 4
    threads: 1
    resources:
        gpu=1,
        mem_mb=4000,
        runtime=60,
    params:
        code=[code(path) for path in (WORLD, "stages.worlds.judge.Judge", "stages.worlds.train_judge.train_judge")],
    message:
        "judge of {wildcards.world}"
    shell:
        "python -m stages.pretrain judge --world {wildcards.world} --threads {threads}"
        " --out artifacts/worlds/{wildcards.world}/judge 2>&1 | tee {log} >&2"


rule autoencoder:
    """The autoencoder that a world's latent backbones share."""
    output:
        "artifacts/worlds/{world}/autoencoder/config.json",
        "artifacts/worlds/{world}/autoencoder/record-pretrain.json",
    log:
        "logs/pretrain/{world}-autoencoder.log",
    benchmark:
        "benchmarks/pretrain/{world}-autoencoder.tsv"
    priority: 4
    threads: 1
    resources:
        gpu=1,
        mem_mb=4000,
        runtime=60,
    params:
        code=[code(path) for path in (WORLD, "stages.worlds.autoencoder.train_autoencoder")],
    message:
        "autoencoder of {wildcards.world}"
    shell:
        "python -m stages.pretrain autoencoder --world {wildcards.world} --threads {threads}"
        " --out artifacts/worlds/{wildcards.world}/autoencoder 2>&1 | tee {log} >&2"


rule tokenizer:
    """The bitwise tokenizer of a world's autoregressive backbones."""
    output:
        "artifacts/worlds/{world}/tokenizer/config.json",
        "artifacts/worlds/{world}/tokenizer/record-pretrain.json",
    log:
        "logs/pretrain/{world}-tokenizer.log",
    benchmark:
        "benchmarks/pretrain/{world}-tokenizer.tsv"
    priority: 4
    threads: 1
    resources:
        gpu=1,
        mem_mb=4000,
        runtime=60,
    params:
        code=[code(path) for path in (WORLD, "stages.worlds.tokenizer.train_tokenizer")],
    message:
        "tokenizer of {wildcards.world}"
    shell:
        "python -m stages.pretrain tokenizer --world {wildcards.world} --threads {threads}"
        " --out artifacts/worlds/{wildcards.world}/tokenizer 2>&1 | tee {log} >&2"


rule backbone:
    """A small generator of a real architecture class, trained on its world."""
    input:
        made_autoencoder,
    output:
        "artifacts/backbones/{backbone}/model_index.json",
        "artifacts/backbones/{backbone}/record-pretrain.json",
    log:
        "logs/pretrain/{backbone}.log",
    benchmark:
        "benchmarks/pretrain/{backbone}.tsv"
    priority: 4
    threads: 1
    resources:
        gpu=1,
        mem_mb=8000,
        runtime=240,
    params:
        backbone=pretrain_params,
    message:
        "backbone {wildcards.backbone}"
    shell:
        "python -m stages.pretrain backbone --backbone {wildcards.backbone} --threads {threads}"
        " --out artifacts/backbones/{wildcards.backbone} 2>&1 | tee {log} >&2"
