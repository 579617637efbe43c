# All tables and figures of the profile, from everything that was evaluated and accounted.


rule table:
    input:
        rows=[RUNS / e.folder / "evaluation.csv" for e in EXPERIMENTS],
        accounts=[account_path(RUNS, e) for e in PROFILE.accounted()],
    output:
        RESULTS / "summary.csv",
    log:
        f"logs/table-{PROFILE.profile}.log",
    benchmark:
        f"logs/table-{PROFILE.profile}.benchmark.tsv"
    localrule: True
    shell:
        "lorun table --config {PROFILE_FILE} --out {RESULTS} 2>&1 | tee {log}"
