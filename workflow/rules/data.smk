# DVC stores the datasets. One process at a time: a second one would wait three seconds for DVC's lock and then fail.


rule dataset:
    output:
        here(DATA / ".{dataset}.ok"),
    log:
        "logs/data/{dataset}.log",
    benchmark:
        "logs/data/{dataset}.benchmark.tsv"
    resources:
        dvc=1,
    localrule: True
    shell:
        "lorun data fetch {wildcards.dataset:q} --marker {output:q} 2>&1 | tee {log:q}"
