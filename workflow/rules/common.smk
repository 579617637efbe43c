# The profile, validated once, and the experiments that wildcards stand for.

from functools import cache, partial
from pathlib import Path

from snakemake.utils import min_version, validate

from lorun.accounting.resources import scoring_memory, training_memory, training_minutes
from lorun.data.checksums import dataset_identity
from lorun.profiles import load_profile
from lorun.results.paths import account_path, with_bases

min_version("9.0")

PROFILE_FILE = Path(config.get("profile_file", f"config/{config.get('profile', 'quick')}.yaml"))
PROFILE = load_profile(PROFILE_FILE)
validate(PROFILE.model_dump(mode="json"), "../schemas/profile.schema.json", set_default=False)

RUNS = Path("runs")
RUN = RUNS / "{task}/{setting}/{method}/seed{seed}-{key}"
DATA = Path("data")
RESULTS = Path(config.get("results", f"results/{PROFILE.profile}"))
GPUS = int(config.get("gpus", 0))  # one training per GPU; the launcher counts them

EXPERIMENTS = list(PROFILE.experiments())

# Without a shared file system, what jobs make goes through a store, where a run is one tar file. A job unpacks its inputs,
# fetches its data, and packs the run.
STORED = config.get("stored", False)
TRAINED, EVALUATED = ("trained.tar", "evaluated.tar") if STORED else ("training.json", "evaluation.csv")
UNPACK = "python workflow/packed.py unpack {input:q} && " if STORED else ""
FETCH = (
    "python workflow/packed.py fetch {PROFILE_FILE:q} {wildcards.task:q} {wildcards.setting:q} {wildcards.method:q} && "
    if STORED
    else ""
)
PACK = " && python workflow/packed.py pack {output:q}" if STORED else ""


def here(path):
    """A file that stays on this machine, whatever store there is."""
    return local(path) if STORED else path


wildcard_constraints:
    task="[^/]+",
    setting="[^/]+",
    method="[^/]+",
    seed=r"\d+",
    key="[0-9a-f]+",


resolve = cache(PROFILE.experiment)  # Snakemake calls the functions of a rule several times for each job


def experiment(wildcards):
    """The experiment that the wildcards stand for; the first seed where there is no wildcard for it."""
    seed = int(getattr(wildcards, "seed", PROFILE.seeds[0]))
    return resolve(wildcards.task, wildcards.setting, wildcards.method, seed)


@cache
def _config_hash(*place):
    return resolve(*place).config_hash


def config_hash(wildcards):
    """Changes with all that can change the scores."""
    return _config_hash(wildcards.task, wildcards.setting, wildcards.method, int(wildcards.seed))


def markers(datasets):
    """The files that mark datasets as present and intact; each holds the md5 of a folder."""
    return [here(str(DATA / f".{name}.ok")) for name in datasets]


def intact(datasets):
    """Datasets as an input of a job, which newer ones do not start again. Without a shared file system it fetches them."""
    return [] if STORED else ancient(markers(datasets))


identity = cache(partial(dataset_identity, DATA))


def identities(datasets):
    """The md5s of datasets, as one parameter of a rule."""
    return " ".join(map(identity, datasets))


def growing(first):
    """A resource that is `first(wildcards)` at the first attempt, twice that at the second, and so on."""
    return lambda wildcards, attempt: attempt * first(wildcards)
