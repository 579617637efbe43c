"""Reports of the gate: for a terminal (rich), for a comment (Markdown), for CI (JUnit) and for programs (JSON)."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from xml.etree import ElementTree

from rich.table import Table
from rich.text import Text

from lorun.gate.findings import CHECKS, VERDICTS, Finding, Report

_STYLES = {"failed": "bold red", "unknown": "yellow", "new": "cyan", "improved": "green", "passed": "dim"}
_MARKDOWN_ROWS = 60  # a comment on GitHub holds 65,536 characters


def headline(report: Report) -> str:
    """The result in one line."""
    counts = [f"{report.count(verdict)} {verdict}" for verdict in VERDICTS if report.count(verdict)]
    strict = "; unknown fails" if report.strict else ""
    result = "passed" if report.passed else "FAILED"
    return f"gate {result}: {report.candidate} against {report.reference} ({', '.join(counts)}{strict})"


def select(report: Report, limit: int) -> tuple[list[Finding], int]:
    """The findings to show, worst first, and how many others there are: all failures, no passed or noted ones."""
    shown = [one for one in report.findings if one.verdict not in ("passed", "noted")]
    shown = shown[: max(limit, len(report.failures))]
    return shown, len(report.findings) - len(shown)


def table(findings: Sequence[Finding]) -> Table:
    """Findings as a table for a terminal."""
    made = Table(box=None, pad_edge=False)
    for heading in ("verdict", "check", "subject", "finding"):
        made.add_column(heading, overflow="fold")
    for one in findings:
        made.add_row(Text(one.verdict, _STYLES.get(one.verdict, "")), one.check, Text(one.subject), Text(one.message))
    return made


def markdown(report: Report) -> str:
    """A summary for a comment: the result, what needs attention, the times and the limits."""
    shown, more = select(report, _MARKDOWN_ROWS)
    times = [one for one in report.findings if one.check == "time" and one.verdict in ("noted", "passed")]
    lines = [f"### {'✅' if report.passed else '❌'} {headline(report)}", "", *_markdown_table(shown)]
    if more:
        lines += [f"{more} more findings are in the JSON and JUnit files.", ""]
    if times:
        lines += _folded("Relative times", _markdown_table(times))
    lines += _folded("Limits", [*(f"* {sentence}" for sentence in report.limits), ""])
    return "\n".join(lines)


def _folded(title: str, lines: list[str]) -> list[str]:
    return [f"<details><summary>{title}</summary>", "", *lines, "</details>", ""]


def _markdown_table(findings: Sequence[Finding]) -> list[str]:
    if not findings:
        return []
    cells = [(one.verdict, one.check, one.subject, one.message) for one in findings]
    rows = [[text.replace("|", "\\|").replace("\n", " ") for text in row] for row in cells]
    lines = [("verdict", "check", "subject", "finding"), ("---",) * 4, *rows]
    return [*(f"| {' | '.join(line)} |" for line in lines), ""]


def as_json(report: Report) -> str:
    """Everything, for programs."""
    counts = {verdict: report.count(verdict) for verdict in VERDICTS}
    return json.dumps({"passed": report.passed, "counts": counts, **asdict(report)}, indent=1, allow_nan=False) + "\n"


def junit(report: Report) -> str:
    """A test suite per check, a test case per finding. Unknown ones are skipped, unless they fail."""
    failures, number = set(report.failures), str(len(report.findings))
    root = ElementTree.Element("testsuites", name="lorun gate", tests=number, failures=str(len(failures)))
    for check, title in CHECKS.items():
        findings = [one for one in report.findings if one.check == check]
        if not findings:
            continue
        suite = ElementTree.SubElement(root, "testsuite", name=f"{check}: {title}", tests=str(len(findings)))
        for one in findings:
            # With the message, since a subject may have several findings of a check.
            name = f"{one.subject}: {one.message}"
            case = ElementTree.SubElement(suite, "testcase", classname=f"gate.{check}", name=name)
            if one in failures or one.verdict == "unknown":
                result = "failure" if one in failures else "skipped"
                ElementTree.SubElement(case, result, message=one.message).text = name
        suite.set("failures", str(len(suite.findall("*/failure"))))
        suite.set("skipped", str(len(suite.findall("*/skipped"))))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"
