"""What every baseline owes to the rest of the suite, for every kind of operator that it does not decline.

`CHECKS` are all of it; `lorun contract` and the tests run the same ones.
"""

import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lorun import plugins
from lorun.accounting import inference_bytes, reconstruction_flops, training_step_bytes
from lorun.config import TrainingConfig
from lorun.errors import LorunError
from lorun.physics import Operator
from lorun.physics.block_cs import BlockCSConfig
from lorun.physics.blur_downsample import BlurDownsample
from lorun.physics.cassi import CASSIConfig
from lorun.plugins import find
from lorun.step import make_optimizer, training_step
from lorun.system import System
from lorun.training.weights import load_state, load_weights, save_weights


class Kind(NamedTuple):
    """A kind of operator, small enough to try things on.

    Attributes:
        task: what cards call it.
        make: the operator in a precision, not fitted yet.
        channels: numbers of channels of the images that it measures; the first is tried in full, of the others shapes.
        published: the operator and channels that published parameters are counted for.
    """

    task: str
    make: Callable[[torch.dtype], Operator]
    channels: tuple[int, ...]
    published: tuple[Callable[[torch.dtype], Operator], int]


def _blocks(dtype: torch.dtype) -> Operator:
    return BlockCSConfig(ratio=25, block=8).build(dtype)


def _snapshot(dtype: torch.dtype) -> Operator:
    return CASSIConfig(bands=4, mask_side=64).build(dtype)


def _published_snapshot(dtype: torch.dtype) -> Operator:
    return CASSIConfig(mask_side=8).build(dtype)


def _blur(dtype: torch.dtype) -> Operator:
    taps = torch.arange(1.0, 16.0, dtype=torch.float64).reshape(5, 3)  # not square, and of no symmetry
    return BlurDownsample([taps / taps.sum()], scale=2, noise=2.55, dtype=dtype)


KINDS = {
    "block_cs": Kind("cs", _blocks, (1, 3), (_blocks, 1)),
    "cassi": Kind("cassi", _snapshot, (4,), (_published_snapshot, 28)),
    "blur_downsample": Kind("sr", _blur, (3, 1), (_blur, 3)),
}

STAGES = 3
"""Where `Baseline` takes a number of stages, what is slow is tried with so many."""

STEPS, RATE, FALLEN = 20, 2e-4, 0.9
"""On one patch: steps, their learning rate, and to which part of the first loss they must bring it."""

_TRAINING = TrainingConfig(steps=2, phase1_steps=1)
_OFF = 0.02  # of published parameters; of an estimate in half precision


class Breach(Exception):
    """A baseline does not keep what it owes; says how."""


def _owed(kept: bool, breach: str) -> None:
    if not kept:
        raise Breach(breach)


@dataclass(frozen=True)
class Case:
    """A baseline, a kind of operator and images of so many channels."""

    reference: str
    kind: str
    channels: int

    def physics(self, dtype: torch.dtype = torch.float32) -> Operator:
        """The operator, fitted on noise."""
        operator = KINDS[self.kind].make(dtype)
        generator = torch.Generator().manual_seed(0)
        operator.fit(lambda side, count: iter([torch.rand(200, side**2, generator=generator, dtype=torch.float64)]))
        return operator

    def declined(self) -> str | None:
        """Why it cannot be used with this operator, or None."""
        reason: str | None = plugins.load(self.reference).unsupported(self.physics(), self.channels)
        return reason

    def build(self, physics: Operator, small: bool = False, seed: int = 0) -> nn.Module:
        """A fresh network, the same for a seed; with `STAGES` where it is to be `small` and has a number of them."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            baseline = plugins.load(self.reference)
            fewer = {"stages": STAGES} if small and "stages" in signature(baseline.__init__).parameters else {}
            network: nn.Module = baseline(physics, self.channels, **fewer)
        return network

    def images(self, height: int, width: int, batch: int = 2) -> Tensor:
        """Noise, (batch, C, height, width)."""
        return torch.rand(batch, self.channels, height, width, generator=torch.Generator().manual_seed(0))

    def __str__(self) -> str:
        return f"{self.kind}-{self.channels}"


class Subject:
    """A baseline under test: what there is of it."""

    def __init__(self, reference: str) -> None:
        self.reference = reference

    @cached_property
    def cases(self) -> dict[Case, str | None]:
        """Every case, and why it is declined, or None."""
        every = [Case(self.reference, kind, channels) for kind in KINDS for channels in KINDS[kind].channels]
        return {case: case.declined() for case in every}

    @property
    def taken(self) -> list[Case]:
        return [case for case, reason in self.cases.items() if reason is None]


# Each raises Breach, says why it does not apply, or returns None.


def loads(subject: Subject) -> str | None:
    plugins.load(subject.reference)
    return None


def card(subject: Subject) -> str | None:
    said = set(plugins.card(subject.reference).tasks)
    known = {kind.task for kind in KINDS.values()}
    taken = {KINDS[case.kind].task for case in subject.taken}
    _owed(
        said & known == taken,
        f"card.yaml has the tasks {', '.join(sorted(said & known)) or 'none'}, `unsupported` lets through "
        f"{', '.join(sorted(taken)) or 'none'}",
    )
    return None


def unsupported(subject: Subject) -> str | None:
    _owed(bool(subject.taken), f"it unsupported every kind of operator: {'; '.join(map(str, subject.cases.values()))}")
    for case, reason in subject.cases.items():
        if reason is None:
            continue
        _owed(
            isinstance(reason, str) and bool(reason.strip()) and "\n" not in reason,
            f"of {case} it says {reason!r}, which is no reason in one line",
        )
        try:
            plugins.build(case.reference, case.physics(), case.channels)
        except LorunError as error:
            _owed(reason in str(error), f"{case} is refused without the reason: {error}")
        else:
            raise Breach(f"{case} is declined and built all the same: `unsupported` is not always of one mind")
    return None


def published_parameters(subject: Subject) -> str | None:
    said = plugins.card(subject.reference)
    if said.published_network_parameters is None or said.published_parameters_M is None:
        return "the card has no published parameters"
    make, channels = KINDS[subject.taken[0].kind].published
    network = plugins.build(subject.reference, make(torch.float32), channels)
    ours = sum(parameter.numel() for parameter in network.parameters())
    off = abs(ours - said.published_network_parameters) / (1e6 * said.published_parameters_M)
    far = f"{ours:,} parameters for {channels} channels, published are {said.published_network_parameters:,}"
    _owed(off <= _OFF or said.parameters_differ is not None, f"{far}: {off:.1%} off")
    _owed(off > _OFF or said.parameters_differ is None, f"{far}, within {_OFF:.0%}, but the card says why they differ")
    return None


def shapes(case: Case) -> str | None:
    physics = case.physics()
    network = case.build(physics)
    for size in [(16, 16), (24, 8), (17, 23)]:
        height, width = physics.scored_size(*size)
        x = case.images(height, width)
        bound = physics.at(height, width)
        estimate = network(bound(x), bound)
        _owed(isinstance(estimate, Tensor), f"the estimate is no tensor, but {type(estimate).__name__}")
        _owed(
            estimate.shape == x.shape,
            f"images of shape {tuple(x.shape)} come back as {tuple(estimate.shape)}",
        )
    return None


def gradients(case: Case) -> str | None:
    physics = case.physics()
    network = case.build(physics)
    x = case.images(40, 40)  # large enough for windows to attend to each other
    bound = physics.at(40, 40)
    estimate = network(bound(x), bound)
    if not _trained(network):
        _owed(not estimate.requires_grad, "nothing is trained, but the estimate has a gradient")
        return "nothing is trained"
    (estimate - x).square().mean().backward()
    trained = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
    dead = [name for name, parameter in trained if parameter.grad is None or not parameter.grad.abs().sum() > 0]
    _owed(not dead, f"no gradient reaches {_some(dead)}")
    return None


def deterministic(case: Case) -> str | None:
    physics = case.physics()
    bound = physics.at(16, 16)
    y = bound(case.images(16, 16))
    network, other = case.build(physics), case.build(physics)
    with torch.no_grad():
        estimate = network(y, bound)
        _owed(torch.equal(estimate, other(y, bound)), "two networks of one seed give different estimates")
        network.eval()
        _owed(torch.equal(network(y, bound), network(y, bound)), "one network gives different estimates of one image")
    return None


def saving(case: Case) -> str | None:
    physics = case.physics()
    bound = physics.at(16, 16)
    y = bound(case.images(16, 16))
    network, other = case.build(physics).eval(), case.build(physics, seed=1).eval()
    with torch.no_grad(), TemporaryDirectory() as folder:
        for parameter in other.parameters():
            parameter.zero_()
        path = Path(folder, "weights.safetensors")
        save_weights(path, network.state_dict(), {})
        load_state(other, load_weights(path), path)
        _owed(torch.equal(network(y, bound), other(y, bound)), "with the weights of another it gives another estimate")
    return None


def batches(case: Case) -> str | None:
    physics = case.physics(torch.float64)
    network = case.build(physics).double().eval()
    bound = physics.at(16, 16)
    y = bound(case.images(16, 16).double())
    with torch.no_grad():
        estimate = network(y, bound)
        _owed(estimate.dtype == torch.float64, f"of measurements in float64 it makes an estimate in {estimate.dtype}")
        alone = network(y[1:], bound)
    off = float((alone - estimate[1:]).abs().max())
    _owed(torch.allclose(alone, estimate[1:], rtol=1e-7, atol=1e-7), f"an image alone comes out {off:.1e} off")
    return None


def overfitting(case: Case) -> str | None:
    physics = case.physics()
    network = case.build(physics, small=True)
    if not _trained(network):
        return "nothing is trained"
    ramp = torch.linspace(0, 1, 16)
    phase = torch.arange(case.channels)[:, None, None]
    x = (0.5 + 0.4 * torch.sin(6 * ramp[:, None] * ramp + phase))[None]
    bound = physics.at(16, 16)
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = (network(bound(x), bound) - x).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    _owed(
        losses[-1] < FALLEN * losses[0],
        f"{STEPS} steps on one patch bring the loss from {losses[0]:.3g} to {losses[-1]:.3g}, which is not below "
        f"{FALLEN:g} of it",
    )
    return None


def step_float32(case: Case) -> str | None:
    return _step(case, "float32")


def step_bfloat16(case: Case) -> str | None:
    return _step(case, "bfloat16")


def _step(case: Case, precision: Literal["float32", "bfloat16"]) -> str | None:
    physics = case.physics()
    system = _system(case.build(physics, small=True), physics)
    config = _TRAINING.model_copy(update={"precision": precision})
    optimizer = make_optimizer(system, config, torch.device("cpu"))
    if optimizer is None:
        return "nothing is trained"
    for group in optimizer.param_groups:
        group["lr"] = 1e-3
    before = {name: parameter.clone() for name, parameter in system.named_parameters() if parameter.requires_grad}
    bound = physics.for_training(40, np.random.default_rng(0))
    loss = training_step(system, bound, case.images(40, 40), optimizer, config)
    _owed(bool(loss.isfinite()), f"the loss is {loss.item()}")
    after = {name: parameter for name, parameter in system.named_parameters() if parameter.requires_grad}
    spoiled = [name for name, parameter in after.items() if not parameter.isfinite().all()]
    _owed(not spoiled, f"the step makes values that are not finite of {_some(spoiled)}")
    still = [name for name, was in before.items() if was.ndim > 1 and torch.equal(was, after[name])]
    _owed(not still, f"the step does not move {_some(still)}")
    return None


def half_precision(case: Case) -> str | None:
    physics = case.physics()
    network = case.build(physics, small=True).eval()
    bound = physics.at(16, 16)
    y = bound(case.images(16, 16))
    with torch.no_grad():
        exact = network(y, bound)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = network(y, bound)
    off = float((rounded.float() - exact).square().mean().sqrt() / exact.square().mean().sqrt())
    _owed(off < _OFF, f"the estimate is {off:.1%} off in bfloat16")
    return None


def accounting(case: Case) -> str | None:
    def made() -> tuple[nn.Module, Operator]:
        operator = KINDS[case.kind].make(torch.float32)
        system = _system(case.build(operator, small=True), operator)
        return system.network, operator.at(16, 16)

    shape = (1, case.channels, 16, 16)
    network, _ = made()
    if getattr(network, "data_dependent", False):
        _owed(inference_bytes(made, shape, fake=False).total > 0, "a reconstruction takes no memory")
        if _trained(network):
            _owed(training_step_bytes(made, shape, _TRAINING, fake=False).total > 0, "a step takes no memory")
        return None
    for what, count in (("FLOPs", reconstruction_flops), ("bytes of a reconstruction", inference_bytes)):
        counted: Any = count
        fake, real = counted(made, shape), counted(made, shape, fake=False)
        _owed(fake == real, f"without memory {fake} {what} are counted, with it {real}")
    if _trained(network):
        fake, real = (training_step_bytes(made, shape, _TRAINING, fake=fake) for fake in (True, False))
        _owed(fake == real, f"without memory {fake} bytes of a step are counted, with it {real}")
    return None


def _system(network: nn.Module, physics: Operator) -> Any:
    """As a training has it."""
    system: Any = System(network, physics)
    return system.to(memory_format=torch.channels_last)


def _trained(network: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in network.parameters())


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


class Check(NamedTuple):
    """One thing that is owed.

    Attributes:
        name: as tables have it.
        remedy: what to implement where it is not kept.
        run: of a whole `Subject` or of one `Case` of it; raises `Breach`, or returns why it does not apply, or None.
        of: what it is run on: the baseline, the first channels of every kind that it takes, or all channels.
    """

    name: str
    remedy: str
    run: Callable[[Any], str | None]
    of: Literal["baseline", "kind", "channels"] = "kind"


CHECKS = (
    Check(
        "loads",
        "a folder with card.yaml and baseline.py; in this a class `Baseline(nn.Module)` with `__init__(self, physics, "
        "channels)`, a class method `unsupported(cls, physics, channels)` and `forward(self, y, physics)`",
        loads,
        "baseline",
    ),
    Check(
        "unsupported",
        "`unsupported` returns the reason, one line, or None; let a kind of operator through",
        unsupported,
        "baseline",
    ),
    Check(
        "card",
        "in card.yaml what `Card` of baselines/__init__.py asks for; `tasks` as `unsupported` has it",
        card,
        "baseline",
    ),
    Check(
        "published_parameters",
        "the network of the paper; or say in card.yaml, in `parameters_differ`, why they are more than 2 % off",
        published_parameters,
        "baseline",
    ),
    Check(
        "shapes",
        "`forward` returns (B, C, H, W) of the image, of any size: pad inside, and cut at the end",
        shapes,
        "channels",
    ),
    Check("gradients", "use every parameter in `forward`, or give it `requires_grad_(False)`", gradients),
    Check(
        "deterministic",
        "draw nothing at random in `forward`, no dropout either: a resumed run could not repeat it; draw weights from "
        "torch's generator",
        deterministic,
    ),
    Check("saving", "hold whatever shapes an estimate in parameters or buffers (`register_buffer`)", saving),
    Check("batches", "no mean over the batch; constants as buffers, so that `double()` reaches them", batches),
    Check(
        "overfitting",
        "a start near the first estimate, and no saturated layer: gradients must lead somewhere",
        overfitting,
    ),
    Check("step_float32", "layers and a loss that stay finite, and a gradient for every weight", step_float32),
    Check(
        "step_bfloat16",
        "data term and normalisation in full precision (`lorun/plugins/full_precision.py`)",
        step_bfloat16,
    ),
    Check(
        "half_precision",
        "data term and the way around the layers in full precision (`lorun/plugins/full_precision.py`)",
        half_precision,
    ),
    Check(
        "accounting",
        "make all tensors in `__init__` or `forward`, none at import; where the course depends on values (`.item()`, a "
        "test of convergence), the class attribute `data_dependent = True`",
        accounting,
    ),
)


class Finding(NamedTuple):
    """What came of a check: passed, failed or not applicable, and why; `case` is None where it is of the baseline."""

    check: Check
    case: Case | None
    verdict: Literal["passed", "failed", "not applicable"]
    why: str | None


def examine(reference: str) -> Iterator[Finding]:
    """Run every check on a baseline, one after the other; nothing after one without which the others make no sense.

    Raises:
        UnknownName: there is no such baseline.
        LorunError: its folder is not there, or lacks a file.
    """
    place = find(reference)
    subject = Subject(reference)
    for check in CHECKS:
        for of in targets(check, subject):
            finding = _find(check, subject if of is None else of, of, place.folder)
            yield finding
            if check.name in ("loads", "unsupported") and finding.verdict == "failed":
                return


def targets(check: Check, subject: Subject) -> list[Case | None]:
    """What a check is run on; None is the baseline itself."""
    if check.of == "baseline":
        return [None]
    first = {case.kind: case for case in reversed(subject.taken)}
    return [case for case in subject.taken if check.of == "channels" or case is first[case.kind]]


def _find(check: Check, subject: Subject | Case, case: Case | None, folder: Path) -> Finding:
    try:
        why = check.run(subject)
    except (Breach, LorunError) as error:
        return Finding(check, case, "failed", str(error))
    except Exception as error:  # whatever the code of another raises
        return Finding(check, case, "failed", _told(error, folder))
    return Finding(check, case, "passed" if why is None else "not applicable", why)


def _told(error: Exception, folder: Path) -> str:
    """An exception in one line, with the last line of the baseline that it went through."""
    lines = [
        frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(folder)
    ]
    where = f" ({Path(lines[-1].filename).name}, line {lines[-1].lineno})" if lines else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}{where}"


class Report(NamedTuple):
    """Everything that was found of a baseline, and the seconds that it took."""

    reference: str
    findings: list[Finding]
    declined: dict[Case, str]
    seconds: float

    @property
    def broken(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.verdict == "failed"]


def report(reference: str) -> Report:
    """Run every check; raises as `examine`."""
    began = time.monotonic()
    findings = list(examine(reference))
    declined = {}
    if not any(finding.verdict == "failed" and finding.check.name in ("loads", "unsupported") for finding in findings):
        declined = {case: why for case, why in Subject(reference).cases.items() if why is not None}
    return Report(reference, findings, declined, time.monotonic() - began)


def render(of: Report) -> str:
    """A table, a line per check and a column per operator; then every failure, why, and what to implement."""
    cases = list(dict.fromkeys(finding.case for finding in of.findings if finding.case is not None))
    columns = ["", *(map(str, cases) if cases else [""])]
    widths = [20, *(max(len(column), 6) for column in columns[1:])]
    lines = []
    for check in CHECKS:
        found = {finding.case: _WORDS[finding.verdict] for finding in of.findings if finding.check is check}
        if found:
            cells = [found[None]] if check.of == "baseline" else [found.get(case, "") for case in cases]
            lines.append([check.name, *cells])
    counted = {word: sum(_WORDS[f.verdict] == word for f in of.findings) for word in _WORDS.values()}
    said = ", ".join(f"{count} {word}" for word, count in counted.items() if count)
    parts = [f"{of.reference}: {said}; {of.seconds:.0f} s"]
    parts += [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip()
        for row in [columns, *lines]
    ]
    parts += [f"  unsupported {case}: {why}" for case, why in of.declined.items()]
    for finding in of.broken:
        where = "" if finding.case is None else f" {finding.case}"
        parts += [f"  {finding.check.name}{where}: {finding.why}", f"    implement: {finding.check.remedy}"]
    return "\n".join(parts)


_WORDS = {"passed": "passed", "failed": "FAILED", "not applicable": "-"}
