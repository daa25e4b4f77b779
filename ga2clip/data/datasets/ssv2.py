"""Something-Something v2: hands doing something with something, 174 templates (Goyal et al., ICCV 2017)."""

from collections.abc import Iterable
from pathlib import Path

from ga2clip.data.declaration import Dataset, Entry, Listing, Source
from ga2clip.data.listing import annotation_file, json_tree
from ga2clip.data.manifest import relative_path
from ga2clip.errors import UserError
from ga2clip.registry import DATASETS
from ga2clip.video import bare_name, find_videos


def read(source: Source) -> Listing:
    """`labels.json` ({template: number}), `train.json` and `validation.json` ([{id, template}, …])."""
    raw_names = _labels(annotation_file(source, "*labels.json"))
    classes = tuple(map(_phrase, raw_names))
    videos = {bare_name(path.name): path for path in find_videos(source.root)}
    entries, missing = [], []
    for split, pattern in (("train", "*train.json"), ("val", "*validation.json")):
        for number, label in _clips(annotation_file(source, pattern), classes):
            if number in videos:
                entries.append(Entry(relative_path(videos[number], source.root), label, split))
            else:
                missing.append(f"{number}.webm")
    rule = "the official training and validation lists; tested on validation, since test labels are withheld"
    return Listing(raw_names, classes, tuple(entries), tuple(missing), rule, test_split="val")


def _labels(file: Path) -> tuple[str, ...]:
    """The raw labels in the order of their numbers."""
    numbers = json_tree(file)
    try:
        return tuple(sorted(numbers, key=lambda name: int(numbers[name])))
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"{file} does not number the labels", 'it must hold {"label": "0", …}') from None


def _clips(file: Path, classes: Iterable[str]) -> list[tuple[str, str]]:
    """(id, readable name) of the clips in a list."""
    try:
        clips = [(str(item["id"]), _phrase(item["template"])) for item in json_tree(file)]
    except (TypeError, KeyError, AttributeError):
        raise UserError(f"{file} is not a list of clips with 'id' and 'template'") from None
    unknown = sorted({label for _, label in clips} - set(classes))
    if unknown:
        raise UserError(
            f"{file}: '{unknown[0]}' is not among the labels", "take lists and labels of one release"
        )
    return clips


def _phrase(template: str) -> str:
    """A template without brackets and in lower case, to be used inside a sentence."""
    text = " ".join(template.replace("[", "").replace("]", "").split())
    return text[:1].lower() + text[1:]


DATASETS.register("ssv2")(
    Dataset(
        name="ssv2",
        get_it="""Download the videos and labels of Something-Something v2 from
https://www.qualcomm.com/developer/software/something-something-v-2-dataset and unpack them into one folder,
which must then hold *.webm (such as 20bn-something-something-v2/1234.webm) and the JSON files labels, train
and validation (named labels.json or something-something-v2-labels.json, …)""",
        read=read,
        flip=False,
        template="a video of a person {}.",
        classes=174,
        recipe="ssv2",
    )
)
