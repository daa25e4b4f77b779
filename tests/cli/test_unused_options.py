"""An option that a command has no use for, as it is called, is refused before anything is loaded, not ignored."""

from pathlib import Path

import pytest

TIMELINE, FOLLOW = ("predict", "a.mp4", "--timeline"), ("predict", "a.mp4", "--follow")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("predict", "a.mp4", "--plot", "p.png"), "--plot needs --timeline"),
        (("predict", "a.mp4", "--render", "r.mp4"), "--render needs --timeline"),
        *(
            (("predict", "a.mp4", option, "2"), f"{option} needs --timeline or --follow")
            for option in ("--window", "--stride", "--fps")
        ),
        (("predict", "a.mp4", "--still", "0"), "--still needs --timeline or --follow"),
        (("predict", "a.mp4", "--smooth", "0"), "--smooth needs --timeline"),
        (("predict", "a.mp4", "--min-length", "1"), "--min-length needs --timeline"),
        (("predict", "a.mp4", "--json", "--csv", "a.csv"), "exclude each other"),
        (("predict", "a.mp4", "--explain", "--batch", "4"), "--batch does not go with --explain"),
        (("predict", "-", "-"), "can only be read once"),
        ((*TIMELINE, "--jsonl", "a.jsonl"), "--jsonl does not go with --timeline"),
        ((*TIMELINE, "b.mp4"), "take one video"),
        ((*TIMELINE, "--follow"), "exclude each other"),
        *(
            ((*TIMELINE, o, "1"), f"{o} does not go with --timeline")
            for o in ("--batch", "--workers", "--top")
        ),
        (("predict", "rtsp://camera/1", "--timeline"), "add --follow"),
        ((*FOLLOW, "--csv", "a.csv"), "--csv does not go with --follow"),
        *(
            ((*FOLLOW, option, "1"), f"{option} does not go with --follow")
            for option in ("--batch", "--workers", "--smooth", "--min-length")
        ),
        (("embed", "a.mp4", "--out", "a.npz", "--still", "0"), "--still needs --frames"),
        (("export", "run", "--classes", ""), "go with --backbone or --pretrained"),
        (("export", "run", "--clip", "a.mp4", "--root", "data"), "--root needs --verify-accuracy"),
        (("teach", "b", "--forget", "x", "--out", "c", "--workers", "1"), "--workers needs clips"),
        (("backbones", "--markdown", "--json"), "exclude each other"),
        (("settings", "--markdown", "--json"), "exclude each other"),
        (
            ("import", "a.pt", "--classes", "c", "--out", "r", "--clip", "a", "--clip-weights", "b"),
            "--clip is the former name of --clip-weights",
        ),
        (("train", "--seed", "1", "--seeds", "1..2"), "give --seed or --seeds"),
        (("train", "--set", "training.seed=1", "--seeds", "1..2"), "give --set training.seed or --seeds"),
        (("reproduce", "ucf101", "--set", "training.seed=1"), "give --seed, not --set training.seed"),
        (("reproduce", "ucf101", "--seed", "1", "--seed", "1"), "a seed is given twice"),
        *(
            (("train", "--resume", "run", option, ""), "only --epochs and --set may stand beside --resume")
            for option in ("--dataset", "--recipe", "--descriptions", "--seeds")
        ),
    ],
)
def test_options_that_would_be_ignored_are_usage_errors(words, message, ga2clip, left_behind) -> None:
    code, out, err = ga2clip(*words)
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())
    assert left_behind() == []


@pytest.mark.parametrize(
    ("dataset", "words", "message", "hint"),
    [
        ("folder", ("--list", "l.csv"), "'folder' takes no list", "leave --list out"),
        ("stickfigures", ("--list", "l.csv"), "'stickfigures' takes no list", "leave --list out"),
        ("stickfigures", ("--recheck",), "'stickfigures' is generated", "leave --recheck out"),
        ("stickfigures", ("--group-pattern", "(a)"), "has its own splits", "leave --group-pattern out"),
        ("ucf101", ("--clips-per-class", "3"), "'ucf101' is not generated", "leave --clips-per-class out"),
    ],
)
def test_what_a_dataset_has_no_use_for_is_refused(
    dataset, words, message, hint, ga2clip, left_behind
) -> None:
    code, out, err = ga2clip("prepare", "--dataset", dataset, *words)
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert message in err
    assert hint in err
    assert left_behind() == []


def test_a_seed_that_draws_nothing_is_said(ga2clip, clip: Path) -> None:
    Path("data").mkdir()
    clip.rename("data/clip.mp4")
    for split, notes in ((",test", 1), ("", 0)):
        Path("list.csv").write_text(f"clip.mp4,a{split}\n")
        words = ("prepare", "--dataset", "csv", "--root", "data", "--list", "list.csv", "--workers", "1")
        assert "--seed drew nothing" not in ga2clip(*words).out
        assert ga2clip(*words, "--seed", "0").out.count("--seed drew nothing") == notes


def test_a_dry_run_names_the_seeds(stickfigures, invoke) -> None:
    words = ["train", "--method", "zero-shot", "--frames", "2", "--device", "cpu", "--dry-run", "--seeds"]
    code, out, err = invoke(stickfigures[0], [*words, "2..4"])
    assert (code, out.splitlines()[-1]) == (0, "seeds     2, 3, 4: a run like this for each"), err
    assert "does not name seeds" in invoke(stickfigures[0], [*words, "4..2"]).err
