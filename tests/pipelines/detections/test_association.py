import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpm_model.pose.skeletons import BODY_25B
from pipelines.detections.association import AssociationConfig, associate


def centre_x(person):
    hips = BODY_25B.select("left_hip", "right_hip")
    return person.points[:, hips, 0].mean(1)


def stack(people):
    return np.array(people, dtype=np.float32).reshape(len(people), 25, 3)


def test_people_who_cross_keep_their_identity(person):
    frames = list(range(60))
    poses = [
        stack(
            [person(BODY_25B, at=(200 + 10 * t, 400)), person(BODY_25B, at=(800 - 10 * t, 410))][:: (-1) ** t]
        )
        for t in frames
    ]
    found = associate(frames, poses)
    assert len(found.people) == 2
    for one in found.people:
        assert one.frames.tolist() == frames
        steps = np.diff(centre_x(one))
        assert np.allclose(steps, steps[0], atol=0.01), "a switch would turn the person round"


def test_a_person_behind_another_is_the_same_after_the_gap(person):
    hidden = range(25, 36)
    poses = [
        stack(
            [person(BODY_25B, at=(800 - 10 * t, 410), confidence=0.9)]
            + ([] if t in hidden else [person(BODY_25B, at=(200 + 10 * t, 400))])
        )
        for t in range(60)
    ]
    found = associate(range(60), poses)
    assert [len(one.frames) for one in found.people] == [60, 49]
    assert centre_x(found.people[1])[-1] == pytest.approx(200 + 590, abs=0.1)


def test_a_gap_longer_than_allowed_makes_two_people(person):
    poses = [stack([person(BODY_25B)] if t < 20 or t > 60 else []) for t in range(80)]
    assert [len(one.frames) for one in associate(range(80), poses).people] == [20, 19]
    patient = associate(range(80), poses, config=AssociationConfig(max_gap_frames=41))
    assert [len(one.frames) for one in patient.people] == [39]


def test_missing_frame_numbers_count_as_time(person):
    frames = [*range(20), *range(100, 120)]
    assert len(associate(frames, [stack([person(BODY_25B)])] * 40).people) == 2


def test_passing_and_faint_detections_are_dropped_and_counted(person):
    poses = [
        stack(
            [person(BODY_25B), person(BODY_25B, at=(1500, 300), confidence=0.05)]
            + ([person(BODY_25B, at=(900, 800))] if t in (7, 8) else [])
        )
        for t in range(40)
    ]
    found = associate(range(40), poses)
    assert len(found.people) == 1
    assert "42 detections of 2 people" in found.notes[0]


def test_a_short_video_keeps_whoever_is_seen_in_half_of_it(person):
    poses = [
        stack([person(BODY_25B)] + ([person(BODY_25B, at=(900, 400))] if t == 1 else [])) for t in range(3)
    ]
    assert [one.frames.tolist() for one in associate(range(3), poses).people] == [[0, 1, 2]]
    assert len(associate([4], [stack([person(BODY_25B)])]).people) == 1


def test_a_person_found_in_two_pieces_is_put_together(person):
    lower = [
        joint for joint in BODY_25B.joints if any(part in joint for part in ("knee", "ankle", "toe", "heel"))
    ]
    upper = [joint for joint in BODY_25B.joints if joint not in lower]
    poses = [
        stack(
            [person(BODY_25B, unseen=lower), person(BODY_25B, unseen=upper)]
            if t == 10
            else [person(BODY_25B)]
        )
        for t in range(20)
    ]
    found = associate(range(20), poses)
    assert len(found.people) == 1
    assert (found.people[0].points[10, :, 2] > 0).all()
    assert "1 detections" in found.notes[0]


def test_the_person_with_most_confidence_in_all_comes_first(person):
    poses = [
        stack(
            [person(BODY_25B, at=(300, 400), confidence=0.4), person(BODY_25B, at=(900, 400), confidence=0.9)]
        )
        for _ in range(20)
    ]
    assert centre_x(associate(range(20), poses).people[0])[0] == pytest.approx(900)


def test_nobody_at_all_is_no_people():
    assert associate(range(5), [np.zeros((0, 25, 3), np.float32)] * 5).people == ()
    assert associate([], []).people == ()


@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_in_which_people_are_listed_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    bodies = rng.uniform(-50, 50, size=(3, 25, 2)) + np.array([[[200, 0]], [[500, 0]], [[800, 0]]])
    sure = np.full((3, 25, 1), 0.5)
    poses = [
        np.concatenate([bodies + rng.normal(0, 3, bodies.shape), sure], -1)[rng.permutation(3)]
        for _ in range(12)
    ]
    people = associate(range(12), poses).people
    assert sorted(round(float(one.points[..., 0].mean()), -2) for one in people) == [200, 500, 800]
    assert all(len(one.frames) == 12 for one in people)
