# From data to result tables: `make reproduce`, or by hand
#   snakemake --cores 2 --config profile=quick
# The way of a number: dataset -> tune -> train (pretrain first, for lorun) -> evaluate, account -> table -> report.

include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/tune.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/results.smk"


# What the table is made of, too: after a failure there is a table, but what it lacks is still to be run.
rule all:
    default_target: True
    input:
        rules.table.input,
        rules.table.output,
        rules.report.output,


rule data:
    input:
        markers(PROFILE.datasets()),
