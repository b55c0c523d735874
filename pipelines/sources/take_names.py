"""What the names of files say: data set, person, action and take."""

import posixpath
import re
from dataclasses import dataclass

from mpm_model.errors import InputError
from pipelines.sources.held_out import is_held_out

UNKNOWN = "unknown"
"""What is said of an action of which nothing is known."""


@dataclass(frozen=True, kw_only=True)
class TakeName:
    """Where a take belongs."""

    dataset: str
    subject: str
    action: str
    name: str


def stem(url: str) -> str:
    """A file's name without its folder and endings: `02_01` of `.../02/02_01.amc.gz`."""
    name = posixpath.basename(url).removesuffix(".gz")
    return name.rpartition(".")[0] or name


def folder_name(url: str) -> str:
    """The name of the folder that holds a file."""
    return posixpath.basename(posixpath.dirname(url)) or UNKNOWN


def name_acclaim_take(url: str, asf_url: str) -> TakeName:
    """CMU: `<subject>_<trial>.amc` beside `<subject>.asf`; HDM05: `HDM_<actor>_<action>_<number>_<rate>.amc`.

    Elsewhere the data set is the folder and the person the skeleton.
    """
    name, subject = stem(url), stem(asf_url)
    rest = name.removeprefix(subject).strip("_")
    if found := re.fullmatch(r"HDM_([a-z]+)_(\w+?)(_\d+){0,2}", name):
        return TakeName(dataset="hdm05", subject=found[1], action=found[2], name=name)
    if re.fullmatch(r"\d{2,3}_\d+", name) and re.fullmatch(r"\d{2,3}", subject):
        return TakeName(dataset="cmu", subject=subject, action=f"trial {rest}", name=name)
    return TakeName(dataset=folder_name(url), subject=subject, action=rest or UNKNOWN, name=name)


def name_bvh_take(url: str, *, rig: str) -> TakeName:
    """CMU: `<subject>_<trial>.bvh` of CMU's rig; ReActIdle: `<subject>_genuine.bvh`, `<subject>_acted.bvh`.

    Elsewhere the data set is the folder, and nothing says that two files show the same person.
    """
    name = stem(url)
    if (found := re.fullmatch(r"(\d{2,3})_(\d+)", name)) and rig == "CMU BVH":
        return TakeName(dataset="cmu", subject=found[1], action=f"trial {found[2]}", name=name)
    if (found := re.fullmatch(r"(\d{3})_(genuine|acted)", name)) and rig == "ReActIdle":
        return TakeName(dataset="reactidle", subject=found[1], action=found[2], name=name)
    return TakeName(dataset=folder_name(url), subject=name, action=UNKNOWN, name=name)


def name_ui_prmd_take(url: str) -> TakeName:
    """UI-PRMD: `m<exercise>_s<subject>_e<episode>_positions[_inc].txt`; `_inc` marks what was done wrongly.

    Elsewhere the data set is the folder, and nothing says that two files show the same person.
    """
    found = re.fullmatch(r"(m\d\d)_(s\d\d)_(e\d\d)_positions(_inc)?", stem(url))
    if found is None:
        return TakeName(dataset=folder_name(url), subject=stem(url), action=UNKNOWN, name=stem(url))
    exercise, subject, episode, incorrect = found.groups(default="")
    action = f"{exercise} done wrongly" if incorrect else exercise
    return TakeName(
        dataset="ui_prmd", subject=subject, action=action, name=f"{exercise}_{subject}_{episode}{incorrect}"
    )


def name_dataset(url: str, take: TakeName, dataset: str | None) -> str:
    """The data set's name: the user's, if there is one, else the one its naming tells.

    InputError if another name would let somebody slip into training whom the naming knows as held out.
    """
    if dataset is None or dataset == take.dataset:
        return take.dataset
    if is_held_out(take.dataset, take.subject):
        raise InputError(
            f"{url}: is named as person {take.subject} of {take.dataset}, who is held out from training, but "
            f"--dataset says {dataset}; leave --dataset away, or rename the file if it is somebody else"
        )
    return dataset
