"""A made-up person in T-pose, as ASF/AMC and as BVH, of round measures.

Metres, y up, facing +z, left at +x: hips 0.1 aside of the root, thigh 0.40, shin 0.45, shoulders 0.2 aside
and 0.5 above the root, upper arm 0.30, forearm 0.25, head joint 0.6 above the root.
"""

import numpy as np

UNIT_M = 0.0254 / 0.45

# child: (parent, place in the parent's frame in metres, channels)
ASF_BONES = {
    "lhipjoint": ("root", (0.1, 0, 0), ""),
    "lfemur": ("lhipjoint", (0, -0.4, 0), "rx ry rz"),
    "ltibia": ("lfemur", (0, -0.45, 0), "rx"),
    "lfoot": ("ltibia", (0, 0, 0.15), ""),
    "rhipjoint": ("root", (-0.1, 0, 0), ""),
    "rfemur": ("rhipjoint", (0, -0.4, 0), "rx ry rz"),
    "rtibia": ("rfemur", (0, -0.45, 0), "rx"),
    "rfoot": ("rtibia", (0, 0, 0.15), ""),
    "lowerback": ("root", (0, 0.25, 0), "rx ry rz"),
    "thorax": ("lowerback", (0, 0.25, 0), ""),
    "neck": ("thorax", (0, 0.1, 0), ""),
    "head": ("neck", (0, 0.1, 0), "rx"),
    "lclavicle": ("thorax", (0.2, 0, 0), ""),
    "lhumerus": ("lclavicle", (0.3, 0, 0), "rz"),
    "lradius": ("lhumerus", (0.25, 0, 0), "ry"),
    "lhand": ("lradius", (0.1, 0, 0), ""),
    "rclavicle": ("thorax", (-0.2, 0, 0), ""),
    "rhumerus": ("rclavicle", (-0.3, 0, 0), "rz"),
    "rradius": ("rhumerus", (-0.25, 0, 0), "ry"),
    "rhand": ("rradius", (-0.1, 0, 0), ""),
}

BVH_JOINTS = {
    "Hips": (None, (0, 0, 0)),
    "LeftUpLeg": ("Hips", (0.1, 0, 0)),
    "LeftLeg": ("LeftUpLeg", (0, -0.4, 0)),
    "LeftFoot": ("LeftLeg", (0, -0.45, 0)),
    "RightUpLeg": ("Hips", (-0.1, 0, 0)),
    "RightLeg": ("RightUpLeg", (0, -0.4, 0)),
    "RightFoot": ("RightLeg", (0, -0.45, 0)),
    "Spine": ("Hips", (0, 0.25, 0)),
    "Neck": ("Spine", (0, 0.25, 0)),
    "LeftArm": ("Neck", (0.2, 0, 0)),
    "LeftForeArm": ("LeftArm", (0.3, 0, 0)),
    "LeftHand": ("LeftForeArm", (0.25, 0, 0)),
    "RightArm": ("Neck", (-0.2, 0, 0)),
    "RightForeArm": ("RightArm", (-0.3, 0, 0)),
    "RightHand": ("RightForeArm", (-0.25, 0, 0)),
    "Head": ("Neck", (0, 0.1, 0)),
}


def asf_text(*, length: str = "0.45", angle: str = "deg", axes: dict[str, str] | None = None) -> str:
    """The person as an ASF; `axes` gives bones another axis than 0 0 0 XYZ."""
    unit_m = 0.0254 / float(length)
    lines = ["# made up", ":version 1.10", ":units", "  mass 1.0", f"  length {length}", f"  angle {angle}"]
    lines += [
        ":root",
        "  order TX TY TZ RX RY RZ",
        "  axis XYZ",
        "  position 0 0 0",
        "  orientation 0 0 0",
        ":bonedata",
    ]
    for name, (_, vector_m, channels) in ASF_BONES.items():
        norm_m = float(np.linalg.norm(vector_m))
        direction = " ".join(f"{value / norm_m:.6f}" for value in vector_m)
        lines += [
            "  begin",
            f"    name {name}",
            f"    direction {direction}",
            f"    length {norm_m / unit_m:.9f}",
        ]
        lines += [f"    axis {(axes or {}).get(name, '0 0 0 XYZ')}"]
        lines += [f"    dof {channels}", "    limits (-160.0 20.0)"] if channels else []
        lines += ["  end"]
    lines += [":hierarchy", "  begin"]
    for parent in ("root", *ASF_BONES):
        if children := [name for name, bone in ASF_BONES.items() if bone[0] == parent]:
            lines.append(f"    {parent} {' '.join(children)}")
    return "\n".join([*lines, "  end", ""])


def amc_text(
    frames: list[dict[str, str]], *, header: str = ":FULLY-SPECIFIED\n:DEGREES\n", first: int = 1
) -> str:
    """Frames as an AMC: each gives channels of some bones, the others are 0."""
    text = header
    for number, frame in enumerate(frames, start=first):
        text += f"{number}\nroot {frame.get('root', '0 0 0 0 0 0')}\n"
        for name, (_, _, channels) in ASF_BONES.items():
            if channels:
                text += f"{name} {frame.get(name, ' '.join('0' for _ in channels.split()))}\n"
    return text


def bvh_text(
    frames: list[dict[str, str]],
    *,
    scale: float = 1.0,
    prefix: str = "",
    order: str = "ZXY",
    z_up: bool = False,
    moving: tuple[str, ...] = (),
    frame_time: str = "0.020000",
) -> str:
    """The person as a BVH, `scale` units to the metre: frames give channels of some joints, others rest."""
    rotations = " ".join(f"{axis}rotation" for axis in order)
    lines: list[str] = ["HIERARCHY"]

    def channels(name: str) -> str:
        positions = "Xposition Yposition Zposition " if name in ("Hips", *moving) else ""
        return positions + rotations

    def place(name: str) -> str:
        x, y, z = BVH_JOINTS[name][1]
        return " ".join(f"{value * scale:.6f}" for value in ((x, -z, y) if z_up else (x, y, z)))

    def write(name: str) -> None:
        lines.append(f"{'ROOT' if BVH_JOINTS[name][0] is None else 'JOINT'} {prefix}{name}")
        lines.extend(
            ["{", f"OFFSET {place(name)}", f"CHANNELS {len(channels(name).split())} {channels(name)}"]
        )
        children = [child for child, (parent, _) in BVH_JOINTS.items() if parent == name]
        for child in children:
            write(child)
        if not children:
            lines.extend(["End Site", "{", "OFFSET 0 0.01 0", "}"])
        lines.append("}")

    def order_of(name: str) -> list[str]:
        children = [child for child, (parent, _) in BVH_JOINTS.items() if parent == name]
        return [name, *(below for child in children for below in order_of(child))]

    write("Hips")
    lines += ["MOTION", f"Frames: {len(frames)}", f"Frame Time: {frame_time}"]
    for frame in frames:
        values = []
        for name in order_of("Hips"):
            still = f"{place(name)} 0 0 0" if name in ("Hips", *moving) else "0 0 0"
            values.append(frame.get(name, still))
        lines.append(" ".join(values))
    return "\n".join([*lines, ""])
