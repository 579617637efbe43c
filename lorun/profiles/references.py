"""Whether what a profile names exists and can be used: protocols, datasets, files. Found before the first training."""

from pathlib import Path

from lorun.data.checksums import known_datasets, split_files
from lorun.data.images import kind_of
from lorun.data.listing import check_cells
from lorun.data.measurements import holds_measurements
from lorun.errors import LorunError, one_of
from lorun.evaluation.protocols import get_protocol
from lorun.methods.experiment import dataset_of
from lorun.methods.shipped import CONFIG
from lorun.profiles.profile import Profile


def check_references(profile: Profile, data: Path, only: str | None = None) -> None:
    """Raise LorunError for the first protocol, dataset or file that a profile names and that does not exist, and for a
    test image with a name that tables cannot hold.

    Files of a dataset that is registered in `data` need not be there yet. `only`: the one task that is looked at.
    """
    known = known_datasets(data)
    chosen = profile.tasks if only is None else {only: profile.tasks[only]}
    for name, task in chosen.items():
        try:
            for protocol in map(get_protocol, task.evaluation.protocols):
                if protocol.channels not in (None, task.data.channels):
                    raise LorunError(
                        f"the protocol {protocol.name!r} is for {protocol.channels} channels, `data.channels` is "
                        f"{task.data.channels}"
                    )
            for dataset in (task.data.train, task.data.validation, *task.data.test):
                if dataset is not None:
                    one_of("dataset", dataset, known)
            for dataset in task.data.test:
                if (data / f"{dataset}.md5").is_file():
                    kind = "measurement" if holds_measurements(data, dataset) else kind_of(task.data.channels)
                    check_cells(Path(file).stem for file in split_files(data, dataset, "test", kind))
            files = [path for setting in task.settings for path in task.physics_of(setting).files]
            files += [path for paths in task.weights.values() for path in paths.values()]
            files += task.denoiser.files
            for path in files:
                if dataset_of(path) not in known and not (path.is_file() or (path / CONFIG).is_file()):
                    raise LorunError(f"no file {path}")
        except LorunError as error:
            raise LorunError(f"task `{name}`: {error}") from error
