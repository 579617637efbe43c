"""Whether what a profile names exists: protocols, datasets and files. Looked up before the first training."""

from pathlib import Path

from lorun.data.checksums import known_datasets
from lorun.errors import LorunError, one_of
from lorun.evaluation.protocols import get_protocol
from lorun.methods.experiment import dataset_of
from lorun.profiles.profile import Profile


def check_references(profile: Profile, data: Path) -> None:
    """Raise LorunError for the first protocol, dataset or file that a profile names and that does not exist.

    Files of a dataset that is registered in `data` need not be there yet.
    """
    known = known_datasets(data)
    for name, task in profile.tasks.items():
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
            files = [path for setting in task.settings for path in task.physics_of(setting).files]
            files += [path for paths in task.weights.values() for path in paths.values()]
            files += task.denoiser.files
            for path in files:
                if dataset_of(path) not in known and not path.is_file():
                    raise LorunError(f"no file {path}")
        except LorunError as error:
            raise LorunError(f"task `{name}`: {error}") from error
