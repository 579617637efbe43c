# From data to result tables: `make reproduce`, or by hand
#   snakemake --cores 2 --config profile=quick
# The way of a number: dataset -> train (pretrain first, for lorun) -> evaluate, account -> table.

include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/results.smk"


rule all:
    default_target: True
    input:
        RESULTS / "summary.csv",


rule data:
    input:
        DATASETS,


# Whatever finished is in the tables; what failed or never ran is a row that says so.
onerror:
    shell(f"lorun table --config {PROFILE_FILE} --out {RESULTS} --partial || true")
