"""Tensors without memory: networks of any size can be run for their shapes and storages."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorConverter,
    FakeTensorMode,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)

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
        with mode:
            yield
    except _VALUES_NEEDED as error:
        raise LorunError(f"cannot run on fake tensors, which have no values: {error}") from error
