"""Palimpsest: erase, steer, invert or break a concept in a generator, and measure what happened.

snakemake --cores 2                         the study named in params/pipeline.yaml
snakemake --cores 2 --config study=smoke    another study of params/studies
snakemake --cores 2 tune --config tune=uce  the settings of a method, searched; without --config, of all methods
snakemake fetch --config fetch=ring79       published prompts; without --config, those of the study
snakemake -n                                what would run
"""

from snakemake.utils import min_version

min_version("9.9")


configfile: "params/pipeline.yaml"


include: "workflow/rules/params.smk"
include: "workflow/rules/paths.smk"
include: "workflow/rules/machine.smk"
include: "workflow/rules/fetch.smk"
include: "workflow/rules/prepare.smk"
include: "workflow/rules/pretrain.smk"
include: "workflow/rules/zoo_inputs.smk"
include: "workflow/rules/zoo.smk"
include: "workflow/rules/precompute.smk"
include: "workflow/rules/fit_and_sample.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/binarize.smk"
include: "workflow/rules/sample.smk"
include: "workflow/rules/attack.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/searches.smk"
include: "workflow/rules/tune.smk"


rule all:
    default_target: True
    input:
        rules.report.output,


rule prompts:
    input:
        expand(rules.prepare.output, concept=[concept for (concept,) in STUDY.unique("concept")]),


rule backbones:
    input:
        [made_backbone(run) or [] for run in STUDY.runs],
        [made_judge(run) or [] for run in STUDY.runs],
