"""`lorun new baseline` and `lorun contract`: write and check baselines."""

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from lorun.errors import LorunError

if TYPE_CHECKING:
    from lorun.contract import Report

# Without a callback, `lorun new` itself would be the only command.
new_app = typer.Typer(help="Write a folder to start from.", no_args_is_help=True, callback=lambda: None)


@new_app.command("baseline")
def new_baseline(
    name: Annotated[str, Argument(help="Name in profiles and tables: letters, digits, underscores.")],
    into: Annotated[Path | None, Option(help="Folder to write NAME/ into; default: the suite's.")] = None,
) -> None:
    """Write a small network that passes all checks, with the places to change marked.

    NAME/baseline.py is the network, NAME/card.yaml its citation, licence and published numbers. Check it with
    lorun contract NAME, or, after --into DIR, with lorun contract DIR/NAME.
    """
    from lorun.methods import PRESETS
    from lorun.plugins.scaffold import write_baseline

    reference, folder = write_baseline(name, into, reserved=PRESETS)
    typer.echo(
        f"wrote {folder}: change what is marked CHANGE in baseline.py and card.yaml, then\n  lorun contract {reference}"
        f"\nand name it in a profile, under `baselines: [{reference}]`."
    )
    if into is None:
        typer.echo("LICENCES.md lists it after `make licences`.")


def contract(
    references: Annotated[list[str] | None, Argument(metavar="[BASELINES]...", help="Default: all.")] = None,
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
    """A line per check, with a word for each case; then each failure with the requirement."""
    verdicts = [finding.verdict for finding in report.findings]
    counts = ", ".join(f"{verdicts.count(word)} {word}" for word in ("passed", "FAILED", "-") if word in verdicts)
    lines = [f"{report.reference}: {counts}; {report.seconds:.0f} s"]
    for name, findings in groupby(report.findings, lambda finding: finding.check.name):
        lines.append(f"{name:20} {' '.join(finding.verdict for finding in findings)}")
    lines += [f"unsupported {case}: {reason}" for case, reason in report.unsupported.items()]
    for finding in report.failures:
        where = f" {finding.case}" if finding.case else ""
        lines += [f"{finding.check.name}{where}: {finding.reason}", f"  required: {finding.check.requirement}"]
    return "\n  ".join(lines)
