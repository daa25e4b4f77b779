"""HMDB51: 51 actions from feature films and YouTube, three official splits (Kuehne et al., ICCV 2011)."""

from ga2clip.data.declaration import Dataset, Listing, Source
from ga2clip.data.listing import annotation_file, official_splits, text_lines, visible_files
from ga2clip.errors import UserError
from ga2clip.registry import DATASETS

_SPLIT_OF_CODE = {"1": "train", "2": "test", "0": "unused"}
_NAMES = {
    "brush_hair": "brushing hair",
    "cartwheel": "turning a cartwheel",
    "catch": "catching a ball",
    "chew": "chewing",
    "clap": "clapping hands",
    "climb": "climbing",
    "climb_stairs": "climbing stairs",
    "dive": "diving",
    "draw_sword": "drawing a sword",
    "dribble": "dribbling a ball",
    "drink": "drinking",
    "eat": "eating",
    "fall_floor": "falling on the floor",
    "fencing": "fencing",
    "flic_flac": "doing a back handspring",
    "golf": "playing golf",
    "handstand": "doing a handstand",
    "hit": "hitting something",
    "hug": "hugging",
    "jump": "jumping",
    "kick": "kicking",
    "kick_ball": "kicking a ball",
    "kiss": "kissing",
    "laugh": "laughing",
    "pick": "picking something up",
    "pour": "pouring a drink",
    "pullup": "doing pull-ups",
    "punch": "punching",
    "push": "pushing something",
    "pushup": "doing push-ups",
    "ride_bike": "riding a bike",
    "ride_horse": "riding a horse",
    "run": "running",
    "shake_hands": "shaking hands",
    "shoot_ball": "shooting a basketball",
    "shoot_bow": "shooting a bow",
    "shoot_gun": "shooting a gun",
    "sit": "sitting down",
    "situp": "doing sit-ups",
    "smile": "smiling",
    "smoke": "smoking",
    "somersault": "doing a somersault",
    "stand": "standing up",
    "swing_baseball": "swinging a baseball bat",
    "sword": "fighting with swords",
    "sword_exercise": "practising with a sword",
    "talk": "talking",
    "throw": "throwing something",
    "turn": "turning around",
    "walk": "walking",
    "wave": "waving a hand",
}


def read(source: Source) -> Listing:
    """`<class>_test_split<N>.txt`, N = 1, 2, 3, with lines `clip.avi code`: 1 train, 2 test, 0 neither."""
    folder = annotation_file(source, "*_test_split1.txt").parent
    codes: dict[tuple[str, str], list[str]] = {}
    for number in (1, 2, 3):
        suffix = f"_test_split{number}.txt"
        for file in visible_files(folder.glob(f"*{suffix}")):
            for line in text_lines(file):
                name, *rest = line.rsplit(maxsplit=1)
                code = "".join(rest)
                if code not in _SPLIT_OF_CODE:
                    raise UserError(
                        f"{file}: expected lines 'clip.avi 1', got '{line[:80]}'", "unpack it again"
                    )
                splits = codes.setdefault((file.name.removesuffix(suffix), name), ["unused"] * 3)
                splits[number - 1] = _SPLIT_OF_CODE[code]
    rows = [(raw, f"{raw}/{name}", "", splits) for (raw, name), splits in sorted(codes.items())]
    return official_splits(source, rows, "the three official splits")


DATASETS.register("hmdb51")(
    Dataset(
        name="hmdb51",
        get_it="""Download hmdb51_org.rar and test_train_splits.rar from
https://serre.lab.brown.edu/hmdb51.html and unpack both (and the .rar of each class inside the first) into one
folder, which must then hold <class>/*.avi and testTrainMulti_7030_splits/<class>_test_split{1,2,3}.txt""",
        read=read,
        names=_NAMES,
        classes=51,
        recipe="hmdb51",
    )
)
