"""The people that no model is trained on, the same for every figure that anybody quotes."""

HELD_OUT_PEOPLE = {
    "cmu": frozenset({"02", "05", "16", "49"}),
    "ui_prmd": frozenset({"s03", "s07"}),
}
"""By data set: CMU's walk, run, jump, fight with swords, dance and tumble."""
HELD_OUT_DATASETS = frozenset({"hdm05"})
"""Data sets of which everybody is held out: HDM05 is of another laboratory, and is to be shared alike."""


def is_held_out(dataset: str, subject: str) -> bool:
    """Whether a person is for evaluation only."""
    return dataset in HELD_OUT_DATASETS or subject in HELD_OUT_PEOPLE.get(dataset, frozenset())
