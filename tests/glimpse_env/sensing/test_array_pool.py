import copy

import numpy as np

from glimpse_env.sensing.array_pool import ArrayPool

SHAPE, DTYPE = (3, 4), np.dtype(np.float32)


def test_an_array_that_is_let_go_is_used_again() -> None:
    pool = ArrayPool()
    first = pool.take(SHAPE, DTYPE)
    place = first.ctypes.data
    del first
    again = pool.take(SHAPE, DTYPE)
    assert again.ctypes.data == place
    assert (again.shape, again.dtype) == (SHAPE, DTYPE)


def test_an_array_or_a_view_of_it_that_is_held_is_left_alone() -> None:
    pool = ArrayPool()
    whole, part = pool.take(SHAPE, DTYPE), pool.take(SHAPE, DTYPE)[1, 2:]
    whole.fill(1)
    part.fill(2)
    for _ in range(20):
        pool.take(SHAPE, DTYPE).fill(3)
    assert (whole == 1).all()
    assert (part == 2).all()


def test_shapes_and_kinds_are_kept_apart() -> None:
    pool = ArrayPool()
    pool.take(SHAPE, DTYPE)
    assert pool.take((4, 3), DTYPE).shape == (4, 3)
    assert pool.take(SHAPE, np.dtype(np.uint8)).dtype == np.uint8


def test_what_is_held_for_long_does_not_pile_up() -> None:
    pool = ArrayPool()
    held = [pool.take(SHAPE, DTYPE) for _ in range(100)]
    assert len({array.ctypes.data for array in held}) == 100
    assert sum(map(len, pool._arrays.values())) < 10


def test_a_copy_has_arrays_of_its_own() -> None:
    pool = ArrayPool()
    pool.take(SHAPE, DTYPE)
    assert copy.deepcopy(pool)._arrays == {}
