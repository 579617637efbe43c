"""`lorun contract`: check baselines."""

from typing import TYPE_CHECKING, Annotated

import typer

from lorun.errors import LorunError

if TYPE_CHECKING:
    from lorun.contract import Report


def contract(
    references: Annotated[
        list[str] | None,
        typer.Argument(metavar="[BASELINES]...", help="Names, or paths of folders with a slash; default: all."),
    ] = None,
) -> None:
    """Check whether baselines do what the suite needs of them; say what to implement where one does not.

    A baseline is named by its folder in baselines/, by an entry point of the group lorun.baselines of an installed
    package, or by the path of a folder, such as ../my_net or ./my_net.

    The exit status is 1 if a check fails. One baseline takes seconds, all take minutes.
    """
    from lorun import plugins
    from lorun.contract import examine

    references = references or [*plugins.names(), *plugins.installed_names()]
    for reference in references:
        plugins.find(reference)  # report a mistyped name before minutes are spent on the others
    failed = []
    for reference in references:
        report = examine(reference)
        typer.echo(_render(report))
        if report.failures:
            failed.append(reference)
    if failed:
        raise LorunError(f"{len(failed)} of {len(references)} baselines fail a check: {', '.join(failed)}")


def _render(report: "Report") -> str:
    """A table with a line per check and a column per case; then each failure with the requirement."""
    from tabulate import tabulate

    words = {"passed": "passed", "failed": "FAILED", "not applicable": "-"}
    verdicts = [words[finding.verdict] for finding in report.findings]
    counts = ", ".join(f"{verdicts.count(word)} {word}" for word in words.values() if word in verdicts)
    columns = list(dict.fromkeys(finding.case for finding in report.findings if finding.case))
    rows: dict[str, list[str]] = {}
    for finding, verdict in zip(report.findings, verdicts, strict=True):
        row = rows.setdefault(finding.check.name, [""] * max(len(columns), 1))
        row[columns.index(finding.case) if finding.case else 0] = verdict
    table = tabulate([[name, *row] for name, row in rows.items()], ["", *map(str, columns)], tablefmt="plain")
    lines = [f"{report.reference}: {counts}; {report.seconds:.0f} s", *table.splitlines()]
    lines += [f"unsupported {case}: {reason}" for case, reason in report.unsupported.items()]
    for finding in report.failures:
        where = f" {finding.case}" if finding.case else ""
        lines += [f"{finding.check.name}{where}: {finding.reason}", f"  required: {finding.check.requirement}"]
    return "\n  ".join(lines)
