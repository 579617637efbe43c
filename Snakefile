# From data to result tables: `make reproduce`, or by hand
#   snakemake --cores 2 --config profile=quick
# Steps: dataset -> tune -> train (pretrain first, for lorun) -> evaluate, account -> table -> report.

include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/tune.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/results.smk"


# Also the inputs of the table: a table that was written after a failure must not hide the runs that it lacks.
rule all:
    default_target: True
    input:
        rules.table.input,
        here(RESULTS / "summary.csv"),
        here(RESULTS / "report.html"),


rule data:
    input:
        markers(PROFILE.datasets()),
