"""UCF101: 101 actions from YouTube, three official splits (Soomro et al., 2012)."""

import re

from ga2clip.data.declaration import Dataset, Listing, Source
from ga2clip.data.listing import annotation_file, official_splits, text_lines
from ga2clip.errors import UserError
from ga2clip.registry import DATASETS

_NAMES = {
    "ApplyEyeMakeup": "applying eye makeup",
    "ApplyLipstick": "applying lipstick",
    "Archery": "archery",
    "BabyCrawling": "baby crawling",
    "BalanceBeam": "gymnastics on a balance beam",
    "BandMarching": "marching in a band",
    "BaseballPitch": "pitching a baseball",
    "Basketball": "playing basketball",
    "BasketballDunk": "dunking a basketball",
    "BenchPress": "bench pressing",
    "Biking": "riding a bike",
    "Billiards": "playing billiards",
    "BlowDryHair": "blow drying hair",
    "BlowingCandles": "blowing out candles",
    "BodyWeightSquats": "doing body weight squats",
    "Bowling": "bowling",
    "BoxingPunchingBag": "boxing with a punching bag",
    "BoxingSpeedBag": "boxing with a speed bag",
    "BreastStroke": "swimming breast stroke",
    "BrushingTeeth": "brushing teeth",
    "CleanAndJerk": "clean and jerk weightlifting",
    "CliffDiving": "cliff diving",
    "CricketBowling": "bowling in cricket",
    "CricketShot": "batting in cricket",
    "CuttingInKitchen": "cutting food in a kitchen",
    "Diving": "diving into a pool",
    "Drumming": "drumming",
    "Fencing": "fencing",
    "FieldHockeyPenalty": "taking a field hockey penalty",
    "FloorGymnastics": "floor gymnastics",
    "FrisbeeCatch": "catching a frisbee",
    "FrontCrawl": "swimming front crawl",
    "GolfSwing": "swinging a golf club",
    "Haircut": "getting a haircut",
    "Hammering": "hammering a nail",
    "HammerThrow": "throwing a hammer",
    "HandstandPushups": "handstand push-ups",
    "HandstandWalking": "walking on hands",
    "HeadMassage": "massaging a head",
    "HighJump": "high jumping",
    "HorseRace": "horse racing",
    "HorseRiding": "riding a horse",
    "HulaHoop": "spinning a hula hoop",
    "IceDancing": "ice dancing",
    "JavelinThrow": "throwing a javelin",
    "JugglingBalls": "juggling balls",
    "JumpingJack": "jumping jacks",
    "JumpRope": "jumping rope",
    "Kayaking": "kayaking",
    "Knitting": "knitting",
    "LongJump": "long jumping",
    "Lunges": "doing lunges with a barbell",
    "MilitaryParade": "marching in a military parade",
    "Mixing": "mixing batter in a bowl",
    "MoppingFloor": "mopping a floor",
    "Nunchucks": "swinging nunchucks",
    "ParallelBars": "gymnastics on parallel bars",
    "PizzaTossing": "tossing pizza dough",
    "PlayingCello": "playing the cello",
    "PlayingDaf": "playing the daf drum",
    "PlayingDhol": "playing the dhol drum",
    "PlayingFlute": "playing the flute",
    "PlayingGuitar": "playing the guitar",
    "PlayingPiano": "playing the piano",
    "PlayingSitar": "playing the sitar",
    "PlayingTabla": "playing the tabla drums",
    "PlayingViolin": "playing the violin",
    "PoleVault": "pole vaulting",
    "PommelHorse": "gymnastics on a pommel horse",
    "PullUps": "doing pull-ups",
    "Punch": "punching in a boxing match",
    "PushUps": "doing push-ups",
    "Rafting": "white water rafting",
    "RockClimbingIndoor": "indoor rock climbing",
    "RopeClimbing": "climbing a rope",
    "Rowing": "rowing a boat",
    "SalsaSpin": "salsa dancing with spins",
    "ShavingBeard": "shaving a beard",
    "Shotput": "putting the shot",
    "SkateBoarding": "skateboarding",
    "Skiing": "skiing",
    "Skijet": "riding a jet ski",
    "SkyDiving": "sky diving",
    "SoccerJuggling": "juggling a soccer ball",
    "SoccerPenalty": "taking a soccer penalty",
    "StillRings": "gymnastics on still rings",
    "SumoWrestling": "sumo wrestling",
    "Surfing": "surfing",
    "Swing": "swinging on a swing",
    "TableTennisShot": "playing table tennis",
    "TaiChi": "practising tai chi",
    "TennisSwing": "swinging a tennis racket",
    "ThrowDiscus": "throwing a discus",
    "TrampolineJumping": "jumping on a trampoline",
    "Typing": "typing on a keyboard",
    "UnevenBars": "gymnastics on uneven bars",
    "VolleyballSpiking": "spiking a volleyball",
    "WalkingWithDog": "walking a dog",
    "WallPushups": "doing push-ups against a wall",
    "WritingOnBoard": "writing on a board",
    "YoYo": "playing with a yo-yo",
}


def read(source: Source) -> Listing:
    """`trainlist0N.txt` (`Class/clip.avi number`) and `testlist0N.txt` (`Class/clip.avi`), N = 1, 2, 3."""
    splits: list[dict[str, str]] = []
    for number in (1, 2, 3):
        split = {}
        for kind in ("train", "test"):
            file = annotation_file(source, f"{kind}list0{number}.txt")
            for line in text_lines(file):
                name = line.split()[0]
                if not all(name.partition("/")[::2]):
                    raise UserError(
                        f"{file}: expected lines 'Class/clip.avi 1', got '{line[:80]}'", "unpack it again"
                    )
                split[name] = kind
        splits.append(split)
    rows = []
    for name in sorted(set().union(*splits)):
        group = re.search(r"_g(\d+)_", name)
        roles = [split.get(name, "unused") for split in splits]
        rows.append((name.partition("/")[0], name, group.group(1) if group else "", roles))
    return official_splits(source, rows, "the three official splits")


DATASETS.register("ucf101")(
    Dataset(
        name="ucf101",
        get_it="""Download UCF101.rar and UCF101TrainTestSplits-RecognitionTask.zip from
https://www.crcv.ucf.edu/data/UCF101.php and unpack both into one folder, which must then hold
UCF-101/<Class>/*.avi and ucfTrainTestlist/{classInd,trainlist01,testlist01,…}.txt""",
        read=read,
        names=_NAMES,
        classes=101,
        recipe="ucf101",
    )
)
