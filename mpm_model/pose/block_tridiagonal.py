"""Linear equations of things in a row, each tied to its neighbours alone."""

import numpy as np
from jaxtyping import Float


def solve_block_tridiagonal(
    diagonal: Float[np.ndarray, "N K K"], above: Float[np.ndarray, "N-1 K K"], right: Float[np.ndarray, "N K"]
) -> Float[np.ndarray, "N K"]:
    """Solve a symmetric positive definite system of N blocks in time and memory O(N K^3) and O(N K^2).

    `above[i]` is the block in row i, column i + 1. Cyclic reduction (Hockney 1965; in blocks Heller 1976):
    every other unknown is eliminated, all at once, which leaves a system of the same kind and half the size.
    That is twice the arithmetic of going along the row, and log2 N steps instead of N.
    """
    if len(diagonal) == 1:
        return np.linalg.solve(diagonal, right[..., None])[..., 0]
    blocks = len(diagonal)
    odd = slice(1, None, 2)
    # The last odd block may have no neighbour after it: one that is not tied to it stands in.
    after = above[1::2] if blocks % 2 else np.concatenate([above[1::2], np.zeros_like(above[:1])])
    before = above[0::2]
    into_before, into_after, own = np.split(
        np.linalg.solve(diagonal[odd], np.concatenate([before.mT, after, right[odd, :, None]], axis=-1)),
        [diagonal.shape[-1], 2 * diagonal.shape[-1]],
        axis=-1,
    )
    kept_diagonal, kept_right = diagonal[0::2].copy(), right[0::2].copy()
    odds, kept = len(before), len(kept_diagonal)
    kept_diagonal[:odds] -= before @ into_before
    kept_diagonal[1:] -= (after.mT @ into_after)[: kept - 1]
    kept_right[:odds] -= (before @ own)[..., 0]
    kept_right[1:] -= (after.mT @ own)[: kept - 1, :, 0]
    found = np.empty_like(right)
    found[0::2] = solve_block_tridiagonal(kept_diagonal, -(before @ into_after)[: kept - 1], kept_right)
    found[odd] = own[..., 0] - (into_before @ found[0::2][:odds, :, None])[..., 0]
    found[odd][: kept - 1] -= (into_after[: kept - 1] @ found[2::2, :, None])[..., 0]
    return found
