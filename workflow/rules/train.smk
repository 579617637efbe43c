# One rule trains every method. The name of a run's folder ends in the hash of all settings that affect its weights: a
# changed setting trains in a new folder, and other changes (a comment, a newer file date) start no training.


def pretrained_base(wildcards):
    """The run that a method starts from, with the same seed."""
    base = experiment(wildcards).base
    return [] if base is None else RUNS / base.folder / TRAINED


def training_threads(wildcards):
    training = experiment(wildcards).training
    return 1 if GPUS or training is None else training.cpu_threads


rule train:
    input:
        data=lambda wildcards: intact(experiment(wildcards).trained_on),
        base=pretrained_base,
    output:
        RUN / TRAINED,
    log:
        RUN / "train.log",
    benchmark:
        RUN / "train.benchmark.tsv"
    params:
        data_md5=lambda wildcards: identities(experiment(wildcards).trained_on),
    threads: training_threads
    resources:
        gpu=min(1, GPUS),
        mem_mb=growing(lambda wildcards: training_memory(experiment(wildcards), gpu=GPUS > 0)),
        runtime=growing(lambda wildcards: training_minutes([experiment(wildcards)], gpu=GPUS > 0)),
    priority: 10
    # Status 3: diverged or out of memory. The tables show it, and the workflow goes on.
    shell:
        UNPACK
        + FETCH
        + "(lorun train --config {PROFILE_FILE:q} --task {wildcards.task:q} --setting {wildcards.setting:q}"
        " --method {wildcards.method:q} --seed {wildcards.seed:q} || [ $? -eq 3 ]) 2>&1 | tee {log:q}"
        + PACK
