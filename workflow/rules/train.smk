# One rule trains everything. A run's folder carries the hash of what shapes its weights, so a changed configuration
# trains beside the old run, and nothing else (a comment, a newer file date) ever trains again.


def pretrained_base(wildcards):
    """The run that a method starts from, with the same seed."""
    base = experiment(wildcards).base
    return [] if base is None else RUNS / base.folder / "training.json"


def training_threads(wildcards):
    training = experiment(wildcards).training
    return 1 if GPUS or training is None else training.cpu_threads


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
    threads: training_threads
    resources:
        gpu=min(1, GPUS),
    priority: 10
    # Status 3: diverged or out of memory. That is a result with a row of its own, not a failure of the workflow.
    shell:
        "(lorun train --config {PROFILE_FILE} --task {wildcards.task} --setting {wildcards.setting}"
        " --method {wildcards.method} --seed {wildcards.seed} || [ $? -eq 3 ]) 2>&1 | tee {log}"
