"""Results files keep what they had, whatever happens in between, and never mix two questions."""

import csv
import hashlib
import json
import os
import stat
import zlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from ga2clip.errors import UserError
from ga2clip.predictions import Asked, Failure, Prediction
from ga2clip.runtime.results import ResultFile, expand
from ga2clip.video import VideoError, read_frames

CLASSES = ["run, fast", 'say "hi"', "sleep"]
ASKED = Asked("m0", "c0", "t0", 2)  # short, since every byte counts below
ODD = 'clip, "one"\r\n\udcff – äöü.mp4'
FILES = ["a.mp4", "-b.mp4", ODD, "d.mp4"]
BATCH = {
    "a.mp4": Prediction("a.mp4", 8, 1.5, (("run, fast", 0.75), ('say "hi"', 0.25))),
    "-b.mp4": Failure("-b.mp4", "cannot read the video '-b.mp4':\nnot a video"),
    ODD: Prediction(ODD, 8, 2.0, (("=schlafen\nüber", 0.6), ("'+1", 0.4)), ("lost a frame",)),
    "d.mp4": Prediction("d.mp4", 4, 0.1 + 0.2, (("sleep", 1 / 3), ("run, fast", 1e-7))),
}
COLUMNS = (
    "file,frames,duration,rank,count,label,probability,error,model_sha256,classes_sha256,template_sha256,top"
)


def write(
    path: Path, parts: Iterable[Prediction | Failure], *, resume: bool = False, asked: Asked = ASKED
) -> None:
    with ResultFile(path, model="m", provider="cpu", asked=asked, resume=resume) as file:
        for part in parts:
            file.add(part)


def run_batch(path: Path, *, resume: bool = False) -> list[str]:
    """The batch as the command runs it; returns the files that were worked on."""
    file = ResultFile(path, model="m", provider="cpu", asked=ASKED, resume=resume)
    file.set_order(FILES)
    todo = [name for name in FILES if name not in file.done]
    with file:
        for name in todo:
            file.add(BATCH[name])
    return todo


@pytest.fixture
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of files that need no power failure to be survived."""
    monkeypatch.setattr(os, "fsync", lambda number: None)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


def test_fingerprints_of_a_question() -> None:
    asked = Asked.of("0" * 64, CLASSES, None, reject=False, top=2)
    text = '[["run, fast", "say \\"hi\\"", "sleep"], false]'
    assert asked.model_sha256 == "0" * 64
    assert asked.classes_sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert asked.template_sha256 == hashlib.sha256(b"null").hexdigest()
    assert asked.top == 2
    others = [
        Asked.of("0" * 64, CLASSES[::-1], None, reject=False, top=2),
        Asked.of("0" * 64, CLASSES, None, reject=True, top=2),
        Asked.of("0" * 64, CLASSES, "{}", reject=False, top=2),
    ]
    assert len({asked, *others}) == 4


def test_json_lines_say_what_was_asked_of_which_model(tmp_path: Path) -> None:
    run_batch(tmp_path / "out.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    checks = [line.pop("check") for line in lines]
    assert lines == [BATCH[name].to_json() | ASKED.to_json() for name in FILES]
    text = (
        '{"file": "a.mp4", "frames": 8, "duration": 1.5, "predictions": '
        '[{"label": "run, fast", "probability": 0.75}, {"label": "say \\"hi\\"", "probability": 0.25}], '
        '"model_sha256": "m0", "classes_sha256": "c0", "template_sha256": "t0", "top": 2}'
    )
    assert checks[0] == f"{zlib.crc32(text.encode()):08x}"
    assert list(ASKED.to_json()) == ["model_sha256", "classes_sha256", "template_sha256", "top"]


def test_a_csv_is_one_that_spreadsheets_read(tmp_path: Path) -> None:
    run_batch(tmp_path / "out.csv")
    rows = rows_of(tmp_path / "out.csv")
    assert ",".join(rows[0]) == COLUMNS
    shown = [[row[key] for key in COLUMNS.split(",")[:8]] for row in rows]
    assert shown == [
        ["a.mp4", "8", "1.5", "1", "2", "run, fast", "0.75", ""],
        ["a.mp4", "8", "1.5", "2", "2", 'say "hi"', "0.25", ""],
        ["'-b.mp4", "", "", "", "0", "", "", "cannot read the video '-b.mp4':\nnot a video"],
        [ODD, "8", "2.0", "1", "2", "'=schlafen\nüber", "0.6", ""],
        [ODD, "8", "2.0", "2", "2", "''+1", "0.4", ""],
        ["d.mp4", "4", "0.30000000000000004", "1", "2", "sleep", "0.3333333333333333", ""],
        ["d.mp4", "4", "0.30000000000000004", "2", "2", "run, fast", "1e-07", ""],
    ]
    assert {tuple(row[key] for key in COLUMNS.split(",")[8:]) for row in rows} == {
        (ASKED.model_sha256, ASKED.classes_sha256, ASKED.template_sha256, "2")
    }


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_batch_cut_at_any_byte_ends_as_one_that_was_not(tmp_path: Path, no_sync: None, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    run_batch(path)
    whole = path.read_bytes()
    complete = {name: whole.rindex(_last_of(suffix, name)) for name in FILES}
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        todo = run_batch(path, resume=True)
        assert path.read_bytes() == whole, cut
        if cut < complete["a.mp4"]:
            assert todo == FILES
        assert "-b.mp4" in todo  # it failed: try again
        assert todo == [name for name in FILES if name in todo]
    assert todo == ["-b.mp4"]


def _last_of(suffix: str, name: str) -> bytes:
    """A few bytes that end a file's last line."""
    return {"a.mp4": b"0.25", "-b.mp4": b"not a video", "d.mp4": b"1e-07"}.get(name, b"0.4")


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_file_that_is_cut_twice_keeps_no_part_of_a_ranking(
    tmp_path: Path, no_sync: None, suffix: str
) -> None:
    path = tmp_path / f"out{suffix}"
    run_batch(path)
    whole = path.read_bytes()
    for cut in range(0, len(whole), 7):
        path.write_bytes(whole[:cut])
        write(path, (), resume=True)  # killed before the first answer
        kept = path.read_bytes()
        counts: dict[str, int] = {}
        if suffix == ".csv":
            for row in rows_of(path):
                counts[row["file"]] = counts.get(row["file"], 0) + 1
        assert set(counts.values()) <= {2}
        path.write_bytes(kept[: len(kept) - 3])
        run_batch(path, resume=True)
        assert path.read_bytes() == whole


def test_ranks_that_are_missing_in_the_middle_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    run_batch(path)
    whole = path.read_bytes()
    lines = whole.split(b"\n")
    for missing in (1, 2):  # a row of a.mp4
        path.write_bytes(b"\n".join(lines[:missing] + lines[missing + 1 :]))
        assert run_batch(path, resume=True) == ["a.mp4", "-b.mp4"]
        assert path.read_bytes() == whole


def test_damage_that_leaves_json_is_noticed(tmp_path: Path, no_sync: None) -> None:
    """Every character of a line is replaced by another one of its kind: what is continued is as it was written."""
    path = tmp_path / "out.jsonl"
    run_batch(path)
    whole = path.read_bytes()
    first, noticed = whole.index(b"\n"), 0
    for place in range(first):
        damaged = bytearray(whole)
        damaged[place] = ord("7") if chr(whole[place]).isdigit() and whole[place] != ord("7") else ord("x")
        if damaged[place] == whole[place]:
            continue
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"cannot continue .*: line 1") as caught:
            run_batch(path, resume=True)
        noticed += "damaged" in caught.value.message
        assert path.read_bytes() == damaged
    assert noticed > 40  # in the others something else is wrong, such as a bracket that is missing
    record = json.loads(whole[:first])
    record["predictions"].pop()
    for line in (record, {key: value for key, value in record.items() if key != "check"}):
        path.write_text(json.dumps(line) + "\n")
        with pytest.raises(UserError, match="line 1 is damaged"):
            run_batch(path, resume=True)


def test_json_can_be_continued(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    run_batch(path)
    whole = path.read_bytes()
    shown = json.loads(whole)
    assert shown["results"] == [BATCH[name].to_json() for name in FILES if name != "-b.mp4"]
    assert shown["errors"] == [BATCH["-b.mp4"].to_json()]
    assert {key: shown[key] for key in ASKED.to_json()} == ASKED.to_json()
    assert run_batch(path, resume=True) == ["-b.mp4"]
    assert path.read_bytes() == whole
    path.write_bytes(whole[:-3])
    with pytest.raises(UserError, match="cannot continue"):
        run_batch(path, resume=True)


def test_json_is_written_even_if_the_batch_breaks_off(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    file = ResultFile(path, model="m", provider="cpu", asked=ASKED).__enter__()
    file.add(BATCH["a.mp4"])
    file.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    whole = json.loads(path.read_text())
    assert whole["model"] == "m"
    assert [record["file"] for record in whole["results"]] == ["a.mp4"]
    assert whole["results"][0]["predictions"][0] == {"label": "run, fast", "probability": 0.75}


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv"])
@pytest.mark.parametrize(
    ("other", "what"),
    [
        (Asked("m1", "c0", "t0", 2), "model"),
        (Asked("m0", "c1", "t0", 2), "class list"),
        (Asked("m0", "c0", "t1", 2), "template"),
        (Asked("m0", "c0", "t0", 3), "--top"),
    ],
)
def test_another_question_is_refused(tmp_path: Path, suffix: str, other: Asked, what: str) -> None:
    path = tmp_path / f"out{suffix}"
    run_batch(path)
    before = path.read_bytes()
    with pytest.raises(UserError, match=f"cannot continue .*: its answers come from another {what}$"):
        write(path, (), resume=True, asked=other)
    assert path.read_bytes() == before


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_choice_and_explanation_are_parts_of_the_question(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    asked = replace(ASKED, choice="coverage 0.9", explain=True)
    write(path, [BATCH["a.mp4"]], asked=asked)
    before = path.read_bytes()
    assert before.count(b'"coverage 0.9"') == before.count(b'"explain": true') == 1
    write(path, (), resume=True, asked=asked)
    assert path.read_bytes() == before
    for other, what in (
        (replace(asked, choice="coverage 0.8"), "use of --coverage"),
        (replace(asked, explain=False), "use of --explain"),
        (ASKED, "use of --coverage"),
    ):
        with pytest.raises(UserError, match=f"its answers come from another {what}$"):
            write(path, (), resume=True, asked=other)
    assert path.read_bytes() == before


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv"])
def test_an_existing_file_is_not_overwritten(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    path.write_text("precious\n")
    with pytest.raises(UserError, match="exists") as caught:
        write(path, ())
    assert f"--resume {path}" in (caught.value.hint or "")
    assert "delete" in (caught.value.hint or "")
    assert path.read_text() == "precious\n"
    path.write_text("")  # such as mktemp makes
    run_batch(path)
    assert run_batch(path, resume=True) == ["-b.mp4"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("notes.jsonl", "my notes"),
        ("notes.jsonl", "my notes\nmore\n"),
        ("notes.jsonl", '[1, 2]\n"x"\n'),
        ("notes.jsonl", '{"file": "a.mp4", "frames": 8, "duration": 1.0, "predictions": []}\n'),
        ("notes.jsonl", json.dumps(BATCH["a.mp4"].to_json() | ASKED.to_json() | {"frames": "8"}) + "\n"),
        ("notes.jsonl", "[" * 100_000 + "\n"),
        ("notes.csv", "my notes"),
        ("notes.csv", "name,mark\nme,1\n"),
        ("notes.csv", "file,frames,duration,rank,label,probability,error\na.mp4,8,1.0,1,run,0.5,\n"),
        ("notes.csv", f"{COLUMNS}\na,b\n"),
        ("notes.csv", f"{COLUMNS}\na.mp4,8,1.5,one,2,run,0.5,,0,0,0,2\n"),
        ("notes.csv", f"{COLUMNS}\na.mp4,8,1.5,1,1,run,nan,,0,0,0,2\n"),
        ("notes.json", "my notes"),
        ("notes.json", '{"results": 3}'),
        ("notes.json", '{"results": [3]}'),
        ("notes.json", "[" * 100_000),
    ],
)
def test_what_is_not_ours_is_not_continued(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UserError, match="cannot continue"):
        run_batch(path, resume=True)
    assert path.read_text() == text


def test_a_csv_that_a_spreadsheet_saved_again_can_be_continued(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    run_batch(path)
    whole = path.read_bytes()
    rows = rows_of(path)
    with path.open("w", encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        saved = csv.DictWriter(file, COLUMNS.split(","), quoting=csv.QUOTE_ALL)
        saved.writeheader()
        saved.writerows(rows)
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    assert run_batch(path, resume=True) == ["-b.mp4"]
    assert path.read_bytes() == whole


def test_a_format_that_no_suffix_names(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="format"):
        write(tmp_path / "out.txt", ())


@pytest.mark.skipif(os.name != "posix", reason="links, permissions and devices")
def test_links_stay_and_permissions_too(tmp_path: Path) -> None:
    target, link = tmp_path / "target.csv", tmp_path / "out.csv"
    target.touch(0o600)
    link.symlink_to(target.name)
    run_batch(link)
    run_batch(link, resume=True)
    assert link.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert len(rows_of(target)) == 7


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_devices_are_written_through(tmp_path: Path) -> None:
    for name in ("/dev/null", "/dev/full"):
        file = ResultFile(Path(name), model="m", provider="cpu", asked=ASKED, format="csv")
        if name == "/dev/null":
            with file:
                file.add(BATCH["a.mp4"])
        else:
            with pytest.raises(UserError, match="cannot write /dev/full: No space left"):
                file.__enter__()
        assert stat.S_ISCHR(Path(name).stat().st_mode)
    with pytest.raises(UserError, match="cannot continue /dev/null: it is not a regular file"):
        ResultFile(Path("/dev/null"), model="m", provider="cpu", asked=ASKED, format="csv", resume=True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_disk_that_runs_full_is_said_and_what_was_there_can_be_continued(
    tmp_path: Path, suffix: str
) -> None:
    from ga2clip.files import open_append

    path = tmp_path / f"out{suffix}"
    file = ResultFile(path, model="m", provider="cpu", asked=ASKED)
    file.set_order(FILES)
    with file:
        file.add(BATCH["a.mp4"])
        assert file._stream is not None
        file._stream.close()
        file._stream = open_append(Path("/dev/full"))
        with pytest.raises(UserError, match="No space left on device") as caught:
            file.add(BATCH["-b.mp4"])
    assert f"--resume {path}" in (caught.value.hint or "")
    assert run_batch(path, resume=True) == FILES[1:]


def test_folders_become_their_videos(tmp_path: Path) -> None:
    for name in ("b/two.MP4", "a.webm", "notes.txt", "b/c/three.mkv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = expand([tmp_path, tmp_path / "a.webm", tmp_path / "missing.mp4"])
    assert [p.name for p in found] == ["a.webm", "three.mkv", "two.MP4", "missing.mp4"]


def test_a_folder_without_videos_does_not_stop_the_others(tmp_path: Path) -> None:
    folder = tmp_path / "x.mp4"
    folder.mkdir()
    assert expand([folder, tmp_path / "a.mp4"]) == [folder, tmp_path / "a.mp4"]
    with pytest.raises(VideoError, match="directory"):
        read_frames(folder)
