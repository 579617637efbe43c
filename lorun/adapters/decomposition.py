"""The best approximation of a matrix by a product of low rank (Eckart and Young, Psychometrika 1936)."""

import torch
from torch import Tensor


def truncated_svd(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """B (m, r) and A (r, n) whose product is the matrix (m, n) of rank r nearest to `matrix`.

    In B are the singular vectors times the singular values, so that the rows of A are orthonormal. None of them is
    zero, so that A and B can still be trained if `matrix` has a lower rank.

    Raises:
        ValueError: `rank` is not between 1 and min(m, n).
    """
    if not 1 <= rank <= min(matrix.shape):
        raise ValueError(f"rank (={rank}) must be between 1 and {min(matrix.shape)}, the smaller side of the matrix")
    u, values, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    return (u[:, :rank] * values[:rank]).to(matrix.dtype), v[:rank].to(matrix.dtype)
