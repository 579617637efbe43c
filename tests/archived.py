"""A project with a result set and its archive (the fixture `made` of tests/archive)."""

from pathlib import Path
from typing import Any, NamedTuple

from lorun.archive.write import write_archive

DATE = "2026-11-30"


class Made(NamedTuple):
    """Its root, the profile's file, the result set, the data, and the archive."""

    root: Path
    config: Path
    folder: Path
    data: Path
    archive: Path

    def write(self, out: Path, **options: Any) -> int:
        """Write the archive with changed options."""
        return write_archive(
            self.folder, self.config, out, **{"data": self.data, "root": self.root, "date": DATE, **options}
        )
