"""Names of earlier versions still work."""

from pathlib import Path

import pytest
import yaml

from lorun import config, physics, plugins, renamed
from lorun.errors import LorunError
from lorun.methods import PRESETS
from lorun.profiles import load_profile


def test_an_old_strategy_keeps_its_name_and_is_the_new_one(tiny_profile_file: Path) -> None:
    content = yaml.safe_load(tiny_profile_file.read_text())
    content["tasks"]["cs"]["strategies"] = ["separate", "block_k"]
    tiny_profile_file.write_text(yaml.safe_dump(content))
    profile = load_profile(tiny_profile_file)
    old, new = (profile.experiment("cs", "r25", name, 0) for name in ("separate", "block_k"))
    assert "separate" in old.folder.parts
    assert old.spec == new.spec.model_copy(update={"name": "separate"})


def test_a_variant_may_have_an_old_name(tiny_profile_file: Path) -> None:
    content = yaml.safe_load(tiny_profile_file.read_text())
    content["tasks"]["cs"] |= {"strategies": ["separate"], "variants": {"separate": {"strategy": "shared"}}}
    tiny_profile_file.write_text(yaml.safe_dump(content))
    assert load_profile(tiny_profile_file).tasks["cs"].variants["separate"].strategy == "shared"


@pytest.mark.parametrize("wrong", [{"a": 1}, ["separate"], None, 3])
def test_a_strategy_that_is_no_text_is_refused_in_a_line(tiny_profile_file: Path, wrong: object) -> None:
    content = yaml.safe_load(tiny_profile_file.read_text())
    content["tasks"]["cs"]["strategies"] = ["separate", wrong]
    tiny_profile_file.write_text(yaml.safe_dump(content))
    with pytest.raises(LorunError, match="strategies"):
        load_profile(tiny_profile_file)


def test_every_old_name_stands_for_something() -> None:
    assert renamed.STRATEGIES.items() <= {(old, new) for old in renamed.STRATEGIES for new in PRESETS}
    assert [plugins.find(old).name for old in renamed.BASELINES] == [*renamed.BASELINES.values()]
    assert plugins.name_of("first_estimate") == "initial_reconstruction"
    section = config.BlurDownsampleConfig(scale=2, width=1.6)
    assert physics.build_physics(section).state_dict().keys() == section.build().state_dict().keys()
    with pytest.raises(AttributeError, match=r"'lorun.config' has no attribute 'Nothing'"):
        config.Nothing  # noqa: B018


@pytest.mark.parametrize(
    ("given", "understood"),
    [
        ("evaluate --method ista_net --matrix phi.mat --images Set11", "score"),
        ("evaluate -c a.yaml --method lorun --images Set11", "evaluate"),
        ("evaluate --help --images", "evaluate"),
        ("train -c a.yaml", "train"),
    ],
)
def test_evaluation_of_files_is_score(given: str, understood: str) -> None:
    words = given.split()
    assert renamed.command(words) == [understood, *words[1:]]
