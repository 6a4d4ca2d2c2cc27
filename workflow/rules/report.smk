report: "../report/workflow.rst"


rule report:
    """All numbers in one table, and the figures and pages made from it."""
    input:
        [
            f"{METRICS}/{{metric}}.json".format(**vars(run), metric=metric)
            for run in STUDY.runs
            for metric in STUDY.metrics
        ],
    output:
        report("artifacts/tables/results.csv", caption="../report/results.rst", category="numbers"),
        "artifacts/tables/summary.json",
        "artifacts/tables/tradeoff.csv",
        f"artifacts/tables/{STUDY.name}.md",
        [
            f"artifacts/tables/{STUDY.name}-{backbone}-{concept}.md"
            for backbone, concept in STUDY.unique("backbone", "concept")
        ],
        report(
            directory("artifacts/figures"),
            patterns=["{figure}.png"],
            caption="../report/figures.rst",
            category="figures",
        ),
        page="artifacts/report/index.html",
    log:
        f"logs/report/{STUDY.name}.log",
    benchmark:
        f"benchmarks/report/{STUDY.name}.tsv"
    threads: 1
    resources:
        mem_mb=each_attempt(4000),
        runtime=each_attempt(60),
    params:
        study=STUDY.name,
        content=canonical(load_params("studies", STUDY.name)),
        sensitive=[name for (name,) in STUDY.unique("concept") if load_params("concepts", name).get("sensitive")],
    message:
        "tables, figures and report of {params.study}"
    shell:
        logged("python -m stages.report --study {params.study} --out artifacts")
