"""Nose and vertex of a head of which only the centre and a frame are known."""

import numpy as np
from jaxtyping import Float

NOSE_M = (-0.06, 0.12)
"""Up and forward from the centre of the head to the tip of the nose, in an adult. The centre is that of the
four markers of a head band; a nose stands about 0.15 m below the vertex and 0.12 m before the ear."""
HEAD_TOP_M = (0.09, 0.0)
"""Up and forward from the centre of the head to the vertex, in an adult."""
_UPRIGHT_COSINE = float(np.cos(np.radians(30)))


def place_on_head(
    centre_m: Float[np.ndarray, "T 3"],
    *,
    up: Float[np.ndarray, "T 3"],
    forward: Float[np.ndarray, "T 3"],
    offset_m: tuple[float, float],
    scale: float = 1.0,
) -> Float[np.ndarray, "T 3"]:
    """The point that lies (up, forward) from the centre in the head's frame; `scale` is 1 for an adult."""
    rise_m, reach_m = offset_m
    return np.asarray(centre_m + scale * (rise_m * up + reach_m * forward))


def level_turn_rad(forward: Float[np.ndarray, "T 3"], *, trunk: Float[np.ndarray, "T 3"]) -> float:
    """How far the head's frame must be turned up so that the person looks level on the average of the take.

    A head band slopes, and the head bone of a fitted skeleton leans as the neck does: 5 to 30 degrees in
    most people of CMU and UI-PRMD, much the same in all takes of a person. The median over the frames in
    which the trunk (pelvis to thorax) is within 30 degrees of upright takes that out; who looks at the floor
    throughout is taken to look level. 0 when nobody is upright. World space, z up; `forward` has unit length.
    """
    trunk_m = np.linalg.norm(trunk, axis=-1)
    is_upright = (trunk[:, 2] > _UPRIGHT_COSINE * trunk_m) & np.isfinite(forward).all(axis=-1)
    if not is_upright.any():
        return 0.0
    return -float(np.median(np.arcsin(np.clip(forward[is_upright, 2], -1, 1))))


def turn_head(
    up: Float[np.ndarray, "T 3"], forward: Float[np.ndarray, "T 3"], *, turn_rad: float
) -> tuple[Float[np.ndarray, "T 3"], Float[np.ndarray, "T 3"]]:
    """The head's up and forward, turned so that forward rises."""
    cosine, sine = np.cos(turn_rad), np.sin(turn_rad)
    return cosine * up - sine * forward, cosine * forward + sine * up


def head_note(turn_rad: float) -> str:
    """What a recording says of `level_turn_rad`."""
    return (
        f"nose and head_top are estimates: the head's frame was turned up by {np.degrees(turn_rad):.0f} "
        "degrees, so that the person looks level on the average"
    )
