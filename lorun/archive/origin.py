"""What an archive and its appendix are made of."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorun.config.reading import load_yaml
from lorun.errors import LorunError
from lorun.profiles import Profile, load_profile
from lorun.results.licences import licences_of
from lorun.results.store import ResultSet


@dataclass(frozen=True)
class Origin:
    """A result set and what is told about it.

    Attributes:
        citation: the content of CITATION.cff.
        licences: of each dataset and baseline of the set, by the registry and the cards.
    """

    profile: Profile
    results: ResultSet
    citation: dict[str, Any]
    licences: list[dict[str, Any]]

    @property
    def datasets(self) -> list[tuple[str, str]]:
        """Every dataset that a run used, with its md5."""
        entries = {entry for cell in self.results.runs.data_md5.dropna() for entry in cell.split()}
        return [(name, md5) for name, _, md5 in (entry.partition("=") for entry in sorted(entries))]


def origin_of(results: ResultSet, config: Path, data: Path, root: Path) -> Origin:
    """The origin of a result set, by its profile, the registry in `data`, and CITATION.cff in the project's `root`.

    Raises:
        LorunError: one of them is missing or damaged.
    """
    profile = load_profile(config)
    citation = load_yaml(read(root / "CITATION.cff").decode())
    if not isinstance(citation, dict) or not {"title", "authors"} <= citation.keys():
        raise LorunError(f"{root / 'CITATION.cff'}: expected a mapping with `title` and `authors`")
    return Origin(profile, results, citation, licences_of(profile, list(results.runs.method.unique()), data))


def read(path: Path) -> bytes:
    """The content of a file of the project. Raises LorunError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise LorunError(f"{path}: cannot be read: {error.strerror}; start from the project's root") from error
