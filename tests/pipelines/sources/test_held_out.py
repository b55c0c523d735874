import pytest

from pipelines.sources.held_out import is_held_out


@pytest.mark.parametrize(
    ("dataset", "held_out"),
    [
        ("cmu", {"02", "05", "16", "49"}),
        ("ui_prmd", {"s03", "s07"}),
        ("reactidle", set()),
        ("hdm05", {"bd", "tr", "x"}),
    ],
)
def test_exactly_the_agreed_people_are_held_out(dataset, held_out):
    people = (
        {f"{number:02d}" for number in range(1, 60)}
        | {f"s{number:02d}" for number in range(1, 11)}
        | {"bd", "tr", "x"}
    )
    if dataset == "hdm05":
        people = held_out
    assert {person for person in people if is_held_out(dataset, person)} == held_out
