"""The card of a model, `README.md`: what it is, how it was trained, what it scores, and how it is used."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from lorun import plugins
from lorun.accounting.parameters import count_parameters
from lorun.code import ROOT
from lorun.data.registry import entry_of
from lorun.evaluation.metrics import METRICS
from lorun.methods import PRESETS, Experiment, Plugin, Strategy
from lorun.models.description import withheld_files
from lorun.results.cells import integer

if TYPE_CHECKING:
    from lorun.models.model import Model

_CARD = """\
---
library_name: lorun
pipeline_tag: image-to-image
license: other
license_name: see-training-data
tags: [image-restoration, deep-unfolding, lora]
datasets: [{datasets}]
---

# {name}

`{method}` for {task}: {about}.

| | |
|:--|:--|
{facts}

## Use

```python
{python}
```

{peft}## Scores

{scores}

## Training data

{data}

The code is under the MIT licence. The weights were computed from these data; use them as the data may be used.
"""

_PYTHON = """\
import torch
{imports}from lorun.models import from_pretrained

model = from_pretrained("{name}")  # or a folder
x = {x}  # (batch, channels, H, W)
physics = model.physics.at(*x.shape[2:]){under}
y = physics(x)  # or a measurement of your own
with torch.no_grad():
    estimate = model(y, physics)
print(f"PSNR {{-10 * (estimate - x).square().mean().log10():.2f}} dB")"""

_IMAGES = {
    1: (
        "from skimage.data import camera\n",
        "torch.tensor(camera()[:{0}, :{0}] / 255, dtype=torch.float32)[None, None]",
    ),
    3: (
        "from skimage.data import astronaut\n",
        "torch.tensor(astronaut()[:{0}, :{0}] / 255, dtype=torch.float32).movedim(2, 0)[None]",
    ),
    28: ("", "torch.rand(1, 28, {0}, {0})"),
}
"""What imports an image of so many channels, and the image."""

_PEFT = """\
`adapters/stage_k` has the adapter of stage k in the format of plain peft, which loads it on the base:

```python
from peft import PeftModel

denoiser = PeftModel.from_pretrained(model.base_denoiser(), "models/{name}/adapters/stage_1")
```

"""


def card(model: "Model", name: str, with_adapters: bool = False) -> str:
    """The text of the card of a model that is called `name`. `with_adapters`: they are beside it in peft's format."""
    experiment, degradations = model.experiment, model.physics.degradations
    imports, x = _IMAGES[experiment.channels]
    python = _PYTHON.format(
        name=name,
        imports=imports,
        x=x.format(experiment.accounting.image),
        under=f'.under("{degradations[0]}")' if degradations else "",
    )
    lines = [
        [f"`{dataset}`", entry.what, entry.licence, entry.redistribution, "<br>".join(entry.sources)]
        for dataset, entry in ((name, entry_of(ROOT / "data", name)) for name in experiment.trained_on)
    ]
    return _CARD.format(
        name=name,
        datasets=", ".join(experiment.trained_on),
        method=experiment.method,
        about=_about(experiment),
        task=_TASKS.get(experiment.physics.task, experiment.physics.task),
        facts="\n".join(f"| {heading} | {value} |" for heading, value in _facts(model)),
        python=python,
        peft=_PEFT.format(name=name) if with_adapters else "",
        scores=_scores(model),
        data=_table(lines, "dataset", "what", "licence", "may be passed on", "source"),
    )


_TASKS = {
    "cs": "block-wise compressed sensing",
    "cassi": "snapshot spectral imaging (CASSI)",
    "sr": "super-resolution",
    "denoising": "denoising",
}


def _about(experiment: Experiment) -> str:
    """The method in a few words."""
    spec = experiment.spec
    if isinstance(spec, Plugin):
        return plugins.card(spec.reference).title
    if spec.name in PRESETS:
        return PRESETS[spec.name].about
    return "one denoiser per stage" if spec.sharing == "per_stage" else "one denoiser for all stages"


def _facts(model: "Model") -> Iterator[tuple[str, str]]:
    description, experiment = model.description, model.experiment
    training, spec, config = description.training, experiment.spec, experiment.training
    counts = count_parameters(model.system)
    yield "operator", experiment.physics.heading
    files = withheld_files(experiment.physics) or (experiment.physics.files if model.replaced else ())
    if files:
        yield "operator here", f"a computed one: `{'`, `'.join(map(str, files))}` may not be passed on"
    if config is not None and experiment.physics.training_heading is not None:
        yield "operators of training", experiment.physics.training_heading
    yield "images", {1: "gray", 3: "RGB", 28: "spectral, 28 bands from 453.3 to 648.1 nm"}[experiment.channels]
    if isinstance(spec, Strategy):
        fields = spec.denoiser.model_dump(exclude={"name"}, exclude_none=True)
        yield "denoiser", f"{spec.denoiser.name} ({', '.join(f'{key} {value}' for key, value in fields.items())})"
        yield "stages", str(spec.stages)
    kinds = {"base": counts.base, "adapters": counts.adapters, "step sizes": counts.step_sizes, "other": counts.other}
    named = ", ".join(f"{part} {integer(count).text}" for part, count in kinds.items() if count)
    yield "parameters", f"{integer(counts.network).text} ({named})" if isinstance(spec, Strategy) else named[5:]
    base: Experiment | None = getattr(spec, "base", None)
    if base is not None:
        same = "" if base.task == experiment.task else f"{base.task}/"
        yield "base", f"`{base.method}` of {same}{base.setting}: {_about(base)}"
    if isinstance(spec, Strategy) and spec.adapters is not None:
        network: Any = model.network
        ranks = network.denoisers[0].ranks.values()
        adapters = spec.adapters
        scale = {"one": "scale 1"}.get(adapters.scaling, f"{adapters.scaling} with alpha {adapters.alpha:g}")
        yield (
            "adapters",
            f"one per stage, gamma {adapters.gamma:g} %, ranks {min(ranks)} to {max(ranks)} in {len(ranks)} layers, "
            f"layout of {adapters.layout}, {scale}; the base is {'trained too' if spec.joint else 'frozen'}",
        )
    if experiment.trained_as is not None:
        yield "trained as", experiment.trained_as.name
    if config is not None:
        yield "trained on", ", ".join(f"`{name}`" for name in experiment.trained_on)
        steps = integer(training.steps or training.total_steps).text
        height, width = config.patch_size
        parts = [
            f"{steps} steps of {config.batch} patches of {height} x {width} pixels",
            f"{config.optimizer} at {config.learning_rate:g}",
            f"loss {config.loss}",
            training.precision,
            training.checkpoint_policy and f"checkpoint policy {training.checkpoint_policy}",
            f"{training.training_flops:.3g} FLOPs, pretraining included",
        ]
        yield "training", ", ".join(filter(None, parts))
    yield "seed", str(experiment.seed)
    changed = " with uncommitted changes" if training.provenance.get("dirty") else ""
    yield "run", f"`{description.run}`, by commit {str(training.provenance.get('commit'))[:10]}{changed}"
    stored = "half precision (float16)" if description.precision == "float16" else "single precision"
    yield "stored", f"network in {stored}, operator in single precision"


def _scores(model: "Model") -> str:
    scores, check = model.description.scores, model.description.check
    if not scores:
        return "None were recorded."
    lines = [
        [one.dataset, one.protocol, metric.heading, f"{one.value:.{metric.digits}f}", one.images]
        for one, metric in ((one, METRICS[one.metric]) for one in scores)
    ]
    table = _table(lines, "test set", "protocol", "metric", "value", "images")
    several = " and over all kernels" if model.physics.degradations else ""
    text = f"{table}\n\nMeans over the images{several}, of this run in single precision."
    if check is not None:
        title = METRICS[check.metric].title
        text += (
            f" As stored here, {title} on {check.dataset} (`{check.protocol}`) is {check.half:.4f} instead of "
            f"{check.full:.4f}."
        )
    return text


def _table(lines: Sequence[Sequence[object]], *titles: str) -> str:
    return tabulate(lines, titles, "pipe", disable_numparse=True)
