"""Reports of the gate: for a terminal, for a comment (Markdown), for CI (JUnit) and for programs (JSON)."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from lorun.gate.findings import CHECKS, Finding, Report, Verdict

if TYPE_CHECKING:
    from rich.table import Table

_STYLES: dict[Verdict, str] = {
    "failed": "bold red",
    "unknown": "yellow",
    "improved": "green",
    "new": "cyan",
    "noted": "",
    "passed": "dim",
}
_MARKDOWN_ROWS = 60  # a comment of GitHub holds 65,536 characters


def headline(report: Report) -> str:
    """The result in one line."""
    counts = [f"{report.count(verdict)} {verdict}" for verdict in _STYLES if report.count(verdict)]
    result = "passed" if report.passed else "FAILED"
    strict = ", what is unknown fails" if report.strict else ""
    return f"gate {result}: {report.candidate} against {report.reference} ({', '.join(counts)}{strict})"


def told(report: Report, everything: bool = False, limit: int | None = None) -> tuple[Sequence[Finding], int]:
    """The findings to show, worst first, and how many more there are. What passed, and what is as good as the reference
    for all that can be told, is shown where `everything` is; failures always are."""
    shown = [one for one in report.findings if everything or one.verdict not in ("passed", "noted")]
    if limit is not None and not everything:
        shown = shown[: max(limit, len(report.failures))]
    return shown, len(report.findings) - len(shown)


def table(findings: Sequence[Finding]) -> "Table":
    """The findings as a table for a terminal."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False)
    for heading in ("verdict", "check", "subject", "what"):
        made.add_column(heading, overflow="fold")
    for one in findings:
        made.add_row(Text(one.verdict, _STYLES[one.verdict]), one.check, Text(one.subject), Text(one.message))
    return made


def markdown(report: Report) -> str:
    """A summary for a comment: the result, what is worth a look, times, and the limits."""
    lines = [f"### {'✅' if report.passed else '❌'} {headline(report)}", ""]
    shown, more = told(report, limit=_MARKDOWN_ROWS)
    if shown:
        lines += _markdown_table(shown)
    lines += [f"{more} more findings are in the JSON and JUnit files." if more else "", ""]
    times = [one for one in report.findings if one.check == "time" and one.verdict in ("noted", "passed")]
    if times:
        lines += [
            "<details><summary>Times, as ratios within one run</summary>",
            "",
            *_markdown_table(times),
            "</details>",
            "",
        ]
    lines += [
        "<details><summary>Limits</summary>",
        "",
        *(f"* {sentence}" for sentence in report.stated),
        "",
        "</details>",
    ]
    return "\n".join(lines) + "\n"


def _markdown_table(findings: Sequence[Finding]) -> list[str]:
    rows = [f"| {one.verdict} | {one.check} | {_cell(one.subject)} | {_cell(one.message)} |" for one in findings]
    return ["| verdict | check | subject | what |", "|---|---|---|---|", *rows, ""]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def as_json(report: Report) -> str:
    """Everything, for programs."""
    said = {
        "passed": report.passed,
        "strict": report.strict,
        "reference": report.reference,
        "candidate": report.candidate,
        "limits": list(report.stated),
        "counts": {verdict: report.count(verdict) for verdict in _STYLES},
        "findings": [asdict(one) for one in report.findings],
    }
    return json.dumps(said, indent=1, allow_nan=False) + "\n"


def junit(report: Report) -> str:
    """A test suite per check, a test case per finding: what fails is a failure, what is unknown is skipped."""
    failures = set(report.failures)
    root = ElementTree.Element(
        "testsuites", name="lorun gate", tests=str(len(report.findings)), failures=str(len(failures))
    )
    for check, what in CHECKS.items():
        of = [one for one in report.findings if one.check == check]
        if not of:
            continue
        skipped = [one for one in of if one.verdict == "unknown" and one not in failures]
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=f"{check}: {what}",
            tests=str(len(of)),
            failures=str(sum(one in failures for one in of)),
            skipped=str(len(skipped)),
        )
        for one in of:
            # The message is part of the name: a subject may have several findings of one check.
            case = ElementTree.SubElement(
                suite, "testcase", classname=f"gate.{check}", name=f"{one.subject}: {one.message}"
            )
            if one in failures:
                ElementTree.SubElement(case, "failure", message=one.message).text = f"{one.subject}: {one.message}"
            elif one in skipped:
                ElementTree.SubElement(case, "skipped", message=one.message)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"
