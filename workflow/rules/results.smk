# The tables and figures of the profile, from all evaluations and accounts; then the report page.


rule table:
    input:
        rows=[RUNS / e.folder / EVALUATED for e in EXPERIMENTS],
        bases=[RUNS / base.folder / TRAINED for e in EXPERIMENTS for base in with_bases(e) if base != e] if STORED else [],
        accounts=[account_path(RUNS, e) for e in PROFILE.accounted()],
    output:
        update(here(RESULTS / "summary.csv")),  # stays where the tables cannot be made
    log:
        f"logs/table-{PROFILE.profile}.log",
    benchmark:
        f"logs/table-{PROFILE.profile}.benchmark.tsv"
    localrule: True
    shell:
        UNPACK
        + "lorun table --config {PROFILE_FILE:q} --out {RESULTS:q} 2>&1 | tee {log:q}"


# The report page. The other things that it shows, reconstructions and licences, exist once the tables do.
rule report:
    input:
        here(RESULTS / "summary.csv"),
    output:
        update(here(RESULTS / "report.html")),
    log:
        f"logs/report-{PROFILE.profile}.log",
    benchmark:
        f"logs/report-{PROFILE.profile}.benchmark.tsv"
    localrule: True
    shell:
        "lorun report {RESULTS:q} --config {PROFILE_FILE:q} --out {output:q} 2>&1 | tee {log:q}"
