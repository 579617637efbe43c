"""Jobs that ended without their output are listed with the ends of their logs."""

from pathlib import Path

from lorun.results.failures import describe, failures


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_jobs_without_output_whose_log_is_new_are_failures(tiny_profile, tmp_path):
    runs = tmp_path / "runs"
    experiment = tiny_profile.experiment("cs", "r25", "lorun", 0)
    base = runs / experiment.base.folder
    log = write(base / "train.log", "one\ntwo\nthree\nerror: four\n")
    write(runs / experiment.folder / "train.log")
    write(runs / experiment.folder / "training.json")
    (found,) = failures(tiny_profile, runs, log.stat().st_mtime)
    assert list(describe(found)) == [
        f"failed: train of cs/r25/pretrain seed 0: {log}",
        "    two",
        "    three",
        "    error: four",
    ]
    assert failures(tiny_profile, runs, log.stat().st_mtime + 1) == []


def test_what_slurm_said_is_shown_of_a_job_that_wrote_no_log(tiny_profile, tmp_path):
    experiment = tiny_profile.experiment("cs", "r25", "block1", 0)
    folder = tmp_path / f"slurm_logs/rule_train/cs_r25_block1_0_{experiment.key}"
    killed = "slurmstepd-node1: error: Detected 1 oom_kill event in StepId=7.0."
    log = write(folder / "7.log", f"Building DAG of jobs...\n{killed}\n")
    (found,) = failures(tiny_profile, tmp_path / "runs", log.stat().st_mtime, tmp_path / "slurm_logs")
    assert list(describe(found, tmp_path / "slurm_logs"))[1:] == [f"    {killed}"]
