"""A dataset's name goes in; its declaration comes out: how its files lie and what is special about it."""

from dataclasses import dataclass
from typing import Literal

from ga2clip.errors import unknown_name
from ga2clip.labels import SCENARIO_TEMPLATE

Layout = Literal["generated", "ucf101", "hmdb51", "ssv2", "kinetics", "folder", "csv"]


@dataclass(frozen=True)
class Dataset:
    """What the tool has to know about a dataset.

    layout: which reader of `ga2clip.data.layouts` understands the folder. flip: whether a mirrored clip
    shows the same action. template: the sentence around a class name where no text prompt is learned.
    classes: how many there must be, 0 for any. get_it: where the data is and how the folder must look, for
    a person who doesn't have it yet.
    """

    name: str
    layout: Layout
    get_it: str
    flip: bool = True
    template: str = SCENARIO_TEMPLATE
    classes: int = 0


_KINETICS_LOOK = """Kinetics is a list of YouTube clips; most people take the CVDF copy:
https://github.com/cvdfoundation/kinetics-dataset
The folder must hold the annotation files train.csv and val.csv (label,youtube_id,time_start,time_end,split;
also under annotations/) and the clips <youtube_id>_<start>_<end>.mp4 anywhere below it, in class folders or flat."""

_DECLARED = (
    Dataset("stickfigures", "generated", "It is generated: no download.", classes=40),
    Dataset("stickfigures-other", "generated", "It is generated: no download."),
    Dataset(
        "ucf101",
        "ucf101",
        """Download UCF101.rar and UCF101TrainTestSplits-RecognitionTask.zip from
https://www.crcv.ucf.edu/data/UCF101.php and unpack both into one folder, which must then hold
UCF-101/<Class>/*.avi and ucfTrainTestlist/{classInd,trainlist01,testlist01,…}.txt""",
        classes=101,
    ),
    Dataset(
        "hmdb51",
        "hmdb51",
        """Download hmdb51_org.rar and test_train_splits.rar from
https://serre.lab.brown.edu/hmdb51.html and unpack both (and the .rar of each class inside the first) into one
folder, which must then hold <class>/*.avi and testTrainMulti_7030_splits/<class>_test_split{1,2,3}.txt""",
        classes=51,
    ),
    Dataset(
        "ssv2",
        "ssv2",
        """Download the videos and labels of Something-Something v2 from
https://www.qualcomm.com/developer/software/something-something-v-2-dataset and unpack them into one folder,
which must then hold *.webm (such as 20bn-something-something-v2/1234.webm) and the JSON files labels, train
and validation (named labels.json or something-something-v2-labels.json, …)""",
        flip=False,
        template="a video of a person {}.",
        classes=174,
    ),
    Dataset("kinetics400", "kinetics", _KINETICS_LOOK, classes=400),
    Dataset("kinetics600", "kinetics", _KINETICS_LOOK, classes=600),
    Dataset(
        "folder",
        "folder",
        """The folder must hold one folder per class with its videos in it, either directly (<class>/clip.mp4:
a share of each class is set aside for testing) or below train/, val/, test/ (train/<class>/clip.mp4).""",
    ),
    Dataset(
        "csv",
        "csv",
        """Give --list FILE: a CSV with a line path,label or path,label,split for each clip; paths are relative to
--root; split is train, val or test, and without it a share of each class is set aside for testing.""",
    ),
)

DATASETS: dict[str, Dataset] = {dataset.name: dataset for dataset in _DECLARED}


def get_dataset(name: str) -> Dataset:
    """The declaration of a dataset. Errors: UserError for an unknown name, with the nearest valid one."""
    if name not in DATASETS:
        raise unknown_name("dataset", name, DATASETS)
    return DATASETS[name]
