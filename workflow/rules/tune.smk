# Learning rates: short trainings for each value of a grid. The choices go into config/tuned/PROFILE.csv. They shape the
# keys of all runs, so the launcher asks for `tune` before anything else, and only where a choice is missing. It forces
# the jobs: a choice may be lost, or no longer hold, whatever marker is there. Trials that are done cost nothing.

import hashlib

TUNING = RUNS / "tuning" / PROFILE.profile / hashlib.sha256(PROFILE.model_dump_json().encode()).hexdigest()[:10]
UNTUNED = PROFILE.untuned()


def tuned_base(wildcards):
    """The base of a method is tuned first, unless it is tuned."""
    base = PROFILE.trial(wildcards.task, wildcards.method, 1.0).base
    untuned = base is not None and (base.task, base.method) in UNTUNED
    return TUNING / base.task / f"{base.method}.done" if untuned else []


def trials(wildcards):
    """As many trainings as a method may need: each value of its grid, and whole ones of the finalists."""
    place = wildcards.task, wildcards.method
    grid = PROFILE.grid(*place)
    return [
        *(PROFILE.trial(*place, value) for value in grid),
        *(PROFILE.trial(*place, value, whole=True) for value in PROFILE.finalists(*place, grid[-1])),
    ]


rule tune:
    input:
        [TUNING / task / f"{method}.done" for task, method in UNTUNED],


rule tune_one:
    input:
        data=lambda wildcards: intact(PROFILE.trial(wildcards.task, wildcards.method, 1.0).trained_on),
        base=tuned_base,
    output:
        touch(TUNING / "{task}" / "{method}.done"),
    log:
        TUNING / "{task}" / "{method}.log",
    benchmark:
        TUNING / "{task}" / "{method}.benchmark.tsv"
    resources:
        gpu=min(1, GPUS),
        mem_mb=growing(lambda wildcards: training_memory(trials(wildcards)[0], gpu=GPUS > 0)),
        runtime=growing(lambda wildcards: training_minutes(trials(wildcards), gpu=GPUS > 0)),
    shell:
        "lorun tune --config {PROFILE_FILE:q} --task {wildcards.task:q} --method {wildcards.method:q} 2>&1 | tee {log:q}"
