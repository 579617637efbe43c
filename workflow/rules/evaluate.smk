# The scores of a trained run, and the costs of a method.


rule evaluate:
    input:
        RUN / TRAINED,
        base=lambda wildcards: pretrained_base(wildcards) if STORED else [],
        data=lambda wildcards: intact(experiment(wildcards).test),
    output:
        RUN / EVALUATED,
    log:
        RUN / "evaluate.log",
    benchmark:
        RUN / "evaluate.benchmark.tsv"
    params:
        config=config_hash,
        data_md5=lambda wildcards: identities(experiment(wildcards).test),
    resources:
        gpu=min(1, GPUS),
        mem_mb=growing(lambda _: scoring_memory(gpu=GPUS > 0)),
        runtime=growing(lambda _: 60),
    shell:
        UNPACK
        + FETCH
        + "lorun evaluate --config {PROFILE_FILE:q} --task {wildcards.task:q} --setting {wildcards.setting:q}"
        " --method {wildcards.method:q} --seed {wildcards.seed:q} 2>&1 | tee {log:q}"
        + PACK


rule account:
    output:
        RUNS / "{task}/{setting}/{method}/accounting-{key}.json",
    log:
        RUNS / "{task}/{setting}/{method}/accounting-{key}.log",
    benchmark:
        RUNS / "{task}/{setting}/{method}/accounting-{key}.benchmark.tsv"
    resources:
        account=1,  # those of a group of jobs run one after the other
        gpu=min(1, GPUS),
        mem_mb=growing(lambda _: scoring_memory(gpu=GPUS > 0)),
        runtime=growing(lambda _: 30),
    shell:
        FETCH
        + "lorun account --config {PROFILE_FILE:q} --task {wildcards.task:q} --setting {wildcards.setting:q}"
        " --method {wildcards.method:q} --out {output:q} 2>&1 | tee {log:q}"
