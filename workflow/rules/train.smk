# One rule trains everything. A run's folder carries the hash of what shapes its weights, so a changed configuration
# trains beside the old run, and nothing else (a comment, a newer file date) ever trains again.


def pretrained_base(wildcards):
    """LoRun's phase 2 starts from the base of the same seed, in the setting and task that it takes it from."""
    if wildcards.method not in PRETRAINED:
        return []
    return RUNS / experiment(wildcards).pretraining.folder / "training.json"


rule train:
    input:
        data=lambda wildcards: ancient(markers(training_data(wildcards))),
        base=pretrained_base,
    output:
        RUNS / "{task}/{setting}/{method}/seed{seed}-{key}/training.json",
    log:
        RUNS / "{task}/{setting}/{method}/seed{seed}-{key}/train.log",
    benchmark:
        RUNS / "{task}/{setting}/{method}/seed{seed}-{key}/train.benchmark.tsv"
    params:
        data_md5=lambda wildcards: identities(training_data(wildcards)),
    threads: lambda wildcards: 1 if GPUS else experiment(wildcards).training.cpu_threads
    resources:
        gpu=min(1, GPUS),
    priority: 10
    # Status 3: diverged or out of memory. That is a result with a row of its own, not a failure of the workflow.
    shell:
        "(lorun train --config {PROFILE_FILE} --task {wildcards.task} --setting {wildcards.setting}"
        " --method {wildcards.method} --seed {wildcards.seed} || [ $? -eq 3 ]) 2>&1 | tee {log}"
