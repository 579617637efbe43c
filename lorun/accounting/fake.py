"""Tensors without memory: networks of any size can be run for their shapes and storages."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn, preserve_format
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorConverter,
    FakeTensorMode,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)
from torch.nn.modules.module import register_module_parameter_registration_hook

from lorun.errors import LorunError

_VALUES_NEEDED = (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)


class _Converter(FakeTensorConverter):
    """Keeps no weak references to what it made: ``module.to(...)``, which peft calls, fails on parameters with any.

    PyTorch's own does so when an operator meets a shape for the first time in a process, thus now and then.
    """

    def set_tensor_memo(self, t: Tensor, v: FakeTensor) -> None:
        pass


@contextmanager
def fake_tensors() -> Iterator[None]:
    """Inside, new tensors are fake CPU tensors, true in shape and storage size, with no memory behind them.

    Real tensors may still be read, such as pretrained weights that are copied into fake modules. A library that
    is imported for the first time inside keeps fake the tensors it makes then.

    Raises:
        LorunError: code inside needs values (``.item()``, a shape that depends on data), or calls an operator
            that does not know fake tensors.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    mode.fake_tensor_converter = _Converter()
    try:
        with mode, _copied_whole(), _parameters_not_constant(mode.fake_tensor_converter):
            yield
    except _VALUES_NEEDED as error:
        raise LorunError(f"cannot run on fake tensors, which have no values: {error}") from error


@contextmanager
def _parameters_not_constant(converter: FakeTensorConverter) -> Iterator[None]:
    """Inside, a parameter made of a number, as `nn.Parameter(torch.tensor(0.5))`, is one like all others.

    PyTorch keeps the value of such a tensor, and weak references to it, on which ``module.to(...)`` fails.
    """

    def forget(module: nn.Module, name: str, parameter: Any) -> None:
        constant = getattr(parameter, "constant", None) if isinstance(parameter, FakeTensor) else None
        if constant is not None:
            converter.invalidate_constant_aliases(constant)
            converter.tensor_memo.clear()

    hook = register_module_parameter_registration_hook(forget)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def _copied_whole() -> Iterator[None]:
    """Inside, `copy.deepcopy` makes fake tensors as `clone` does; else a copy and its views have different storages."""

    def copied(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
        if id(tensor) not in memo:
            clone = tensor.detach().clone(memory_format=preserve_format)
            parameter = isinstance(tensor, nn.Parameter)
            memo[id(tensor)] = nn.Parameter(clone, tensor.requires_grad) if parameter else clone
        found: Tensor = memo[id(tensor)]
        return found

    before = FakeTensor.__deepcopy__
    FakeTensor.__deepcopy__ = copied  # type: ignore[method-assign]
    try:
        yield
    finally:
        FakeTensor.__deepcopy__ = before  # type: ignore[method-assign]
