# All tables and figures of the profile, from everything that was evaluated and accounted; then the page of them.


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


# The same to look at: one page. What it takes beside the tables (crops, licences) is there when they are.
rule report:
    input:
        RESULTS / "summary.csv",
    output:
        RESULTS / "report.html",
    log:
        f"logs/report-{PROFILE.profile}.log",
    benchmark:
        f"logs/report-{PROFILE.profile}.benchmark.tsv"
    localrule: True
    shell:
        "lorun report {RESULTS} --config {PROFILE_FILE} --out {output} 2>&1 | tee {log}"
