"""The known datasets as a table for people."""

from pathlib import Path

from lorun.data.checksums import find_damage, known_datasets
from lorun.data.registry import read_registry


def listing(root: Path) -> str:
    """One line a dataset: name, state, role, tasks, what it is, licence and origin. Reads every file that is there."""
    registry = read_registry(root)
    lines = [["name", "state", "role", "tasks", "what", "licence", "may be passed on", "origin"]]
    for name in known_datasets(root):
        entry = registry.get(name)
        known = ["-"] * 6
        if entry is not None:
            role = f"{entry.role}, simulated" if entry.simulated else entry.role
            known = [role, " ".join(entry.tasks), entry.what, entry.licence, entry.redistribution]
            known.append(" ".join(entry.sources))
        lines.append([name, state(root, name), *known])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def state(root: Path, name: str) -> str:
    """Present, damaged or absent; "to be added" where its user has to obtain it first."""
    entry = read_registry(root).get(name)
    if entry is not None and entry.manual is not None and not (root / f"{name}.md5").exists():
        return "to be added"
    if not (root / name).exists():
        return "absent"
    return "damaged" if find_damage(root, name) else "present"
