"""Runs that were cut, flipped, swapped or filled with other things: refused by name, never another training."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ga2clip.compute.distributed import join_group
from ga2clip.data.lineage import Record
from ga2clip.errors import UserError
from ga2clip.run import DATA, Run, load_run, read_metrics, read_record
from ga2clip.run_files import read_settings, read_tensors, save_tensors, write_settings
from ga2clip.settings import Settings
from ga2clip.training import job, train
from ga2clip.training.checkpoint import Position, load_checkpoint
from ga2clip.training.update import Updater

Make = Callable[..., Settings]
STATE = "state/checkpoint.safetensors"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, dataset: Path, clip_file: Path) -> Path:
    """A finished run of 4 updates; not to be changed."""
    chosen = Settings().updated(
        {
            "data": {"root": str(dataset), "shots": 4, "frames": 2},
            "backbone": {"pretrained": str(clip_file)},
            "method": {"name": "ivlp", "text_length": 2, "vision_length": 2},
            "training": {"epochs": 2, "batch_size": 4},
        },
        "test",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "draw_curves", lambda _: None)
        return train.train(chosen, tmp_path_factory.mktemp("run") / "run", device="cpu", progress=False)


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be damaged."""
    return Path(shutil.copytree(original, tmp_path / "run"))


@pytest.fixture(scope="module")
def updater(original: Path) -> Iterator[Updater]:
    """What a resumed training loads the run's state into."""
    settings = read_settings(original)
    with join_group("cpu") as group:
        yield Updater(train.make_model(settings, load_run(original).classes), group)


def unsealed(file: Path) -> bytes:
    """The settings file as versions without a seal wrote it, which had no tables of parts and descriptions either."""
    return file.read_bytes().partition(b"\n")[2].removesuffix(b"\n[parts]\n\n[descriptions]\n")


def settings_or_error(folder: Path) -> "Settings | str":
    try:
        return read_settings(folder)
    except UserError as error:
        return error.message


@pytest.mark.parametrize("sealed", [True, False])
def test_settings_cut_at_any_byte_are_refused_or_the_same(folder: Path, sealed: bool) -> None:
    file = folder / "settings.toml"
    whole = file.read_bytes() if sealed else unsealed(file)
    wanted = read_settings(folder)
    found = []
    for end in range(len(whole)):
        file.write_bytes(whole[:end])
        found.append(settings_or_error(folder))
    assert found.pop() == wanted  # without the last line break alone
    assert all(isinstance(one, str) and str(file) in one for one in found)
    file.write_bytes(whole)
    assert read_settings(folder) == train.resume_settings(folder) == load_run(folder).settings == wanted


def test_a_cut_file_is_not_written_over_by_resuming(folder: Path) -> None:
    file = folder / "settings.toml"
    whole = file.read_bytes()
    file.write_bytes(whole[: whole.index(b"[training]")])
    cut = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=r"settings\.toml is not as the run wrote it"):
        train.resume_settings(folder)
    with pytest.raises(UserError, match=r"settings\.toml is not as the run wrote it"):
        train.train(Settings(), folder, resume=True, device="cpu", progress=False)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == cut


def test_a_flipped_bit_of_the_settings_is_noticed(folder: Path) -> None:
    file = folder / "settings.toml"
    whole = file.read_bytes()
    wanted = read_settings(folder)
    for place in range(len(whole)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        found = settings_or_error(folder)
        assert str(file) in found if isinstance(found, str) else found == wanted


@pytest.mark.parametrize(
    "text",
    ["seed = [[[[" * 20_000, f"seed = {'9' * 5000}", "data = 3", "[nonsense]\nkey = 1", "\x00", "\ufeff"],
)
def test_settings_that_are_something_else_are_refused(folder: Path, text: str) -> None:
    file = folder / "settings.toml"
    for content in (text.encode(), text.encode("utf-16")):
        file.write_bytes(content)
        with pytest.raises(UserError) as caught:
            train.resume_settings(folder)
        assert str(file) in caught.value.message


def test_an_unknown_setting_of_a_run_names_its_file(folder: Path) -> None:
    file = folder / "settings.toml"
    file.write_bytes(unsealed(file).replace(b"[training]\n", b"[training]\nbatchsize = 4\n"))
    with pytest.raises(UserError, match=r"settings\.toml: unknown setting 'training\.batchsize'") as caught:
        load_run(folder)
    assert "batch_size" in (caught.value.hint or "")


def test_descriptions_of_a_run_that_are_none_name_its_file(folder: Path) -> None:
    file = folder / "settings.toml"
    file.write_bytes(unsealed(file) + b"\n[descriptions]\nswimming = 4\n")
    with pytest.raises(UserError, match=r"settings\.toml: descriptions: 'swimming' must have a list"):
        load_run(folder)


def test_whole_settings_of_another_training_are_refused(folder: Path, updater: Updater) -> None:
    other = read_settings(folder).updated({"training": {"lr": 0.5}}, "test")
    write_settings(folder, other)
    with pytest.raises(UserError, match=r"settings\.toml is of another training .* training\.lr differs"):
        load_run(folder)
    before = (folder / STATE).read_bytes()
    with pytest.raises(UserError, match=r"settings\.toml is of another training .* training\.lr differs"):
        train.train(other, folder, resume=True, device="cpu", progress=False)
    assert (folder / STATE).read_bytes() == before


def test_resuming_from_python_takes_no_other_training_either(folder: Path) -> None:
    before = (folder / "settings.toml").read_bytes()
    other = read_settings(folder).updated({"training": {"epochs": 9}}, "test")
    with pytest.raises(UserError, match=r"training\.epochs' would make it another training"):
        train.train(other, folder, resume=True, device="cpu", progress=False)
    assert (folder / "settings.toml").read_bytes() == before


def _run_state(folder: Path, _: Updater) -> Any:
    run: Run = load_run(folder)
    return {**run.state(), "classes": run.classes}


def _checkpoint(folder: Path, updater: Updater) -> Any:
    return load_checkpoint(folder, updater)


@pytest.mark.parametrize(("name", "read"), [("prompts.safetensors", _run_state), (STATE, _checkpoint)])
def test_damaged_tensors_are_refused(
    folder: Path, updater: Updater, name: str, read: Callable[[Path, Updater], Any]
) -> None:
    """A bit flipped in the header, in the tensors, and cuts: all are found, and said of that file."""
    file = folder / name
    whole = file.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    rng = random.Random(0)
    flips = [*range(0, header, 7), *(rng.randrange(header, len(whole)) for _ in range(40))]
    damaged = [
        whole[:place] + bytes([whole[place] ^ 1 << rng.randrange(8)]) + whole[place + 1 :] for place in flips
    ]
    damaged += [whole[: rng.randrange(len(whole))] for _ in range(20)] + [b"", whole + b"\0"]
    read(folder, updater)
    for content in damaged:
        file.write_bytes(content)
        with pytest.raises(UserError) as caught:
            read(folder, updater)
        assert str(file) in caught.value.message
        assert caught.value.hint


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("classes", value) for value in ("3", '"abc"', "[1]", "null", "[" * 50_000)],
        *[("classes", json.dumps(names)) for names in (["a", "A"], ["a", "a\u200b"], ["a", "\udc80"])],
        *[("method", value) for value in ("3", "null")],
        ("licence", "{}"),
        ("step", '"4"'),
        ("steps", "-1"),
        ("finished", '"yes"'),
        ("imported", '{"checkpoint": 3}'),
        ("imported", "[]"),
        ("settings", "[]"),
        ("settings", '{"data": 3}'),
    ],
)
def test_a_header_with_other_types_is_refused(folder: Path, key: str, value: str) -> None:
    file = folder / "prompts.safetensors"
    header, tensors = read_tensors(file)
    save_tensors(file, tensors, {**header, key: value})
    with pytest.raises(UserError, match=r"prompts\.safetensors"):
        load_run(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("position", '{"epoch": "1", "batch": 0, "step": 2}'),
        ("position", '{"epoch": -1, "batch": 0, "step": 2}'),
        ("position", "[1, 0, 2]"),
        ("position", "[" * 50_000),
        ("scaler", "3"),
        ("scaler", '{"scale": "x"}'),
        ("settings", "[]"),
    ],
)
def test_a_checkpoint_with_other_types_is_refused(
    folder: Path, updater: Updater, key: str, value: str
) -> None:
    header, tensors = read_tensors(folder / STATE)
    save_tensors(folder / STATE, tensors, {**header, key: value})
    with pytest.raises(UserError, match=rf"checkpoint\.safetensors is damaged: {key}"):
        load_checkpoint(folder, updater)


@pytest.mark.parametrize("change", ["shape", "missing", "more"])
def test_an_optimiser_of_another_model_is_refused(folder: Path, updater: Updater, change: str) -> None:
    header, tensors = read_tensors(folder / STATE)
    name = next(name for name in tensors if name.endswith("/exp_avg"))
    if change == "shape":
        tensors[name] = tensors[name][..., :1].clone()
    elif change == "missing":
        del tensors[name]
    else:
        tensors[f"{name}_more"] = tensors[name].clone()
    save_tensors(folder / STATE, tensors, header)
    with pytest.raises(UserError, match=r"checkpoint\.safetensors is damaged: optimiser/"):
        load_checkpoint(folder, updater)


def test_runs_of_earlier_versions_are_read(folder: Path, updater: Updater) -> None:
    """No seals and no settings in the headers."""
    from safetensors.torch import save_file

    (folder / "settings.toml").write_bytes(unsealed(folder / "settings.toml"))
    for name in ("prompts.safetensors", STATE):
        header, tensors = read_tensors(folder / name)
        header.pop("settings")
        save_file(tensors, folder / name, header)
    assert load_run(folder).meta["step"] == 4
    assert load_checkpoint(folder, updater) == Position(epoch=2, batch=0, step=4)


LINE = '{"step": 5, "epoch": 3, "lr": 0.1, "loss": 1.0, "cross_entropy": 1.0, "accuracy": 0.5, "grad_norm": null}'


def test_a_line_of_metrics_is_read_as_it_was_written(folder: Path) -> None:
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(LINE + "\n" + LINE[:40])
    assert read_metrics(folder)[-1] == json.loads(LINE)


@pytest.mark.parametrize(
    "line",
    [
        LINE.replace("5", '"5"', 1),
        LINE.replace("5", "5.5", 1),
        LINE.replace("5", "0", 1),
        LINE.replace("5", "4", 1),
        LINE.replace("1.0", "[1.0]", 1),
        LINE.replace('"cross_entropy": 1.0', '"cross_entropy": "1.0"'),
        LINE.replace('"cross_entropy": 1.0, ', ""),
        LINE.replace('"loss": 1.0, ', ""),
        LINE[:-9],
        "[1]",
        "3",
        "",
        "[" * 100_000,
        f'{{"step": {"9" * 5000}}}',
        "\x00",
    ],
)
def test_damaged_metrics_name_the_line(folder: Path, line: str) -> None:
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl is damaged in line 5") as caught:
        read_metrics(folder)
    assert "move it away" in (caught.value.hint or "")


def test_metrics_in_other_bytes(folder: Path) -> None:
    file = folder / "metrics.jsonl"
    for content in (file.read_text().encode("utf-16"), b"\xff\xfe\n", bytes(range(256)) + b"\n"):
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"metrics\.jsonl is damaged in line 1"):
            read_metrics(folder)


def test_a_run_goes_on_without_its_metrics(folder: Path) -> None:
    (folder / "metrics.jsonl").unlink()
    train.train(read_settings(folder), folder, resume=True, device="cpu", progress=False)
    assert read_metrics(folder) == []


def test_damage_without_a_message_is_named_by_its_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: str) -> None:
        raise ValueError

    (tmp_path / DATA).write_text("{}", encoding="utf-8")
    monkeypatch.setattr(Record, "model_validate_json", fail)
    with pytest.raises(UserError, match=r"data\.json is damaged: ValueError$"):
        read_record(tmp_path)
