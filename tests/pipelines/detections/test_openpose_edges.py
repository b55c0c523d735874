import gzip
import json
from importlib import resources
from pathlib import Path

import pytest

from pipelines.detections.registry import find_sources, read_source

POSE2SIM = Path(str(resources.files("pipelines") / "sample" / "detections" / "pose2sim"))


@pytest.mark.parametrize("axis", [0, 1])
def test_a_keypoint_on_the_edge_of_the_image_was_not_seen(tmp_path, axis):
    for frame in sorted((POSE2SIM / "cam03").glob("*.json.gz"))[:12]:
        content = json.loads(gzip.decompress(frame.read_bytes()))
        content["people"][0]["pose_keypoints_2d"][3 * 9 + axis] = 0.0
        (tmp_path / frame.name.removesuffix(".gz")).write_text(json.dumps(content))
    track = read_source(find_sources(str(tmp_path))[0])[0]
    elbow_or_wrist = 9
    assert (track.confidence[:, elbow_or_wrist] == 0).all()
    assert (track.confidence[:, elbow_or_wrist + 1] > 0).any()
