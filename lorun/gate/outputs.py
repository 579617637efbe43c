"""Reports of the gate: for a terminal (rich), for a comment (Markdown), for CI (JUnit) and for programs (JSON)."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from xml.etree import ElementTree

from rich.table import Column, Table
from rich.text import Text
from tabulate import tabulate  # type: ignore[import-untyped]

from lorun.gate.findings import CHECKS, Finding, Report

_HEADINGS = ("verdict", "check", "subject", "finding")

_STYLES = {"failed": "bold red", "unknown": "yellow", "new": "cyan", "improved": "green", "passed": "dim"}
_MARKDOWN_ROWS = 60  # a comment on GitHub holds 65,536 characters


def headline(report: Report) -> str:
    """The result in one line."""
    counts = [f"{count} {verdict}" for verdict, count in report.counts.items() if count]
    strict = "; unknown fails" if report.strict else ""
    result = "FAILED" if report.failures else "passed"
    return f"gate {result}: {report.candidate} against {report.reference} ({', '.join(counts)}{strict})"


def select(report: Report, limit: int) -> tuple[list[Finding], int]:
    """The findings to show, worst first, and how many others there are: all failures, no passed or noted ones."""
    shown = [one for one in report.findings if one.verdict not in ("passed", "noted")]
    shown = shown[: max(limit, len(report.failures))]
    return shown, len(report.findings) - len(shown)


def table(findings: Sequence[Finding]) -> Table:
    """Findings as a table for a terminal."""
    made = Table(*(Column(heading, overflow="fold") for heading in _HEADINGS), box=None, pad_edge=False)
    for one in findings:
        made.add_row(Text(one.verdict, _STYLES.get(one.verdict, "")), one.check, Text(one.subject), Text(one.message))
    return made


def markdown(report: Report) -> str:
    """A summary for a comment: the result, what needs attention, and the limits."""
    shown, more = select(report, _MARKDOWN_ROWS)
    cells = [(one.verdict, one.check, one.subject, one.message.replace("|", "\\|")) for one in shown]
    limits = ", ".join(f"{name}: {value}" for name, value in asdict(report.limits).items())
    parts = [
        f"### {'❌' if report.failures else '✅'} {headline(report)}",
        tabulate(cells, _HEADINGS, "github", disable_numparse=True) if cells else "",
        f"{more} more findings are in the JSON and JUnit files." if more else "",
        f"Limits: {limits}",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def as_json(report: Report) -> str:
    """Everything, for programs."""
    found = {"passed": not report.failures, "counts": report.counts, **asdict(report)}
    return json.dumps(found, indent=1, allow_nan=False) + "\n"


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
            name = f"{one.subject}: {one.message}"
            case = ElementTree.SubElement(suite, "testcase", classname=f"gate.{check}", name=name)
            if one in failures or one.verdict == "unknown":
                result = "failure" if one in failures else "skipped"
                ElementTree.SubElement(case, result, message=one.message).text = name
        suite.set("failures", str(len(suite.findall("*/failure"))))
        suite.set("skipped", str(len(suite.findall("*/skipped"))))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"
