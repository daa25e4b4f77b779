"""The whole path as a user walks it, small: prepare → train → eval → export → predict, torch gone at the end."""

import csv
import functools
import http.server
import io
import json
import os
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import pytest

pytestmark = pytest.mark.usefixtures("traced_once")
TORCH = ("torch", "torchvision", "open_clip", "safetensors", "onnx", "matplotlib")


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory, invoke) -> Callable[..., str]:
    """Runs a command that must succeed in one folder and gives its stdout."""
    folder = tmp_path_factory.mktemp("path")

    def run(*words: str) -> str:
        code, out, err = invoke(folder, list(words))
        assert code == 0, err
        return out

    run.folder = folder  # type: ignore[attr-defined]
    return run


@pytest.fixture(scope="module")
def data(walk, stickfigures: tuple[Path, str]) -> str:
    folder, printed = stickfigures
    shutil.copytree(folder, walk.folder, dirs_exist_ok=True)
    return printed


@pytest.fixture(scope="module")
def run(walk, data: str) -> Path:
    sizes = ("training.batch_size=8", "anchors.per_step=1")
    out = walk(
        *(
            "train",
            "--dataset",
            "stickfigures",
            "--method",
            "vilt",
            "--couple",
            "--anchors",
            "--out",
            "runs/small",
        ),
        *("--shots", "1", "--epochs", "1", "--frames", "2"),
        *(word for size in sizes for word in ("--set", size)),
    )
    assert out == "runs/small\n"
    return walk.folder / "runs/small"


@pytest.fixture(scope="module")
def bundle(walk, run: Path) -> Path:
    assert walk("export", "runs/small") == "runs/small/bundle\n"
    return run / "bundle"


@pytest.fixture(scope="module")
def clips(walk, data: str) -> list[Path]:
    return sorted(walk.folder.glob("data/stickfigures/videos/*/test_*.mp4"))


def test_prepare_counts_the_clips(data: str) -> None:
    assert "40 classes" in data
    assert "test                40 clips" in data


def test_export_fits_rejection_and_probabilities(bundle: Path) -> None:
    card = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    assert card["reject"]["rejected"] is not None  # fitted on anchors
    assert card["calibration"]["clips"] == 20
    assert card["calibration"]["new"] is not None


def test_eval_prints_the_fields_numbers(walk, run: Path) -> None:
    report = json.loads(walk("eval", "runs/small", "--json"))
    assert report["protocol"] == "base-to-novel"
    assert report["base"]["n"] == report["novel"]["n"] == 20
    assert all(0 <= report[half][top] <= 1 for half in ("base", "novel") for top in ("top1", "top5"))
    assert 0 <= report["harmonic_mean"] <= 1
    written = run / "eval" / "stickfigures-base-to-novel"
    assert {path.name for path in written.iterdir()} == {
        "report.json",
        "clips.csv",
        "per_class.csv",
        "confusion.png",
        "reliability.png",
    }


def test_eval_sets_runs_side_by_side(walk, run: Path) -> None:
    table = walk("eval", "runs/small", "runs/small")
    assert table.count("HM") == 2
    assert [report["run"] for report in json.loads(walk("eval", "runs/small", "runs/small", "--json"))] == [
        "runs/small",
        "runs/small",
    ]


def test_a_finished_run_is_neither_overwritten_nor_trained_again(walk, invoke, run: Path) -> None:
    before = (run / "prompts.safetensors").read_bytes()
    code, out, err = invoke(walk.folder, ["train", "--shots", "1", "--out", "runs/small"])
    assert (code, out) == (1, "")
    assert "already holds a run" in err
    assert "--resume runs/small" in err
    walk("train", "--resume", "runs/small")
    assert (run / "prompts.safetensors").read_bytes() == before


def test_dry_run_writes_nothing(walk, data: str) -> None:
    assert "trains" in walk("train", "--shots", "1", "--out", "runs/dry", "--method", "ivlp", "--dry-run")
    assert not (walk.folder / "runs/dry").exists()


def test_bundle_answers_without_torch_as_the_run_does_with_it(walk, bundle: Path, clips, process) -> None:
    words = ["predict", str(clips[0]), "--top", "20", "--json", "--model"]
    by_torch = json.loads(walk(*words, "runs/small"))
    code, out, err = process(*words, bundle, without=TORCH)
    assert code == 0, err
    by_onnx = json.loads(out)
    assert by_onnx["errors"] == by_torch["errors"] == []
    (ours,), (theirs,) = by_onnx["results"], by_torch["results"]
    assert {key: ours[key] for key in ("file", "frames", "duration")} == {
        key: theirs[key] for key in ("file", "frames", "duration")
    }
    expected = {row["label"]: row["probability"] for row in theirs["predictions"]}
    assert len(ours["predictions"]) == 20
    assert sum(row["probability"] for row in ours["predictions"]) == pytest.approx(1)
    assert {row["label"]: row["probability"] for row in ours["predictions"]} == pytest.approx(
        expected, abs=1e-4
    )


def test_new_classes_without_torch_are_as_with_it(walk, bundle: Path, clips, process, empty: Path) -> None:
    (empty / "labels.txt").write_text("# new ones\ndancing on a table\nrepairing a roof\nkicking a ball\n")
    words = ["predict", str(clips[0]), "--classes", str(empty / "labels.txt"), "--json", "--model"]
    code, out, err = process(*words, bundle, without=TORCH)
    assert code == 0, err
    (ours,) = json.loads(out)["results"]
    (theirs,) = json.loads(walk(*words, "runs/small"))["results"]
    assert [row["label"] for row in ours["predictions"]] == [row["label"] for row in theirs["predictions"]]
    assert [row["probability"] for row in ours["predictions"]] == pytest.approx(
        [row["probability"] for row in theirs["predictions"]], abs=1e-4
    )


def test_without_model_the_newest_bundle_is_taken_and_named(walk, bundle: Path, clips, invoke) -> None:
    code, out, err = invoke(walk.folder, ["predict", str(clips[0]), "--top", "1"])
    assert code == 0
    assert "model: vilt on tiny (fp32), runs/small/bundle · provider: cpu" in err
    assert len(out.splitlines()) == 2


def test_zero_shot_takes_the_built_in_backbone(walk, clips, ga2clip, empty: Path) -> None:
    (empty / "labels.txt").write_text("kicking a ball\nwaving a flag\n")
    code, out, err = ga2clip("predict", clips[0], "--classes", "labels.txt")
    assert code == 0
    assert "no bundle in this folder" in err
    assert "drawn world" in err
    assert "model: zero-shot on tiny (int8)" in err
    assert "kicking a ball" in out


def test_a_broken_file_does_not_stop_the_others(walk, bundle: Path, clips, invoke, empty: Path) -> None:
    shutil.copy(clips[0], empty / "a.mp4")
    (empty / "b.mp4").write_text("no video")
    shutil.copy(clips[1], empty / "c.mp4")
    code, out, err = invoke(empty, ["predict", ".", "--model", str(bundle), "--top", "1"])
    assert code == 1
    assert [line.split("  ")[0] for line in out.splitlines()[::2]] == ["a.mp4", "c.mp4"]
    assert "b.mp4" in err
    code, out, _ = invoke(empty, ["predict", ".", "--model", str(bundle), "--json"])
    answer = json.loads(out)
    assert code == 1
    assert [part["file"] for part in answer["results"]] == ["a.mp4", "c.mp4"]
    assert [part["file"] for part in answer["errors"]] == ["b.mp4"]


def test_results_as_files_and_resumed(walk, bundle: Path, clips, invoke, empty: Path) -> None:
    words = ["--model", str(bundle), "--top", "1"]
    one, two = str(clips[0]), str(clips[1])
    assert invoke(empty, ["predict", one, "--jsonl", "answers.jsonl", *words]).code == 0
    assert invoke(empty, ["predict", one, two, "--resume", "answers.jsonl", *words]).code == 0
    lines = [json.loads(line) for line in (empty / "answers.jsonl").read_text().splitlines()]
    assert [line["file"] for line in lines if "predictions" in line] == [one, two]
    assert invoke(empty, ["predict", one, two, "--csv", "answers.csv", *words]).code == 0
    rows = list(csv.DictReader((empty / "answers.csv").open()))
    assert [row["file"] for row in rows] == [one, two]


def test_any_file_name_that_the_system_allows(walk, bundle: Path, clips, process, empty: Path) -> None:
    names = [b"bad\xff.mp4", b"-dash.mp4", b"new\nline.mp4", "übung.mp4".encode()]
    for name in names:
        shutil.copy(clips[0], os.fsencode(empty) + b"/" + name)
    code, out, err = process("predict", ".", "--model", bundle, "--top", "1", "--json")
    assert code == 0, err
    assert {os.fsencode(part["file"]) for part in json.loads(out)["results"]} == set(names)
    code, out, err = process("predict", ".", "--model", bundle, "--top", "1")
    assert code == 0, err
    assert len(out.splitlines()) == 2 * len(names)
    code, out, err = process("predict", "--model", bundle, "--", "-dash.mp4")
    assert code == 0, err


def test_timeline_and_stream(walk, bundle: Path, clips) -> None:
    windows = ("--window", "1", "--stride", "0.5", "--fps", "4")
    found = json.loads(walk("predict", str(clips[0]), "--timeline", *windows, "--json", "--plot", "plot.png"))
    assert found["segments"][0]["start"] == 0
    assert found["segments"][-1]["end"] == pytest.approx(found["duration"])
    assert (walk.folder / "plot.png").stat().st_size > 1000
    walk("predict", str(clips[0]), "--timeline", *windows, "--csv", "segments.csv")
    assert (walk.folder / "segments.csv").read_text().startswith("path,start,end,label,score\n")
    lines = walk("predict", str(clips[0]), "--follow", *windows, "--json").splitlines()
    assert [json.loads(line)["time"] for line in lines] == [w["end"] for w in found["windows"]]
    ranked = [[p["label"] for p in json.loads(line)["predictions"][:2]] for line in lines]
    for words, shown in (((), 1), (("--top", "2"), 2)):
        text = walk("predict", str(clips[0]), "--follow", *windows, *words).splitlines()
        assert [re.findall(r" %  (.*?)(?:,  |$)", line) for line in text] == [row[:shown] for row in ranked]


def test_bench_takes_bundles_and_clips_and_finds_the_run_beside(walk, bundle: Path, clips, invoke) -> None:
    rows = json.loads(walk("bench", str(bundle), str(clips[0]), "--rounds", "1", "--threads", "1", "--json"))[
        "rows"
    ]
    assert [row["engine"] for row in rows] == ["torch fp32", "ONNX fp32"]
    code, _, err = invoke(walk.folder, ["bench", str(clips[0])])
    assert code == 1
    assert "neither a bundle nor a run" in err


def test_timelines_and_streams_of_a_run_are_its_bundle_s(walk, bundle: Path, clips) -> None:
    windows = ("--window", "1", "--stride", "0.5", "--fps", "4", "--json", "--model")
    for words in (("--timeline", "--plot", "plot.png"), ("--follow",)):
        theirs, ours = (
            walk("predict", str(clips[0]), *words, *windows, model)
            for model in ("runs/small", "runs/small/bundle")
        )
        numbers = [[float(n) for n in re.findall(r"\d+\.\d+(?:e-\d+)?", text)] for text in (theirs, ours)]
        assert numbers[1] == pytest.approx(numbers[0], abs=1e-4)
        assert len(numbers[0]) > 5


def test_the_device_is_an_option_of_all_that_compute(walk, run: Path, clips, invoke) -> None:
    for words in (
        ["predict", str(clips[0]), "--model", "runs/small"],
        ["eval", "runs/small"],
        ["train", "--shots", "1", "--out", "runs/none"],
        ["reproduce", "ucf101", "--dry-run"],
    ):
        code, out, err = invoke(walk.folder, [*words, "--device", "gpu"])
        assert (code, out) == (1, "")
        assert "unknown device 'gpu'" in err
    answer = invoke(walk.folder, ["predict", str(clips[0]), "--model", "runs/small", "--device", "cpu"])
    assert "provider: torch on cpu" in answer.err


def test_info_for_people_and_programs(walk, bundle: Path) -> None:
    card = json.loads(walk("info", "runs/small/bundle", "--json"))
    assert len(card["classes"]) == 20
    assert "tiny" in walk("info", "runs/small/bundle")
    assert "vilt on tiny" in walk("info", "runs/small")
    assert json.loads(walk("info", "runs/small", "--json"))["settings"]["data"]["shots"] == 1


def test_methods_for_people_and_programs(ga2clip) -> None:
    rows = {row["name"]: row["parameters"] for row in json.loads(ga2clip("methods", "--json").out)}
    assert rows["zero-shot"] == 0 < rows["coop"] < rows["ivlp"] < rows["ga2"]
    assert len(ga2clip("methods").out.splitlines()) == 1 + len(rows)


def test_recorded_videos_from_pipes_and_addresses_need_no_follow(walk, bundle: Path, clips, web: str) -> None:
    """The same answer as for the file; only where it comes from differs."""
    clip = Path(walk.folder, str(clips[0]))
    expected = json.loads(walk("predict", str(clip), "--json"))["results"][0] | {"file": ""}
    pipe = walk.folder / "pipe"
    os.mkfifo(pipe)
    threading.Thread(target=lambda: pipe.write_bytes(clip.read_bytes()), daemon=True).start()
    for source in (str(pipe), f"{web}/{clip.name}", f"file://{clip}"):
        (found,) = json.loads(walk("predict", source, "--json"))["results"]
        assert found["file"] == source
        assert found | {"file": ""} == expected
    address = f"{web}/{clip.name}"
    assert json.loads(walk("predict", address, "--timeline", "--json"))["file"] == address
    lines = [json.loads(line) for line in walk("predict", address, "--follow", "--json").splitlines()]
    assert lines[-1]["dropped"] == 0


def test_a_live_source_that_dies_is_a_failure(walk, bundle: Path, clips, invoke) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def feed() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(transport_stream(Path(walk.folder, str(clips[0]))))

        threading.Thread(target=feed, daemon=True).start()
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        code, out, err = invoke(walk.folder, ["predict", address, "--follow", "--json"])
    assert code == 1
    assert "the live stream ended after" in err
    assert json.loads(out.splitlines()[0])["predictions"]


def test_a_gap_is_one_record(walk, bundle: Path, clips) -> None:
    source = gapped(Path(walk.folder, str(clips[0])), walk.folder / "gap.mkv", 86_400_000)
    found = json.loads(
        walk("predict", str(source), "--timeline", "--json", "--render", "gap.mp4", "--plot", "gap.png")
    )
    (gap,) = found["gaps"]
    assert gap["end"] == pytest.approx(86_400, abs=1)
    assert all(part["end"] <= gap["start"] or part["start"] >= gap["end"] for part in found["segments"])
    lines = [json.loads(line) for line in walk("predict", str(source), "--follow", "--json").splitlines()]
    assert [line["gap"] for line in lines if not line["predictions"]] == [gap]
    rows = walk_csv(walk, source)
    assert [row for row in rows if not row["label"]] == [
        {
            "path": str(source),
            "start": f"{gap['start']:.3f}",
            "end": f"{gap['end']:.3f}",
            "label": "",
            "score": "",
        }
    ]
    assert "gap: no frames" in walk("predict", str(source), "--follow")


def walk_csv(walk, source: Path) -> "list[dict[str, str]]":
    walk("predict", str(source), "--timeline", "--csv", "gap.csv")
    with (walk.folder / "gap.csv").open() as file:
        return list(csv.DictReader(file))


def transport_stream(clip: Path) -> bytes:
    out = io.BytesIO()
    with av.open(clip) as source, av.open(out, "w", format="mpegts") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    return out.getvalue()


def gapped(clip: Path, out: Path, milliseconds: int) -> Path:
    """The clip twice, the second time so much later."""
    with av.open(out, "w") as target:
        stream = None
        for shift in (0, milliseconds):
            with av.open(clip) as source:
                stream = stream or target.add_stream_from_template(source.streams.video[0])
                for packet in source.demux(video=0):
                    if packet.size:
                        packet.pts += round(shift / 1000 / packet.time_base)
                        packet.dts += round(shift / 1000 / packet.time_base)
                        packet.stream = stream
                        target.mux(packet)
    return out


class _Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def web(walk, clips) -> Iterator[str]:
    folder = Path(walk.folder, str(clips[0])).parent
    handler = functools.partial(_Files, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()
