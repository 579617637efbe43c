"""What every baseline must do: one list of checks, run by `lorun contract` and by the tests.

A check is a function whose docstring states the requirement. It runs once for the baseline, or once for each operator
that the baseline supports, and raises a `LorunError` with what is wrong, or `NotApplicable` with the reason.
"""

import inspect
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lorun import plugins
from lorun.accounting.flops import reconstruction_flops
from lorun.accounting.live_bytes import inference_bytes, training_step_bytes
from lorun.config import TrainingConfig
from lorun.denoisers.cnn import CNNConfig
from lorun.errors import LorunError, one_line
from lorun.physics import OPERATORS, Operator, OperatorConfig
from lorun.step import make_optimizer, training_step
from lorun.system import System
from lorun.training.weights import load_state, load_weights, save_weights
from lorun.unfolding import UnfoldingNetwork, initial_reconstruction

Scope = Literal["baseline", "operator"]

_STAGES = 3  # of a network in slow checks, where the class takes a number of stages
_STEPS, _RATE, _REMAINING_LOSS = 20, 2e-4, 0.9  # of `overfitting`: the part of the first loss that may remain
_TOLERANCE = 0.02  # relative error of published parameter counts
_TRAINING = TrainingConfig(steps=2, precision="float32")


class NotApplicable(Exception):
    """A check does not apply to a baseline."""


def require(condition: bool, problem: str) -> None:
    if not condition:
        raise LorunError(problem)


@dataclass(frozen=True)
class Case:
    """A baseline, an operator (the example of its section), and images of so many channels."""

    reference: str
    operator: type[OperatorConfig]
    channels: int

    def physics(self, dtype: torch.dtype = torch.float32) -> Operator:
        """The operator, fitted to noise."""
        physics = self.operator.example().config.build(dtype)
        generator = torch.Generator().manual_seed(0)
        physics.fit(lambda side, count: iter([torch.rand(200, side**2, generator=generator, dtype=torch.float64)]))
        return physics

    def unsupported(self) -> str | None:
        reason: str | None = plugins.load(self.reference).unsupported(self.physics(), self.channels)
        return reason

    def network(self, physics: Operator, small: bool = False, seed: int = 0) -> nn.Module:
        """A fresh network, the same for the same seed; a small one has few stages, if their number can be chosen."""
        baseline = plugins.load(self.reference)
        few = small and "stages" in inspect.signature(baseline.__init__).parameters
        arguments: dict[str, Any] = {"stages": _STAGES} if few else {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            base = None
            if getattr(baseline, "takes_base", False):
                denoiser = partial(CNNConfig.example().build, self.channels)
                base = UnfoldingNetwork(denoiser, stages=1, noise_map=True)
            return plugins.build(self.reference, physics, self.channels, base=base, **arguments)

    def setup(
        self, side: int = 16, small: bool = False, dtype: torch.dtype = torch.float32
    ) -> tuple[nn.Module, Operator, Tensor]:
        """A fresh network, the operator for images of `side` x `side` pixels, and the measurements of two."""
        physics = self.physics(dtype)
        bound = physics.at(side, side)
        return self.network(physics, small).to(dtype), bound, bound(self.images(side, side).to(dtype))

    def images(self, height: int, width: int) -> Tensor:
        """Noise, (2, C, height, width)."""
        return torch.rand(2, self.channels, height, width, generator=torch.Generator().manual_seed(0))

    def __str__(self) -> str:
        return f"{self.operator.model_fields['name'].default}-{self.channels}"


class Subject:
    """A baseline under test."""

    def __init__(self, reference: str) -> None:
        self.reference = reference

    @cached_property
    def cases(self) -> dict[Case, str | None]:
        """Every case -> the reason why the baseline does not support it, or None."""
        every = [Case(self.reference, config, n) for config in OPERATORS for n in config.example().channels]
        return {case: case.unsupported() for case in every}

    @property
    def supported(self) -> list[Case]:
        return [case for case, reason in self.cases.items() if reason is None]

    @property
    def unsupported(self) -> dict[Case, str]:
        return {case: reason for case, reason in self.cases.items() if reason is not None}


class Check(NamedTuple):
    name: str
    requirement: str
    scope: Scope
    run: Callable[[Any], None]

    def targets(self, subject: Subject) -> list[Case] | list[None]:
        """The cases that the check runs on, one of each operator; None stands for the baseline itself."""
        if self.scope == "baseline":
            return [None]
        first: dict[type[OperatorConfig], Case] = {}
        for case in subject.supported:
            first.setdefault(case.operator, case)
        return list(first.values())


CHECKS: list[Check] = []


def check(scope: Scope) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Add a function to `CHECKS`."""

    def add(run: Callable[[Any], None]) -> Callable[[Any], None]:
        CHECKS.append(Check(run.__name__, " ".join((run.__doc__ or "").split()), scope, run))
        return run

    return add


@check("baseline")
def loads(subject: Subject) -> None:
    """baseline.py defines a class `Baseline(nn.Module)` with `__init__(self, physics, channels)`, a class method
    `unsupported(cls, physics, channels)` and `forward(self, y, physics)`."""
    plugins.load(subject.reference)


@check("baseline")
def unsupported(subject: Subject) -> None:
    """`unsupported` returns the reason in one line, or None; it returns None for at least one operator."""
    for case, reason in subject.unsupported.items():
        valid = isinstance(reason, str) and bool(reason.strip()) and "\n" not in reason
        require(valid, f"for {case} it returns {reason!r}, which is no reason in one line")
        try:
            case.network(case.physics())
        except LorunError as error:
            require(reason in str(error), f"{case} is refused, but not for that reason: {error}")
        else:
            raise LorunError(f"{case} is refused at first and then built: `unsupported` contradicts itself")
    require(bool(subject.supported), f"no operator is supported: {'; '.join(map(str, subject.cases.values()))}")


@check("baseline")
def card(subject: Subject) -> None:
    """card.yaml is complete (`lorun.plugins.Card`); `unsupported` accepts an operator of each task that `tasks` lists,
    and `trained` says whether the network has parameters to train."""
    card = plugins.card(subject.reference)
    refused = sorted(set(card.tasks) - {case.operator.task for case in subject.supported})
    require(not refused, f"`tasks` lists {', '.join(refused)}, but `unsupported` accepts no operator of that task")
    case = subject.supported[0]
    trained = bool(_trained(case.network(case.physics())))
    require(
        card.trained == trained,
        f"`trained` is {card.trained}, but there are {'' if trained else 'no '}parameters to train",
    )


@check("baseline")
def published_parameters(subject: Subject) -> None:
    """The network has the published number of parameters, or card.yaml explains in `parameters_differ` why it is more
    than 2 % off."""
    card = plugins.card(subject.reference)
    published = card.published_network_parameters
    if published is None or card.published_parameters_M is None:
        raise NotApplicable("the card has no published parameters")
    operator = next(case.operator for case in subject.supported if case.operator.task in card.tasks)
    config, channels = operator.example().published
    network = plugins.build(subject.reference, config.build(), channels)
    ours = sum(parameter.numel() for parameter in network.parameters())
    error = abs(ours - published) / (1e6 * card.published_parameters_M)
    difference = f"{ours:,} parameters for {channels} channels, {published:,} published ({error:.1%} off)"
    require(error <= _TOLERANCE or card.parameters_differ is not None, difference)
    require(error > _TOLERANCE or card.parameters_differ is None, f"{difference}, but the card explains a difference")


@check("baseline")
def shapes(subject: Subject) -> None:
    """`forward` returns (B, C, H, W) like the image, for any size: pad inside, and crop at the end."""
    for case in subject.supported:
        physics = case.physics()
        network = case.network(physics, small=True)
        for size in [(16, 16), (24, 8), (17, 23)]:
            height, width = physics.scored_size(*size)
            x, bound = case.images(height, width), physics.at(height, width)
            estimate = network(bound(x), bound)
            require(isinstance(estimate, Tensor), f"{case}: the estimate is no tensor, but {type(estimate).__name__}")
            change = f"{case}: images of shape {tuple(x.shape)} come back as {tuple(estimate.shape)}"
            require(estimate.shape == x.shape, change)


@check("operator")
def gradients(case: Case) -> None:
    """Every parameter affects the estimate; freeze the others with `requires_grad_(False)`."""
    network, physics, y = case.setup(40)  # large enough for windows to attend to each other
    estimate = network(y, physics)
    if not _trained(network):
        require(not estimate.requires_grad, "nothing is trained, but the estimate has a gradient")
        raise NotApplicable("nothing is trained")
    (estimate - case.images(40, 40)).square().mean().backward()
    # Without a residual, as in denoising, the step size of the first stage has no effect.
    exact = torch.equal(physics.A(initial_reconstruction(y, physics)), y)
    trained = {name: one for name, one in _trained(network).items() if not (exact and one.numel() == 1)}
    unreached = [name for name, one in trained.items() if one.grad is None or not one.grad.abs().sum() > 0]
    require(not unreached, f"no gradient reaches {_some(unreached)}")


@check("operator")
def deterministic(case: Case) -> None:
    """`forward` draws nothing at random (no dropout either), so that a resumed run repeats; weights are drawn from
    torch's global generator."""
    (network, physics, y), (other, *_) = case.setup(small=True), case.setup(small=True)
    with torch.no_grad():
        estimate = network(y, physics)
        require(torch.equal(estimate, other(y, physics)), "two networks of one seed give different estimates")
        network.eval()
        require(torch.equal(network(y, physics), network(y, physics)), "two calls give different estimates")


@check("operator")
def saving(case: Case) -> None:
    """Everything that affects the estimate is a parameter or a buffer (`register_buffer`)."""
    network, physics, y = case.setup(small=True)
    network.eval()
    other = case.network(case.physics(), small=True, seed=1).eval()
    with torch.no_grad(), TemporaryDirectory() as folder:
        for parameter in other.parameters():
            parameter.zero_()
        path = Path(folder, "weights.safetensors")
        save_weights(path, network.state_dict(), {})
        load_state(other, load_weights(path), path)
        same = torch.equal(network(y, physics), other(y, physics))
    require(same, "after saving and loading, the estimate differs")


@check("operator")
def batches(case: Case) -> None:
    """Images of a batch do not affect each other, and constants are buffers, so that `double()` reaches them."""
    network, physics, y = case.setup(small=True, dtype=torch.float64)
    network.eval()
    with torch.no_grad():
        estimate, alone = network(y, physics), network(y[1:], physics)
    require(estimate.dtype == torch.float64, f"measurements in float64 give an estimate in {estimate.dtype}")
    error = float((alone - estimate[1:]).abs().max())
    require(torch.allclose(alone, estimate[1:], rtol=1e-7, atol=1e-7), f"an image alone differs by {error:.1e}")


@check("operator")
def overfitting(case: Case) -> None:
    """A few steps on one patch reduce the loss: start near the initial reconstruction, and saturate no layer."""
    network, physics, _ = case.setup(small=True)
    optimizer = torch.optim.Adam(_trained_or_skip(network).values(), lr=_RATE)
    ramp = torch.linspace(0, 1, 16)
    phase = torch.arange(case.channels)[:, None, None]
    x = (0.5 + 0.4 * torch.sin(6 * ramp[:, None] * ramp + phase))[None]
    losses = []
    for _ in range(_STEPS):
        optimizer.zero_grad()
        loss = (network(physics(x), physics) - x).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    require(
        losses[-1] < _REMAINING_LOSS * losses[0],
        f"{_STEPS} steps on one patch reduce the loss from {losses[0]:.3g} to {losses[-1]:.3g} only",
    )


@check("operator")
def training_steps(case: Case) -> None:
    """A training step in float32 and one in bfloat16 stay finite and move every weight: compute the data term and
    normalisations in full precision (`lorun/plugins/full_precision.py`)."""
    for precision in ("float32", "bfloat16"):
        physics = case.physics()
        system = _system(case.network(physics, small=True), physics)
        _trained_or_skip(system.network)
        config = _TRAINING.model_copy(update={"precision": precision})
        optimizer: Any = make_optimizer(system, config, torch.device("cpu"))
        for group in optimizer.param_groups:
            group["lr"] = 1e-3
        before = {name: parameter.clone() for name, parameter in _trained(system).items()}
        bound = physics.for_training((40, 40), np.random.default_rng(0))
        loss = training_step(system, bound, case.images(40, 40), optimizer, config)
        require(bool(loss.isfinite()), f"the loss in {precision} is {loss.item()}")
        after = _trained(system)
        broken = [name for name, parameter in after.items() if not parameter.isfinite().all()]
        require(not broken, f"a step in {precision} makes non-finite values of {_some(broken)}")
        still = [name for name, old in before.items() if old.ndim > 1 and torch.equal(old, after[name])]
        require(not still, f"a step in {precision} does not move {_some(still)}")


@check("operator")
def accounting(case: Case) -> None:
    """All tensors are made in `__init__` or `forward`, none at import, so that costs are counted without memory. If
    the computation depends on values (`.item()`, a test of convergence), the class has `data_dependent = True`."""

    def build() -> tuple[nn.Module, Operator]:
        operator = case.operator.example().config.build()
        system = _system(case.network(operator, small=True), operator)
        return system.network, operator.at(16, 16)

    network, _ = build()
    counts: dict[str, Callable[..., Any]] = {"bytes of a reconstruction": inference_bytes}
    if _trained(network):
        counts["bytes of a training step"] = partial(training_step_bytes, config=_TRAINING)
    if not getattr(network, "data_dependent", False):
        counts["FLOPs"] = reconstruction_flops
    for what, count in counts.items():
        real = count(build, (1, case.channels, 16, 16), fake=False)
        if getattr(network, "data_dependent", False):
            require(real.total > 0, f"no {what} are counted")
        else:
            fake = count(build, (1, case.channels, 16, 16))
            require(fake == real, f"{fake} {what} are counted without memory, {real} with it")


def _system(network: nn.Module, physics: Operator) -> Any:
    """In the memory layout of a training, which a `view` may not survive."""
    system: Any = System(network, physics)
    return system.to(memory_format=torch.channels_last)


def _trained(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def _trained_or_skip(module: nn.Module) -> dict[str, nn.Parameter]:
    if not _trained(module):
        raise NotApplicable("nothing is trained")
    return _trained(module)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


class Finding(NamedTuple):
    """The outcome of a check, "-" where it does not apply; `case` is None for a check of the baseline itself."""

    check: Check
    case: Case | None
    verdict: Literal["passed", "FAILED", "-"]
    reason: str = ""


class Report(NamedTuple):
    """All findings about a baseline, and the cases that it does not support."""

    findings: list[Finding]
    unsupported: dict[Case, str]

    @property
    def failures(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.verdict == "FAILED"]


def examine(reference: str) -> Report:
    """Run every check on a baseline; none after `loads` or `unsupported` if that fails. Raises as `plugins.find`."""
    folder = plugins.find(reference).folder
    subject = Subject(reference)
    findings: list[Finding] = []
    for check in CHECKS:
        findings += [_run(check, case, subject, folder) for case in check.targets(subject)]
        if check.name in ("loads", "unsupported") and findings[-1].verdict == "FAILED":
            return Report(findings, {})
    return Report(findings, subject.unsupported)


def _run(check: Check, case: Case | None, subject: Subject, folder: Path) -> Finding:
    try:
        check.run(case or subject)
    except NotApplicable as error:
        return Finding(check, case, "-", str(error))
    except LorunError as error:
        return Finding(check, case, "FAILED", str(error))
    except Exception as error:  # the baseline's code may raise anything
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame for frame in frames if Path(frame.filename).is_relative_to(folder)]
        where = f" ({Path(lines[-1].filename).name}, line {lines[-1].lineno})" if lines else ""
        return Finding(check, case, "FAILED", f"{type(error).__name__}: {one_line(error)[:300]}{where}")
    return Finding(check, case, "passed")
