"""Make a dataset from its origin: build it from what is installed, or download it at its pinned commit."""

from importlib import import_module
from pathlib import Path

from lorun.data.checksums import find_damage, read_manifest
from lorun.data.download import RemoteFile, download
from lorun.data.registry import Dataset, read_registry
from lorun.errors import LorunError


def make(root: Path, name: str) -> None:
    """Fill `root`/<name> from its origin in the registry; the result has the checksums of the manifest.

    Raises:
        LorunError: the dataset is not registered, has to be obtained by its user, or comes out other than it should.
    """
    manifest = read_manifest(root, name)
    entry = read_registry(root).get(name)
    if entry is None:
        raise LorunError(f"dataset {name!r} has no origin in {root}/registry.yaml")
    if entry.built_by is not None:
        import_module(entry.built_by).build(root / name)
    elif entry.upstream:
        files = {file: RemoteFile(_url(entry, name, file), md5) for file, md5 in manifest.items()}
        download(files, root / name, name)
    else:
        raise LorunError(f"dataset {name!r} cannot be made, its user must obtain it: {entry.sources[0]}")
    different = find_damage(root, name)
    if different:
        raise LorunError(
            f"{root / name / min(different)} came out other than its manifest says ({len(different)} files): what it "
            "is built from is not the locked version, run `make setup`"
        )


def _url(entry: Dataset, name: str, file: str) -> str:
    for upstream in entry.upstream:
        url = upstream.url(file)
        if url is not None:
            return url
    raise LorunError(f"dataset {name!r}: no upstream of the registry has {file}")
