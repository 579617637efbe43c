import csv
import json

import pytest
import yaml
from tiny import PROFILE, PROJECT

from lorun.config import PRETRAIN, Experiment, Profile, load_profile, profile_schema
from lorun.errors import LorunError, UnknownName

STRATEGIES = PROFILE["tasks"]["cs"]["strategies"]
COMMITTED = sorted((PROJECT / "config").glob("*.yaml"))


def changed(path, edit):
    """The tiny profile, edited by `edit(task)`, loaded."""
    said = yaml.safe_load(path.read_text())
    edit(said["tasks"]["cs"])
    path.write_text(yaml.safe_dump(said))
    return load_profile(path)


def transfer(task, **changes):
    task["settings"]["r10"] = {"ratio": 10}
    task.update(strategies=["lorun_transfer"], base_setting="r25")
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
        (lambda task: task["settings"].update(r0={"ratio": 0}), "(=0): Input should be greater than 0"),
        (
            lambda task: task["settings"].update(r101={"ratio": 101}),
            "(=101): Input should be less than or equal to 100",
        ),
        (lambda task: task["training"].update(phase1_steps=8), "`phase1_steps` (=8) must be below `steps` (=8)"),
        (lambda task: task["settings"].update(r0={"ratio": 0}), "setting `r0`: `ratio`"),
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
        (lambda task: task.pop("training"), "`tasks.cs.training` is missing"),
        (
            lambda task: task.update(strategies=["lorun_transfer"]),
            "the strategy `lorun_transfer` needs a `base_setting`",
        ),
        (lambda task: transfer(task, strategies=["lorun"]), "(='r25') is for the strategies `lorun_transfer`"),
        (lambda task: task.update(base_task="denoise"), "`base_task` (='denoise') needs a `base_setting`"),
        (
            lambda task: transfer(task, strategies=["frozen"], base_setting="r1"),
            "`base_setting` (='r1') is no setting of the task: r10, r25",
        ),
        (lambda task: transfer(task, base_setting="r1"), "`base_setting` (='r1') is no setting of the task: r10, r25"),
        (lambda task: transfer(task, settings={"r25": {"ratio": 25}}), "(='r25'); there is none"),
        (lambda task: transfer(task, only={"lorun_transfer": ["r25"]}), "`only` of `lorun_transfer` names"),
        (
            lambda task: task["evaluation"].update(points=[[0, 0]], keep=[]),
            "`points` are pixels of the images that `keep` names",
        ),
        (lambda task: task["evaluation"].update(points=[[0, 0]]), "of spectra, but `data.channels` is 1"),
        (lambda task: task["evaluation"].update(points=[[0, -1]]), "(=-1): Input should be greater than or equal to 0"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(tiny_profile_file, edit, message):
    with pytest.raises(LorunError) as error:
        changed(tiny_profile_file, edit)
    assert message in str(error.value)
    assert str(tiny_profile_file) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_profile_suggests_the_near_one(tiny_profile_file):
    with pytest.raises(UnknownName, match=r"Did you mean '.*tiny.yaml'"):
        load_profile(tiny_profile_file.with_name("tinny.yaml"))


@pytest.mark.parametrize("text", ["a: [", "- 1", "\x00"])
def test_a_file_that_is_no_profile_is_refused(tiny_profile_file, text):
    tiny_profile_file.write_text(text)
    with pytest.raises(LorunError, match="tiny.yaml"):
        load_profile(tiny_profile_file)


@pytest.mark.parametrize(
    ("parent", "message"), [("tiny.yaml", "extends itself"), (5, "`extends` (=5)"), ("no.yaml", "no.yaml")]
)
def test_an_impossible_parent_is_refused(tiny_profile_file, parent, message):
    said = yaml.safe_load(tiny_profile_file.read_text())
    tiny_profile_file.write_text(yaml.safe_dump({**said, "extends": parent}))
    with pytest.raises(LorunError) as error:
        load_profile(tiny_profile_file)
    assert message in str(error.value)


def test_extends_overrides_single_keys(tiny_profile_file):
    child = tiny_profile_file.with_name("child.yaml")
    child.write_text("extends: tiny.yaml\nprofile: child\ntasks: {cs: {training: {batch: 7}, strategies: [lorun]}}\n")
    task = load_profile(child).tasks["cs"]
    assert task.training.batch == 7
    assert task.training.steps == PROFILE["tasks"]["cs"]["training"]["steps"]
    assert task.strategies == ["lorun"]


def test_a_profile_leaves_out_a_task_of_another_by_null(tiny_profile_file):
    said = yaml.safe_load(tiny_profile_file.read_text())
    said["tasks"]["more"] = said["tasks"]["cs"]
    tiny_profile_file.write_text(yaml.safe_dump(said))
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
    ],
)
def test_a_change_gives_new_keys_to_the_methods_it_touches_only(tiny_profile, tiny_profile_file, edit, touched):
    after = changed(tiny_profile_file, edit)
    assert {m for m in (*STRATEGIES, PRETRAIN) if key(after, m) != key(tiny_profile, m)} == touched


@pytest.mark.parametrize(
    ("profile", "setting", "method", "expected"),
    [
        ("quick", "r25", "lorun", "8eea39ea83"),
        ("quick", "r25", PRETRAIN, "ea122d84fa"),
        ("desk", "r10", "block_k", "cbd083c14c"),
        ("paper", "r25_learned", "octuf", "8c6654fa6f"),
        ("published", "r25_learned", "opine_net_plus", "1d98f4607c"),
        ("transfer", "r10", "lorun_transfer", "960913bca3"),
    ],
)
def test_keys_of_runs_that_exist_stay(profile, setting, method, expected):
    """An option that is added must not train anew what is trained."""
    assert load_profile(PROJECT / f"config/{profile}.yaml").experiment("cs", setting, method, 0).key == expected


@pytest.mark.parametrize("profile", ["quick", "published", "transfer"])
def test_the_hashes_of_committed_rows_stay(profile):
    with (PROJECT / f"results/{profile}/rows.csv").open(encoding="utf-8", newline="") as file:
        committed = {(row["run"], row["config_hash"]) for row in csv.DictReader(file)}
    experiments = load_profile(PROJECT / f"config/{profile}.yaml").experiments()
    assert committed == {(one.key, one.config_hash) for one in experiments}


def test_points_are_part_of_what_is_measured_alone(spectral_profile):
    with_points, without = (
        spectral_profile(evaluation={"points": points}).experiment("cassi", "snapshot", "block1", 0)
        for points in ([[0, 1]], [])
    )
    assert with_points.key == without.key
    assert with_points.config_hash != without.config_hash
    assert "points" not in without.model_dump_json()
    assert Experiment.model_validate_json(with_points.model_dump_json()) == with_points


def test_seeds_and_methods_have_different_keys(tiny_profile):
    keys = {key(tiny_profile, method, seed) for method in (*STRATEGIES, PRETRAIN) for seed in (0, 1)}
    assert len(keys) == 2 * (len(STRATEGIES) + 1)


def test_lorun_spends_its_pretraining_from_the_same_budget(tiny_profile):
    training = tiny_profile.tasks["cs"].training
    lorun = tiny_profile.experiment("cs", "r25", "lorun", 0)
    assert lorun.pretraining.key == key(tiny_profile, PRETRAIN)
    assert (lorun.pretraining.first_step, lorun.pretraining.last_step) == (0, training.phase1_steps)
    assert (lorun.first_step, lorun.last_step) == (training.phase1_steps, training.steps)
    block_k = tiny_profile.experiment("cs", "r25", "block_k", 0)
    assert (block_k.first_step, block_k.last_step) == (0, training.steps)


# LoRun on the base of another setting


def test_lorun_transfer_runs_in_every_setting_but_that_of_its_base(transfer_profile):
    settings = [e.setting for e in transfer_profile.experiments() if e.method == "lorun_transfer"]
    assert settings == ["r10"]
    with pytest.raises(LorunError, match="'lorun_transfer' does not run in 'r25', but in r10"):
        transfer_profile.experiment("cs", "r25", "lorun_transfer", 0)


def test_lorun_transfer_has_the_base_of_another_setting_and_all_else_of_its_own(transfer_profile):
    own, other = (transfer_profile.experiment("cs", "r10", method, 0) for method in ("lorun", "lorun_transfer"))
    there = transfer_profile.experiment("cs", "r25", "lorun", 0)
    assert other.pretraining == there.pretraining == transfer_profile.experiment("cs", "r25", PRETRAIN, 0)
    assert other.pretraining.folder == there.pretraining.folder
    assert other.physics == own.physics != there.physics
    assert (other.first_step, other.last_step) == (own.first_step, own.last_step)
    assert other.account_key == own.model_copy(update={"method": "lorun_transfer"}).account_key


def test_the_base_is_part_of_the_key_of_lorun_transfer_alone(transfer_profile, tiny_profile_file):
    said = yaml.safe_load(tiny_profile_file.with_name("transfer.yaml").read_text())
    task = said["tasks"]["cs"]

    def keys(**base):
        task["settings"]["r25"] = base
        tiny_profile_file.with_name("transfer.yaml").write_text(yaml.safe_dump(said))
        profile = load_profile(tiny_profile_file.with_name("transfer.yaml"))
        return {method: profile.experiment("cs", "r10", method, 0).key for method in task["strategies"]}

    before, after = keys(ratio=25), keys(ratio=26)
    assert {method for method in before if before[method] != after[method]} == {"lorun_transfer"}
    assert len(set(before.values())) == len(before)
    renamed = transfer_profile.experiment("cs", "r10", "lorun_transfer", 0)
    base = renamed.base.model_copy(update={"setting": "quarter"})
    assert renamed.model_copy(update={"base": base}).key == renamed.key


# The base of another task


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base_task": "denoize"}, "task `cs`: `base_task` (='denoize') is no other task of the profile: denoise"),
        ({"base_task": "cs"}, "task `cs`: `base_task` (='cs') is no other task of the profile: denoise"),
        ({"base_setting": "r25"}, "(='denoise') has no setting `base_setting` (='r25'): gray"),
        ({"base_setting": None}, "the strategy `lorun_transfer` needs a `base_setting`"),
        ({"denoiser": {"name": "unet", "width": 5, "levels": 2, "blocks": 1}}, "width=4 levels=2 blocks=1, this task"),
        ({"data": {**PROFILE["tasks"]["cs"]["data"], "channels": 3}}, "has images of 1 channels, this task of 3"),
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
        assert own.base is None
        assert own.pretraining.task == "cs"
        for method in ("lorun_transfer", "frozen"):
            experiment = tasks_profile.experiment("cs", setting, method, 0)
            assert experiment.pretraining.folder == pretrain.folder
            assert experiment.pretraining.training == pretrain.training
            assert experiment.pretraining.data == pretrain.data
            assert (experiment.first_step, experiment.last_step) == (own.first_step, own.last_step)
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
    said = yaml.safe_load(path.read_text())
    edit(said["tasks"]["denoise"])
    path.write_text(yaml.safe_dump(said))
    after = keys(load_profile(path))
    touched = {method for method in before if before[method] != after[method]}
    assert touched == ({"lorun_transfer", "frozen"} if touches else set())
    assert len(set(before.values())) == len(before)


def test_the_committed_tasks_share_one_base():
    profile = load_profile(PROJECT / "config/tasks.yaml")
    on_it = [e for e in profile.experiments() if e.method in ("lorun_transfer", "frozen") and e.seed == 0]
    assert {e.task for e in on_it} == {"cs", "sr", "deblur"}
    base = profile.experiment("denoise", "gray", PRETRAIN, 0)
    assert {e.pretraining.folder for e in on_it} == {base.folder}


def test_names_of_the_base_s_task_and_setting_are_not_in_the_key(tasks_profile):
    experiment = tasks_profile.experiment("cs", "r25", "lorun_transfer", 0)
    renamed = experiment.base.model_copy(update={"task": "denoising", "setting": "g"})
    assert experiment.model_copy(update={"base": renamed}).key == experiment.key


def test_frozen_has_the_base_of_the_setting_that_the_task_names_and_there_its_own(transfer_profile):
    said = transfer_profile.model_dump(mode="json", exclude_none=True)
    said["tasks"]["cs"]["strategies"] += ["frozen"]
    profile = Profile.model_validate(said)
    other, own = (profile.experiment("cs", setting, "frozen", 0) for setting in ("r10", "r25"))
    assert other.pretraining.folder == own.pretraining.folder == profile.experiment("cs", "r25", PRETRAIN, 0).folder
    assert own.base is None
    del said["tasks"]["cs"]["base_setting"]
    said["tasks"]["cs"]["strategies"].remove("lorun_transfer")
    alone = Profile.model_validate(said).experiment("cs", "r10", "frozen", 0)
    assert alone.pretraining.folder == profile.experiment("cs", "r10", PRETRAIN, 0).folder
    assert alone.key != other.key


# (profile, method) -> key, account_key and config_hash in the setting r25 with seed 0
KNOWN = {
    ("quick", "block1"): ("7b1c3c1849", "8996b30a3b", "f0f14060e4"),
    ("quick", "block_k"): ("34336696c1", "70a9c243cf", "3337dd0048"),
    ("quick", "shared"): ("b546db976e", "2279e0b916", "631358358f"),
    ("quick", "shared_sigma"): ("bc02f7dd32", "40a663af8b", "097dafc83d"),
    ("quick", "lorun"): ("8eea39ea83", "8f89e15420", "04f839b0e7"),
    ("quick", "pretrain"): ("ea122d84fa", "24209f5f20", "3b83f7b92d"),
    ("quick", "lorun_random"): ("5781dad527", "82049d24ab", "aaea9658fa"),
    ("quick", "linear_mmse"): ("d8b932bbaa", "636bede3b3", "67f315347c"),
    ("desk", "block_k"): ("adce50453b", "f4131e93e2", "a3109b7524"),
    ("desk", "lorun"): ("6ef0e9e845", "5f8cb81f63", "b389c26220"),
    ("desk", "pretrain"): ("06b2da472c", "42c1c6ed16", "97784f5d18"),
    ("tasks", "block_k"): ("34336696c1", "70a9c243cf", "e4f33d98ac"),
    ("tasks", "lorun_transfer"): ("44c433584b", "4428a2b79b", "96a1cb41b0"),
    ("tasks", "frozen"): ("1c67f157af", "4b68a73538", "a423999041"),
    ("tasks", "initial_reconstruction"): ("e3b517abcc", "85508b9c15", "d061c7fca9"),
    ("published", "ista_net"): ("c57a42d5ee", "1e14ff5759", "afb7deb638"),
}


@pytest.mark.parametrize(("profile", "method"), KNOWN)
def test_keys_are_those_of_the_runs_there_are(profile, method):
    experiment = load_profile(PROJECT / "config" / f"{profile}.yaml").experiment("cs", "r25", method, 0)
    assert (experiment.key, experiment.account_key, experiment.config_hash) == KNOWN[profile, method]


def test_a_learning_rate_of_lorun_is_that_of_its_pretraining(transfer_profile):
    said = transfer_profile.model_dump(mode="json", exclude_none=True)
    said["tasks"]["cs"]["training"]["learning_rates"] = {"lorun": 1e-4}
    said["tasks"]["cs"]["strategies"] += ["frozen"]
    profile = Profile.model_validate(said)
    for method in ("lorun", "lorun_transfer", "frozen"):
        experiment = profile.experiment("cs", "r10", method, 0)
        base = experiment.pretraining
        assert experiment.training.learning_rate == 1e-4
        assert base.key == profile.experiment("cs", base.setting, "pretrain", 0).key
    said["tasks"]["cs"]["training"]["learning_rates"] = {"pretrain": 1e-4}
    with pytest.raises(ValueError, match="`learning_rates` of `pretrain`: it takes that of `lorun`"):
        Profile.model_validate(said)
