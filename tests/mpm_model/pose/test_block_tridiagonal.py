import numpy as np
import pytest

from mpm_model.pose.block_tridiagonal import solve_block_tridiagonal


@pytest.mark.parametrize("blocks", [1, 2, 3, 4, 5, 6, 7, 8, 17, 100])
def test_the_solution_is_that_of_the_whole_matrix(blocks):
    rng = np.random.default_rng(blocks)
    size = 3
    factor = np.zeros((blocks * size, blocks * size))
    for block in range(blocks):
        rows = slice(block * size, (block + 1) * size)
        factor[rows, rows] = rng.normal(size=(size, size)) + 3 * np.eye(size)
        if block:
            factor[rows, (block - 1) * size : block * size] = rng.normal(size=(size, size))
    whole = factor @ factor.T
    right = rng.normal(size=blocks * size)
    tiles = whole.reshape(blocks, size, blocks, size).swapaxes(1, 2)
    places = np.arange(blocks)
    found = solve_block_tridiagonal(
        tiles[places, places], tiles[places[:-1], places[1:]], right.reshape(blocks, size)
    )
    np.testing.assert_allclose(found.ravel(), np.linalg.solve(whole, right), rtol=1e-9, atol=1e-9)
