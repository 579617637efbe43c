"""Archives of result sets: `lorun export`, `verify` and `appendix`."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from lorun.cli.options import Data, ItsProfile, ResultSet
from lorun.cli.results import profile_of


def export(
    folder: ResultSet,
    out: Annotated[Path, Option(dir_okay=False, help="ZIP file to write.")],
    config: ItsProfile = None,
    data: Data = Path("data"),
    date: Annotated[
        datetime | None, Option(formats=["%Y-%m-%d"], help="Of publication; default: the day of its last commit.")
    ] = None,
) -> None:
    """Write a result set with its origin into one ZIP file that others can check and read without this suite.

    It has the tables, the profile and tuned learning rates, licences, citation, an artifact appendix, the hash of every
    file (SHA256SUMS), and metadata that machines read (an RO-Crate, profile Process Run Crate). The same set gives the
    same bytes. Start from the project's root.
    """
    from lorun.archive.write import write_archive
    from lorun.files import sha256_of

    published = None if date is None else date.date().isoformat()
    config = config or profile_of(folder)
    count = write_archive(folder, config, out, data=data, date=published)
    typer.echo(f"wrote {out}: {count} files, {out.stat().st_size / 1e6:.1f} MB, sha256 {sha256_of(out)}")


def verify(
    archive: Annotated[Path, Argument(help="ZIP file of `lorun export`, or the folder it was unpacked into.")],
) -> None:
    """Check an archive of a result set: that every file is there as exported, no other is, and the scores are those of
    the version.

    Nothing is extracted. It needs neither a checkout nor git.
    """
    from lorun.archive.verify import verify as verify_archive

    count, versions = verify_archive(archive)
    sets = "; ".join(f"{version.result_set} {version.cited}" for version in versions)
    typer.echo(f"{archive}: intact, {count} files; {sets}")


def appendix(folder: ResultSet, config: ItsProfile = None, data: Data = Path("data")) -> None:
    """Print the artifact appendix of a result set, in Markdown.

    Hardware, software, time, memory, seeds, what the intervals capture, data with licences, and how to reproduce it:
    what ACM's artifact badges and the NeurIPS checklist ask for. All comes from the tables; what they do
    not know is called not recorded.
    """
    from lorun.archive.appendix import appendix as render
    from lorun.archive.origin import origin_of
    from lorun.results.store import read_result_set

    typer.echo(render(origin_of(read_result_set(folder), config or profile_of(folder), data, Path())), nl=False)
