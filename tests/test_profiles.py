"""Profiles: what is read, what is refused, and what a run is named by."""

import json
import re
import shutil
from itertools import pairwise

import pytest
import yaml
from pydantic import ValidationError
from tiny import PROFILE, PROJECT

from lorun.config import TrainingConfig
from lorun.config.section import settings
from lorun.data.checksums import write_manifest
from lorun.errors import LorunError, UnknownName
from lorun.methods import PRETRAIN, PRETRAININGS, Experiment, Released, Strategy, Untrained
from lorun.profiles import Profile, TaskConfig, load_profile, profile_schema
from lorun.profiles.reading import read_content
from lorun.profiles.references import check_references
from lorun.profiles.sizes import _operator_bytes

STRATEGIES = PROFILE["tasks"]["cs"]["strategies"]
COMMITTED = sorted((PROJECT / "config").glob("*.yaml"))


def changed(path, edit):
    """The tiny profile, edited by `edit(task)`, loaded."""
    content = yaml.safe_load(path.read_text())
    edit(content["tasks"]["cs"])
    path.write_text(yaml.safe_dump(content))
    return load_profile(path)


def transfer(task, **changes):
    task["settings"]["r10"] = {"ratio": 10}
    task.update(strategies=["lorun_transfer"], base={"lorun_transfer": {"setting": "r25"}})
    task.update(changes)


def key(profile, method="lorun", seed=0):
    return profile.experiment("cs", "r25", method, seed).key


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_committed_profile_is_valid_and_named_like_its_file(path):
    profile = load_profile(path)
    assert profile.profile == path.stem
    assert list(profile.experiments())


def test_committed_schema_is_that_of_the_typed_configuration():
    committed = json.loads((PROJECT / "workflow/schemas/profile.schema.json").read_text())
    assert committed == json.loads(json.dumps(profile_schema())), "run `make schema`"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda task: task["training"].update(lerning_rate=1),
            "unknown key `tasks.cs.training.lerning_rate`. Did you mean `learning_rate`?",
        ),
        (lambda task: task["physics"].update(blok=8), "Did you mean `block`?"),
        (lambda task: task.update(strategies=["lorum"]), "Did you mean 'lorun'?"),
        (lambda task: task["settings"].update(r0={"ratio": 0}), "setting `r0`: `ratio` (=0): Input should be greater"),
        (
            lambda task: task["settings"].update(r101={"ratio": 101}),
            "(=101): Input should be less than or equal to 100",
        ),
        (lambda task: task["training"].update(phase1_steps=8), "`phase1_steps` (=8) must be below `steps` (=8)"),
        (lambda task: task["training"].update(recompute="stages"), "Did you mean 'stage'?"),
        (lambda task: task["training"].update(memory_budget=9), "`memory_budget` (=9) goes with `recompute: auto`"),
        (lambda task: task["training"].update(final_learning_rate=1), "must not be above `learning_rate`"),
        (lambda task: task["physics"].update(matrix="file"), "`matrix_file` belong together"),
        (lambda task: task["denoiser"].update(name="unnet"), "unnet"),
        (lambda task: task.update(denoiser={"name": "spectral", "width": 1}), "width` (=1)"),
        (
            lambda task: task.update(denoiser={"name": "spectral", "depth": 1}),
            "unknown key `tasks.cs.denoiser.depth`",
        ),
        (lambda task: task.pop("training"), "`training` is missing: block1"),
        (lambda task: task.update(strategies=["lorun_transfer"]), "`lorun_transfer` needs a `base`"),
        (lambda task: transfer(task, strategies=["lorun"]), "`base`: unknown method 'lorun_transfer'"),
        (
            lambda task: transfer(task, base={"lorun_transfer": {"setting": "r1"}}),
            "unknown setting 'r1'",
        ),
        (lambda task: transfer(task, base={"lorun_transfer": {"seting": "r1"}}), "Did you mean `setting`?"),
        (lambda task: transfer(task, settings={"r25": {"ratio": 25}}), "no setting but that of its base (='r25')"),
        (lambda task: transfer(task, only={"lorun_transfer": ["r25"]}), "no setting but that of its base (='r25')"),
        (lambda task: task["training"].pop("phase1_steps"), "`training.phase1_steps` is missing: `lorun`"),
        (lambda task: task["data"].pop("validation"), "`data.validation` are needed: block1"),
        (lambda task: task.update(options={"lorun": {"gamma": 1}}), "`options`: unknown baseline 'lorun'"),
        (lambda task: task.update(options={"linear_mmse": {"gamma": 1}}), "gamma"),
        (
            lambda task: task.update(strategies=[], physics={**task["physics"], "matrix": "learned"}),
            "`linear_mmse` trains nothing, but the operator of setting `r25` is learned",
        ),
        (
            lambda task: task["evaluation"].update(points=[[0, 0]], keep=[]),
            "`points` are pixels of the images that `keep` names",
        ),
        (lambda task: task["evaluation"].update(points=[[0, 0]]), "of spectra, but `data.channels` is 1"),
        (lambda task: task["training"].update(learning_rate=float("inf")), "(=inf): Input should be a finite number"),
        (lambda task: task["settings"].update(r1={"ratio": float("nan")}), "(=nan): Input should be a finite number"),
        (lambda task: task["training"].update(batch=True), "`batch` (=True): a number is wanted"),
        (lambda task: task["training"].update(batch="x" * 20_000), "x…): Input should be a valid integer"),
        (lambda task: task["training"].update(warmup_steps=5), "`warmup_steps` (=5) are more than the 4 steps"),
        (lambda task: task["training"].update(learning_rates={"seperate": 1}), "unknown method 'seperate'"),
        (lambda task: task["training"].update(learning_rates={"lorum": 1}), "Did you mean 'lorun'?"),
        (lambda task: task["evaluation"].update(protocols=["cs_float_y"] * 2), "'cs_float_y' is there twice"),
        (lambda task: task["evaluation"].update(strip=[0, -1, 16]), "`tasks.cs.evaluation.strip.1` (=-1)"),
        (lambda task: task["evaluation"].update(strip=[0, 0, 0]), "`tasks.cs.evaluation.strip.2` (=0)"),
        (lambda task: task["data"].update(test=["tiny", "tiny"]), "'tiny' is there twice"),
        (lambda task: task["data"].update(train="../../tiny"), "`tasks.cs.data.train` (='../../tiny'): String should"),
        (lambda task: task["settings"].update({"a`touch x`": {"ratio": 1}}), "a`touch x`'): String should match"),
        (lambda task: task["settings"].update({"../../evil": {"ratio": 1}}), "../../evil'): String should match"),
        (lambda task: task["denoiser"].update(width=10**9), "`denoiser`: one denoiser needs at least 9.2e+18 bytes"),
        (lambda task: task["denoiser"].update(blocks=10**9), "`denoiser`: one denoiser needs at least 6"),
        (lambda task: task["physics"].update(initial_blocks=10**15), "the operator needs at least 1.6e+16 bytes"),
        (lambda task: task["training"].update(batch=10**12), "a batch of patches needs at least 1.0e+15 bytes"),
        (lambda task: task["accounting"].update(image=10**9), "`accounting`: an image needs at least 4.0e+18 bytes"),
        (lambda task: task["evaluation"].update(points=[[0, -1]]), "(=-1): Input should be greater than or equal to 0"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(tiny_profile_file, edit, message):
    with pytest.raises(LorunError) as error:
        changed(tiny_profile_file, edit)
    assert message in str(error.value)
    assert str(tiny_profile_file) in str(error.value)
    assert "\n" not in str(error.value)


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in pairwise("abcdefghi")
)
"""Nine lists of nine, each in the next: 9**9 texts where one writes them out."""


@pytest.mark.parametrize(
    "text",
    [
        *("a: [", "- 1", "\x00", "a: " + "[" * 3000, "a: 2024-13-45", "a: 1" + "0" * 5000, "!!python/name:os.system"),
        *(f"{BOMB}profile: *i\n", f"{BOMB}seeds: *i\n", f"{BOMB}tasks: {{cs: {{denoiser: {{name: *i}}}}}}\n"),
    ],
    ids=lambda text: text[:12],
)
def test_a_file_that_is_no_profile_is_refused(tiny_profile_file, text):
    tiny_profile_file.write_text(text)
    with pytest.raises(LorunError, match="tiny.yaml") as error:
        load_profile(tiny_profile_file)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ([0, 0], "0 is there twice"),
        ([2**63], "(=9223372036854775808)"),
        ([True], "a number is wanted"),
        ([-1], "(=-1)"),
    ],
)
def test_seeds_that_cannot_be_are_refused(tiny_profile_file, seeds, message):
    content = yaml.safe_load(tiny_profile_file.read_text())
    tiny_profile_file.write_text(yaml.safe_dump({**content, "seeds": seeds}))
    with pytest.raises(LorunError, match=re.escape(message)):
        load_profile(tiny_profile_file)


def test_a_key_twice_is_refused(tiny_profile_file):
    text = tiny_profile_file.read_text()
    tiny_profile_file.write_text(re.sub(r"( +)batch: 2\n", r"\1batch: 2\n\1batch: 3\n", text, count=1))
    with pytest.raises(LorunError, match="the key `batch`.* twice"):
        load_profile(tiny_profile_file)


def test_a_batch_of_blocks_is_predicted_in_bytes(tiny_profile_file):
    """Phi is 16384 x 65536 in float64, 8.6 GB, beside what it is made from and the second moment of 34 GB."""
    operator = changed(tiny_profile_file, lambda task: None).tasks["cs"].physics_of("r25")
    large = operator.model_copy(update={"block": 256, "initial_blocks": 0})
    assert _operator_bytes(large) == 8 * (3 * 16384 * 65536 + 65536**2)
    assert _operator_bytes(large.model_copy(update={"initial": "adjoint"})) == 8 * 3 * 16384 * 65536


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda task: task["evaluation"].update(protocols=["cs_flaot_y"]), "Did you mean 'cs_float_y'?"),
        (lambda task: task["evaluation"].update(protocols=["cassi_mst_uint8"]), "is for 28 channels"),
        (lambda task: task["data"].update(test=["tinny"]), "unknown dataset 'tinny'. Did you mean 'tiny'?"),
        (lambda task: task["data"].update(validation="nowhere"), "unknown dataset 'nowhere'"),
        (lambda task: task["physics"].update(matrix="file", matrix_file="phi.mat"), "no file phi.mat"),
    ],
)
def test_what_does_not_exist_is_found_before_the_first_training(tiny_profile_file, tiny_data, edit, message):
    check_references(load_profile(tiny_profile_file), tiny_data)
    profile = changed(tiny_profile_file, edit)
    with pytest.raises(LorunError, match=re.escape(message)):
        check_references(profile, tiny_data)


def test_a_test_image_that_tables_cannot_name_is_found_before_the_first_training(
    tiny_profile_file, tiny_data, tmp_path
):
    odd = shutil.copytree(tiny_data, tmp_path / "odd")
    next(odd.glob("tiny/test/gray/*.png")).rename(odd / "tiny/test/gray/=1+2.png")
    write_manifest(odd, "tiny")
    with pytest.raises(LorunError, match=r"task `cs`: '=1\+2': rename it: names in tables are printable"):
        check_references(load_profile(tiny_profile_file), odd)


@pytest.mark.parametrize(
    ("parent", "message"),
    [("tiny.yaml", "extends itself"), (5, "`extends` (=5)"), ("no.yaml", "no.yaml"), ("a\0b", "`extends` (='a")],
)
def test_an_impossible_parent_is_refused(tiny_profile_file, parent, message):
    content = yaml.safe_load(tiny_profile_file.read_text())
    tiny_profile_file.write_text(yaml.safe_dump({**content, "extends": parent}))
    with pytest.raises(LorunError) as error:
        load_profile(tiny_profile_file)
    assert message in str(error.value)


def test_a_section_of_another_name_replaces_the_one_below(tiny_profile_file):
    child = tiny_profile_file.with_name("child.yaml")
    for denoiser, expected in (
        ("{name: resunet, blocks: 1}", {"name": "resunet", "widths": [16, 32, 64, 64], "blocks": 1}),
        ("{name: unet, blocks: 2}", {"name": "unet", "width": 4, "levels": 2, "blocks": 2}),
        ("{blocks: 2}", {"name": "unet", "width": 4, "levels": 2, "blocks": 2}),
    ):
        child.write_text(f"extends: tiny.yaml\nprofile: child\ntasks: {{cs: {{denoiser: {denoiser}}}}}\n")
        assert load_profile(child).tasks["cs"].denoiser.model_dump() == expected


def test_extends_overrides_single_keys(tiny_profile_file):
    child = tiny_profile_file.with_name("child.yaml")
    child.write_text("extends: tiny.yaml\nprofile: child\ntasks: {cs: {training: {batch: 7}, strategies: [lorun]}}\n")
    task = load_profile(child).tasks["cs"]
    assert task.training.batch == 7
    assert task.training.steps == PROFILE["tasks"]["cs"]["training"]["steps"]
    assert task.strategies == ["lorun"]


def test_a_length_of_training_replaces_that_of_the_extended_profile(tiny_profile_file):
    child = tiny_profile_file.with_name("child.yaml")
    child.write_text("extends: tiny.yaml\nprofile: child\ntasks: {cs: {training: {budget: 1.0e+9}}}\n")
    grandchild = tiny_profile_file.with_name("grandchild.yaml")
    grandchild.write_text("extends: child.yaml\nprofile: grandchild\ntasks: {cs: {training: {steps: 9}}}\n")
    training = load_profile(child).tasks["cs"].training
    assert (training.budget, training.steps, training.phase1_steps) == (1e9, None, None)
    content = read_content(grandchild)["tasks"]["cs"]["training"]
    assert content["steps"] == 9
    assert "budget" not in content


def test_a_key_of_a_task_that_is_null_has_its_default(tiny_profile_file):
    child = tiny_profile_file.with_name("child.yaml")
    child.write_text("extends: tiny.yaml\nprofile: child\ntasks: {cs: {baselines: null, denoiser: null}}\n")
    task = load_profile(child).tasks["cs"]
    assert task.baselines == []
    assert task.denoiser == TaskConfig.model_fields["denoiser"].get_default(call_default_factory=True)


def test_a_profile_leaves_out_a_task_of_another_by_null(tiny_profile_file):
    content = yaml.safe_load(tiny_profile_file.read_text())
    content["tasks"]["more"] = content["tasks"]["cs"]
    tiny_profile_file.write_text(yaml.safe_dump(content))
    child = tiny_profile_file.with_name("child.yaml")
    child.write_text(f"extends: {tiny_profile_file.name}\nprofile: child\ntasks: {{cs: null}}\n")
    assert list(load_profile(child).tasks) == ["more"]


@pytest.mark.parametrize(
    ("place", "kind"),
    [(("sc", "r25", "lorun"), "task"), (("cs", "r52", "lorun"), "setting"), (("cs", "r25", "lo"), "method")],
)
def test_unknown_names_of_an_experiment(tiny_profile, place, kind):
    with pytest.raises(UnknownName, match=f"unknown {kind}"):
        tiny_profile.experiment(*place, 0)


def test_every_experiment_of_a_profile_has_a_folder_of_its_own(tiny_profile):
    folders = [e.folder for e in tiny_profile.experiments()]
    assert len(folders) == len(set(folders)) == len(tiny_profile.tasks["cs"].methods)


@pytest.mark.parametrize(
    "edit",
    [
        lambda task: task["evaluation"].update(protocols=["cs_round_y"]),
        lambda task: task["accounting"].update(batch=3),
        lambda task: task["training"].update(checkpoint_every=3),
        lambda task: task["training"].update(recompute="stage"),
        lambda task: task["training"].update(recompute="auto", memory_budget=100),
        lambda task: task.update(strategies=["lorun"]),
        lambda task: task["data"].update(mosaic=False),
    ],
)
def test_what_does_not_shape_weights_leaves_the_key(tiny_profile, tiny_profile_file, edit):
    assert key(changed(tiny_profile_file, edit)) == key(tiny_profile)


@pytest.mark.parametrize(
    ("edit", "touched"),
    [
        (lambda task: task["training"].update(learning_rate=2e-4), {*STRATEGIES, PRETRAIN}),
        (lambda task: task["settings"]["r25"].update(ratio=26), {*STRATEGIES, PRETRAIN}),
        (lambda task: task.update(lora={"gamma": 20}), {"lorun", "lorun_random"}),
        (lambda task: task["unfolding"].update(stages=4), {*STRATEGIES} - {"block1"}),
        (lambda task: task["unfolding"].update(noise_level=0.2), {"shared_sigma"}),
        (lambda task: task["training"].update(phase1_steps=3), {"lorun", "frozen", PRETRAIN}),
        (lambda task: task["training"].update(steps=9), {*STRATEGIES}),
        (lambda task: task["data"].update(mosaic=True), {*STRATEGIES, PRETRAIN}),
        (lambda task: task["denoiser"].update(width=5), {*STRATEGIES, PRETRAIN}),
    ],
)
def test_a_change_gives_new_keys_to_the_methods_it_touches_only(tiny_profile, tiny_profile_file, edit, touched):
    after = changed(tiny_profile_file, edit)
    methods = (*STRATEGIES, PRETRAIN, "linear_mmse")
    changed_keys = {m for m in methods if key(after, m) != key(tiny_profile, m)}
    assert changed_keys - {"linear_mmse"} == touched
    # its setting is what an untrained baseline shares with the others
    assert ("linear_mmse" in changed_keys) == (after.tasks["cs"].settings != tiny_profile.tasks["cs"].settings)


COMMITTED_RUNS = [
    (path.stem, task, method)
    for path in COMMITTED
    for task, one in load_profile(path).tasks.items()
    for method in one.methods
]


def edited(path, edit):
    """A committed profile, each task edited by `edit(task)`."""
    content = load_profile(path).model_dump(mode="json")
    for task in content["tasks"].values():
        edit(task)
    return Profile.model_validate(content)


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_the_width_of_a_network_renames_only_runs_that_have_it(path):
    def widen(task):
        task["denoiser"].update({"widths": [77]} if "widths" in task["denoiser"] else {"width": 77})

    before = list(edited(path, lambda task: None).experiments())  # without the choices of `lorun tune`
    after = list(edited(path, widen).experiments())
    renamed = {(one.task, one.method) for one, other in zip(before, after, strict=True) if one.key != other.key}
    tasks = load_profile(path).tasks.items()
    own = {
        (task, name) for task, one in tasks for name, variant in one.variants.items() if variant.denoiser is not None
    }
    assert renamed == {(one.task, one.method) for one in before if uses_denoiser(one)} - own


def uses_denoiser(experiment):
    base, spec = experiment.base, experiment.spec
    if isinstance(spec, Strategy):
        return spec.weights is None  # a model has its own
    return base is not None and uses_denoiser(base)


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_the_length_of_training_renames_only_runs_that_are_trained(path):
    def longer(task):
        if task["training"] is not None:
            length = "steps" if task["training"]["budget"] is None else "budget"
            task["training"][length] *= 2

    before = list(edited(path, lambda task: None).experiments())
    after = list(edited(path, longer).experiments())
    renamed = {one.name for one, other in zip(before, after, strict=True) if one.key != other.key}
    assert renamed == {one.name for one in before if one.training is not None or takes_longer(one.base)}


def takes_longer(base):
    """Whether a longer training of its task trains a base longer: `phase1_steps` are a number of their own."""
    return base is not None and (base.training.budget is not None or base.method not in PRETRAININGS)


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_an_experiment_is_what_its_json_says(path):
    for experiment in load_profile(path).experiments():
        assert Experiment.model_validate_json(experiment.model_dump_json()) == experiment


def test_a_spec_declares_only_what_its_method_reads():
    published = load_profile(PROJECT / "config/published.yaml")
    released = published.experiment("cs", "r25", "ista_net", 0).spec
    untrained = published.experiment("cs", "r25", "total_variation", 0).spec
    assert isinstance(released, Released)
    assert isinstance(untrained, Untrained)
    for spec in (released, untrained):
        assert not {"training", "data", "denoiser", "adapters", "stages"} & set(type(spec).model_fields)


def test_an_option_that_is_not_set_is_not_in_the_key():
    """So an option that a later version adds renames no run."""
    training = settings(TrainingConfig(steps=5, learning_rate=1e-3))
    assert training == {"steps": 5, "learning_rate": 1e-3}


@pytest.mark.parametrize("method", ["lorun", "block_k", "linear_mmse"])
def test_keys_of_runs_that_exist_stay(tiny_profile_file, method):
    tiny_profile_file.write_text(KNOWN_PROFILE)
    assert load_profile(tiny_profile_file).experiment("cs", "r25", method, 0).key == KNOWN_KEYS[method]


# A change of these renames every run that was trained. A default is part of what they name: add an option rather than
# change one. The profile is a part of `quick` as it was trained first.
KNOWN_KEYS = {"lorun": "1412979618", "block_k": "e6511b9fe3", "linear_mmse": "2e8430cc97"}
KNOWN_PROFILE = """
profile: known
seeds: [0]
tasks:
  cs:
    data: {train: photos, validation: photos, test: [photos]}
    physics: {name: block_cs, block: 32, matrix: gaussian, initial: lmmse}
    settings: {r25: {ratio: 25}}
    denoiser: {name: unet, width: 16, levels: 2, blocks: 1}
    unfolding: {stages: 4}
    lora: {gamma: 10}
    strategies: [block_k, lorun]
    baselines: [linear_mmse]
    training: {steps: 800, phase1_steps: 400, batch: 4, patch: 64, learning_rate: 2.0e-3, final_learning_rate: 2.0e-5,
      warmup_steps: 20, validate_every: 100}
    evaluation: {protocols: [cs_float_y]}
"""


def test_points_are_part_of_what_is_measured_alone(spectral_profile):
    with_points, without = (
        spectral_profile(evaluation={"points": points}).experiment("cassi", "snapshot", "block1", 0)
        for points in ([[0, 1]], [])
    )
    assert with_points.key == without.key
    assert with_points.config_hash != without.config_hash
    assert Experiment.model_validate_json(with_points.model_dump_json()) == with_points


def test_seeds_and_methods_have_different_keys(tiny_profile):
    keys = {key(tiny_profile, method, seed) for method in (*STRATEGIES, PRETRAIN) for seed in (0, 1)}
    assert len(keys) == 2 * (len(STRATEGIES) + 1)


def test_a_setting_may_have_fewer_seeds(tiny_profile_file):
    content = yaml.safe_load(tiny_profile_file.read_text())
    content["seeds"] = [3, 1]
    content["tasks"]["cs"]["settings"]["r10"] = {"ratio": 10}
    content["tasks"]["cs"]["seeds"] = {"r10": 1}
    tiny_profile_file.write_text(yaml.safe_dump(content))
    profile = load_profile(tiny_profile_file)
    assert {(one.setting, one.seed) for one in profile.experiments()} == {("r25", 3), ("r25", 1), ("r10", 3)}
    assert {(one.setting, one.seed) for one in profile.accounted()} == {("r25", 3), ("r10", 3)}
    content["tasks"]["cs"]["seeds"] = {"r1": 1}
    tiny_profile_file.write_text(yaml.safe_dump(content))
    with pytest.raises(LorunError, match="`seeds`: unknown setting 'r1'. Did you mean 'r10'"):
        load_profile(tiny_profile_file)


def test_lorun_spends_its_pretraining_from_the_same_budget(tiny_profile):
    training = tiny_profile.tasks["cs"].training
    lorun = tiny_profile.experiment("cs", "r25", "lorun", 0)
    assert lorun.base.key == key(tiny_profile, PRETRAIN)
    assert steps(lorun.base) == (0, training.phase1_steps)
    assert steps(lorun) == (training.phase1_steps, training.steps - training.phase1_steps)
    assert steps(tiny_profile.experiment("cs", "r25", "block_k", 0)) == (0, training.steps)


def steps(experiment):
    return experiment.training.first_step, experiment.training.steps


# LoRun on the base of another setting


def test_lorun_transfer_runs_in_every_setting_but_that_of_its_base(transfer_profile):
    settings = [e.setting for e in transfer_profile.experiments() if e.method == "lorun_transfer"]
    assert settings == ["r10"]
    with pytest.raises(LorunError, match="'lorun_transfer' does not run in 'r25', but in r10"):
        transfer_profile.experiment("cs", "r25", "lorun_transfer", 0)


def test_lorun_transfer_has_the_base_of_another_setting_and_all_else_of_its_own(transfer_profile):
    own, other = (transfer_profile.experiment("cs", "r10", method, 0) for method in ("lorun", "lorun_transfer"))
    there = transfer_profile.experiment("cs", "r25", "lorun", 0)
    assert other.base == there.base == transfer_profile.experiment("cs", "r25", PRETRAIN, 0)
    assert other.physics == own.physics != there.physics
    assert steps(other) == steps(own)
    assert other.account_key == own.account_key


def test_the_base_is_part_of_the_key_of_lorun_transfer_alone(transfer_profile, tiny_profile_file):
    content = yaml.safe_load(tiny_profile_file.with_name("transfer.yaml").read_text())
    task = content["tasks"]["cs"]

    def keys(**base):
        task["settings"]["r25"] = base
        tiny_profile_file.with_name("transfer.yaml").write_text(yaml.safe_dump(content))
        profile = load_profile(tiny_profile_file.with_name("transfer.yaml"))
        return {method: profile.experiment("cs", "r10", method, 0).key for method in task["strategies"]}

    before, after = keys(ratio=25), keys(ratio=26)
    assert {method for method in before if before[method] != after[method]} == {"lorun_transfer"}
    assert len(set(before.values())) == len(before)
    renamed = transfer_profile.experiment("cs", "r10", "lorun_transfer", 0)
    base = renamed.base.model_copy(update={"task": "denoising", "setting": "quarter"})
    assert renamed.model_copy(update={"spec": renamed.spec.model_copy(update={"base": base})}).key == renamed.key


# The base of another task


def transferred(**base):
    return {"strategies": ["lorun_transfer"], "base": {"lorun_transfer": base}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            transferred(task="denoize", setting="gray"),
            "`lorun_transfer`: unknown task 'denoize'",
        ),
        (transferred(task="denoise", setting="r25"), "unknown setting 'r25'"),
        (transferred(task="denoise", setting="gray", method="lorun"), "unknown method 'lorun'"),
        (transferred(task="denoise", setting="known"), "`noise_map` differs between 'known' of denoise and"),
        ({"denoiser": {"name": "unet", "width": 5, "levels": 2, "blocks": 1}}, "denoise has the denoiser"),
        ({"data": {**PROFILE["tasks"]["cs"]["data"], "channels": 3}}, "has images of 1 channels, cs of 3"),
    ],
)
def test_a_base_of_another_task_that_does_not_fit_is_refused(tasks_profile, tiny_profile_file, changes, message):
    path = tiny_profile_file.with_name("tasks.yaml")
    with pytest.raises(LorunError) as error:
        changed(path, lambda task: task.update(changes))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_every_setting_has_the_base_of_the_other_task_and_all_else_of_its_own(tasks_profile):
    runs_in = {(e.setting, e.method) for e in tasks_profile.experiments() if e.task == "cs"}
    methods = tasks_profile.tasks["cs"].methods
    assert runs_in == {(setting, method) for setting in ("r25", "gray") for method in methods}
    pretrain = tasks_profile.experiment("denoise", "gray", PRETRAIN, 0)
    for setting in ("r25", "gray"):
        own = tasks_profile.experiment("cs", setting, "lorun", 0)
        assert own.base.task == "cs"
        for method in ("lorun_transfer", "frozen"):
            experiment = tasks_profile.experiment("cs", setting, method, 0)
            assert experiment.base == pretrain
            assert experiment.training == own.training
            assert experiment.trained_on == ["other", "tiny"]  # that of the base, for which `other` stands


@pytest.mark.parametrize(
    ("edit", "touches"),
    [
        (lambda task: task["training"].update(phase1_steps=7), True),
        (lambda task: task["training"].update(learning_rate=1e-4), True),
        (lambda task: task["training"].update(learning_rates={"lorun": 1e-4}), True),
        (lambda task: task["settings"]["gray"].update(noise_range=[0, 40]), True),
        (lambda task: task["data"].update(train="tiny"), True),
        (lambda task: task["unfolding"].update(step_size=0.5), True),
        (lambda task: task["training"].update(steps=9), False),
        (lambda task: task["unfolding"].update(stages=9), False),
        (lambda task: task["data"].update(test=["other"]), False),
        (lambda task: task["evaluation"].update(protocols=["cs_round_y"]), False),
    ],
)
def test_what_shapes_the_base_of_another_task_is_in_the_keys_that_start_from_it(
    tasks_profile, tiny_profile_file, edit, touches
):
    def keys(profile):
        methods = profile.tasks["cs"].methods
        return {method: profile.experiment("cs", "r25", method, 0).key for method in methods}

    before = keys(tasks_profile)
    path = tiny_profile_file.with_name("tasks.yaml")
    content = yaml.safe_load(path.read_text())
    edit(content["tasks"]["denoise"])
    path.write_text(yaml.safe_dump(content))
    after = keys(load_profile(path))
    touched = {method for method in before if before[method] != after[method]}
    assert touched == ({"lorun_transfer", "frozen"} if touches else set())
    assert len(set(before.values())) == len(before)


def test_the_committed_tasks_share_one_base():
    profile = load_profile(PROJECT / "config/tasks.yaml")
    on_it = [e for e in profile.experiments() if e.method in ("lorun_transfer", "frozen") and e.seed == 0]
    assert {e.task for e in on_it} == {"cs", "sr", "deblur"}
    base = profile.experiment("denoise", "gray", PRETRAIN, 0)
    assert {e.base.folder for e in on_it} == {base.folder}


def test_frozen_has_the_base_that_the_task_names_or_its_own(transfer_profile):
    content = transfer_profile.model_dump(mode="json", exclude_none=True)
    content["tasks"]["cs"]["strategies"] += ["frozen"]
    alone = Profile.model_validate(content).experiment("cs", "r10", "frozen", 0)
    content["tasks"]["cs"]["base"]["frozen"] = {"setting": "r25"}
    profile = Profile.model_validate(content)
    other, own = (profile.experiment("cs", setting, "frozen", 0) for setting in ("r10", "r25"))
    assert other.base == own.base == profile.experiment("cs", "r25", PRETRAIN, 0)
    assert alone.base == profile.experiment("cs", "r10", PRETRAIN, 0)
    assert alone.key != other.key


def test_a_learning_rate_of_lorun_is_that_of_its_pretraining(transfer_profile):
    content = transfer_profile.model_dump(mode="json", exclude_none=True)
    content["tasks"]["cs"]["training"]["learning_rates"] = {"lorun": 1e-4, "block1": 1e-3}  # which it does not run
    content["tasks"]["cs"]["strategies"] += ["frozen"]
    profile = Profile.model_validate(content)
    for method in ("lorun", "lorun_transfer", "frozen"):
        experiment = profile.experiment("cs", "r10", method, 0)
        base = experiment.base
        assert experiment.training.learning_rate == 1e-4
        assert base.key == profile.experiment("cs", base.setting, "pretrain", 0).key
    content["tasks"]["cs"]["training"]["learning_rates"] = {"pretrain": 1e-4}
    with pytest.raises(ValueError, match="`learning_rates` of `pretrain`: it takes that of `lorun`"):
        Profile.model_validate(content)


# Variants


def with_variants(path, **variants):
    def edit(task):
        task["variants"] = variants
        task["strategies"] += [*variants]

    return changed(path, edit)


def test_a_variant_is_a_method_that_differs_in_what_it_says(tiny_profile, tiny_profile_file):
    lora = {"gamma": 40, "layout": "loralib"}
    profile = with_variants(
        tiny_profile_file,
        rank_40={"strategy": "lorun", "lora": lora},
        two_stages={"strategy": "lorun", "unfolding": {"stages": 2}},
        from_nothing={"strategy": "lorun", "base": "none"},
        on_three={"strategy": "lorun", "base": "pretrain_shared"},
    )
    lorun = tiny_profile.experiment("cs", "r25", "lorun", 0)
    own = {name: profile.experiment("cs", "r25", name, 0) for name in ("lorun", *profile.tasks["cs"].variants)}
    assert own["lorun"].key == lorun.key
    assert own["rank_40"].spec.adapters.model_dump() == lorun.spec.adapters.model_dump() | lora
    assert own["two_stages"].stages == 2
    assert own["rank_40"].base == own["two_stages"].base == lorun.base  # one pretraining for all
    assert own["from_nothing"].base is None
    assert own["on_three"].base.method == "pretrain_shared"
    lengths = {name: steps(one) for name, one in own.items()}
    assert lengths == {**dict.fromkeys(own, (4, 4)), "from_nothing": (0, 8)}
    assert len({one.key for one in own.values()}) == 5
    assert all(one.method == name for name, one in own.items())


def test_a_learned_noise_level_is_the_base_s_too(tiny_profile_file):
    profile = with_variants(
        tiny_profile_file,
        told={"strategy": "lorun", "noise_map": "learned"},
        told_shared={"strategy": "lorun_shared", "noise_map": "learned"},
        told_block_k={"strategy": "block_k", "noise_map": "learned"},
    )
    names = ("told", "told_shared", "told_block_k")
    told, shared, block_k = (profile.experiment("cs", "r25", name, 0) for name in names)
    assert (told.base.method, shared.base.method, block_k.base) == ("pretrain_sigma", "pretrain_shared_sigma", None)
    assert told.key == profile.resolve("cs", "r25", "lorun_sigma", 0).key
    for one in (told, told.base, shared, shared.base, block_k):
        assert one.spec.noise_level == 0.1


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ({"strategy": "lorum"}, "Did you mean 'lorun'?"),
        ({"strategy": "lorun", "lora": {"gama": 5}}, "`variants.mine`: unknown key `gama`. Did you mean `gamma`?"),
        ({"strategy": "lorun", "unfolding": {"stages": 0}}, "`variants.mine`: `stages` (=0)"),
        ({"strategy": "lorun", "base": "pretrain_sharde"}, "Did you mean 'pretrain_shared'?"),
        ({"strategy": "lorun", "noise": "learned"}, "unknown key `tasks.cs.variants.mine.noise`"),
        (
            {"strategy": "lorun", "denoiser": {"name": "unet", "width": 8}},
            "`mine` has another denoiser than `pretrain`, which trains its base",
        ),
        ({"strategy": "lorun", "base": "pretrain_sigma"}, "only one of `mine` and its base `pretrain_sigma` is told"),
        ({"strategy": "oracle"}, "`mine` is computed from `block_k_base`: add it to `strategies`"),
        ({"strategy": "lorun", "base": "published"}, "`denoiser.weights` names none"),
    ],
)
def test_a_mistake_in_a_variant_is_one_line(tiny_profile_file, variant, message):
    with pytest.raises(LorunError) as error:
        with_variants(tiny_profile_file, mine=variant)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["lorun", "pretrain", "Mine", "a b", "2nd"])
def test_a_variant_needs_a_name_of_its_own(tiny_profile_file, name):
    with pytest.raises(LorunError, match="must be lower-case letters, digits and _, and not a strategy|match pattern"):
        changed(tiny_profile_file, lambda task: task.update(variants={name: {"strategy": "lorun"}}))


def test_the_near_variant_is_suggested(tiny_profile_file):
    with pytest.raises(LorunError, match="Did you mean 'rank_40'"):
        changed(
            tiny_profile_file,
            lambda task: task.update(variants={"rank_40": {"strategy": "lorun"}}, strategies=["rank40"]),
        )


@pytest.mark.parametrize("name", ["a`touch pwned`", "low noise", "../outside", "$(id)", "-r25", "a;b", "", "a" * 65])
@pytest.mark.parametrize("place", ["profile", "task", "setting"])
def test_a_name_that_could_be_a_path_or_a_command_is_refused(tiny_profile_file, name, place):
    content = yaml.safe_load(tiny_profile_file.read_text())
    tasks = content["tasks"]
    if place == "profile":
        content["profile"] = name
    elif place == "task":
        tasks[name] = tasks.pop("cs")
    else:
        tasks["cs"]["settings"] = {name: {"ratio": 25}}
    with pytest.raises(ValidationError, match="match pattern|at most 64"):
        Profile.model_validate(content)
