"""Fake tensors, which have shapes and storages but no memory: networks of any size can be counted."""

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
    """Keeps no weak references to the tensors that it made.

    PyTorch's own converter does when an operator first meets a shape in a process, and then ``module.to(...)``, which
    peft calls, fails on such parameters.
    """

    def set_tensor_memo(self, t: Tensor, v: FakeTensor) -> None:
        pass


@contextmanager
def fake_tensors() -> Iterator[None]:
    """Make all new tensors fake CPU tensors, with the right shape and storage size but no memory.

    Real tensors may still be read, such as pretrained weights that are copied into fake modules. Import libraries
    before: tensors that they make on import would stay fake.

    Raises:
        LorunError: code inside needs values (``.item()``, a shape that depends on data), or calls an operator
            that does not support fake tensors.
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
    """Treat a parameter made of a number, as `nn.Parameter(torch.tensor(0.5))`, like all others.

    PyTorch keeps the value of such a tensor, and weak references to it, which make ``module.to(...)`` fail.
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
    """Let `copy.deepcopy` copy fake tensors as `clone` does; otherwise a copy and its views have different storages."""

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
