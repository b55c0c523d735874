"""What is read: one video's detections, and what the user says about them."""

from dataclasses import dataclass

from mpm_model.errors import InputError, refuse

FORMATS = ("openpose", "openpose_body25", "openpose_body25b", "mediapipe", "coco", "tracks")
"""Formats by name; `openpose` tells BODY_25 from BODY_25B by itself."""

NOT_LOOKED_AT = "json"
"""Format of a JSON file that nobody has looked into yet: reading it finds out."""
UNRECOGNISED = "unrecognised"
"""Format of a file that is none of ours: reading it says so, and the other files are not held up."""


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What the user says about detections whose format does not say it. What a format does say wins."""

    format: str | None = None
    """One of `FORMATS`; None looks at the content."""
    rate_hz: float | None = None
    """Frames per second of the video."""
    width_px: int | None = None
    """Width of the image."""
    height_px: int | None = None
    """Height of the image."""

    def __post_init__(self) -> None:
        faults = []
        if self.format is not None and self.format not in FORMATS:
            faults.append(f"format must be one of {', '.join(FORMATS)}, got {self.format!r}")
        bounds = (
            ("rate_hz", self.rate_hz, 0.1, 10_000),
            ("width_px", self.width_px, 1, 100_000),
            ("height_px", self.height_px, 1, 100_000),
        )
        faults += [
            f"{name} must lie in {low:g}..{high:,}, got {value}"
            for name, value, low, high in bounds
            if value is not None and not low <= value <= high
        ]
        refuse("options for detections", faults)


@dataclass(frozen=True, kw_only=True)
class Source:
    """One video's detections, not read yet; light enough to travel to a worker."""

    name: str
    """URL of the file or folder, with `/name*` when a folder holds the frames of several videos."""
    format: str
    """One of `FORMATS`, `NOT_LOOKED_AT` or `UNRECOGNISED`."""
    files: tuple[str, ...]
    """URLs of its files; for OpenPose one a frame, else just one."""


def parse_image_size(text: str | None) -> tuple[int | None, int | None]:
    """Width and height of `1920x1080`; InputError if it is not that."""
    if text is None:
        return None, None
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise InputError(f"--image-size {text}: wanted WIDTHxHEIGHT in pixels, such as 1920x1080")
    return int(parts[0]), int(parts[1])
