"""How defaults, method, recipe, options and overrides are laid over each other, and what refuses."""

from pathlib import Path
from typing import Any

import pytest

from ga2clip.errors import UserError
from ga2clip.model.methods import METHODS
from ga2clip.registry import DATASETS
from ga2clip.settings import Settings
from ga2clip.training.configure import PROTOCOLS, authors_methods, configure, recipe_names


def test_later_layers_win(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        "[common.training]\nlr = 0.5\nepochs = 7\n[few-shot.training]\nepochs = 9\n[common.method]\ntext_length = 3\n"
    )
    settings = configure(recipe=recipe)
    assert (settings.training.lr, settings.training.epochs) == (0.5, 7)
    assert settings.method.coupling == "mapping"  # the default method
    assert configure(recipe=recipe, protocol="few-shot").training.epochs == 9
    settings = configure(recipe=recipe, options={"training": {"epochs": 3}}, overrides=["training.lr=0.25"])
    assert (settings.training.lr, settings.training.epochs) == (0.25, 3)
    assert (
        configure(recipe=recipe, options={"training": {"lr": 1.0}}, overrides=["training.lr=2"]).training.lr
        == 2.0
    )


def test_a_run_repeats_itself_and_another_method_replaces_its_parts(tmp_path: Path) -> None:
    first = configure(method="vilt", overrides=["training.seed=5", "loss.scenario=3"])
    (tmp_path / "settings.toml").write_text(first.to_toml())
    assert configure(recipe=tmp_path) == first
    assert configure(recipe=tmp_path / "settings.toml") == first
    other = configure(recipe=tmp_path, method="ivlp")
    assert (other.method.name, other.method.inter_modal, other.loss.weight("scenario")) == ("ivlp", "none", 0)
    assert other.training.seed == 5


def test_a_recipe_prompts_no_branch_that_the_method_leaves_alone(tmp_path: Path) -> None:
    assert configure(dataset="ucf101", method="vpt").method.text_length == 0
    assert configure(dataset="ucf101", method="zero-shot").method.vision_length == 0
    chosen = configure(method="vpt", overrides=["method.text_length=4"])
    (tmp_path / "settings.toml").write_text(chosen.to_toml())
    assert configure(recipe=tmp_path) == chosen


def test_parts_are_laid_over_any_method() -> None:
    settings = configure(method="vpt", options={"anchors": {"weight": 0.5}})
    assert settings.anchors.weight == 0.5
    assert settings.method.text_length == 0


@pytest.mark.parametrize("dataset", DATASETS.names())
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_dataset_has_settings_for_every_protocol(dataset: str, protocol: str) -> None:
    settings = configure(dataset=dataset, protocol=protocol)
    assert (settings.data.dataset, settings.data.protocol) == (dataset, protocol)


def test_class_names_stand_in_the_sentence_of_their_dataset(tmp_path: Path) -> None:
    """Something-Something's names are phrases: nobody is "doing holding something"."""
    ssv2 = configure(dataset="ssv2", method="zero-shot")
    assert ssv2.method.scenario_template == "a video of a person {}."
    assert configure(dataset="ucf101").method.scenario_template == "a video of a person doing {}."
    sentence = "method.scenario_template=hands {}."
    assert configure(dataset="ssv2", overrides=[sentence]).method.scenario_template == "hands {}."
    (tmp_path / "settings.toml").write_text(ssv2.to_toml())
    assert configure(recipe=tmp_path) == ssv2


def test_every_shipped_recipe_is_used() -> None:
    used = {DATASETS[name].recipe for name in DATASETS.names()}
    assert {*recipe_names()} == {*used, "published"}


def test_published_settings_of_a_dataset() -> None:
    """The learning rates of the published logs: HMDB-51 at a tenth of UCF-101's."""
    ucf = configure(dataset="ucf101")
    assert (ucf.data.frames, ucf.training.batch_size, ucf.training.epochs, ucf.training.lr) == (
        32,
        64,
        12,
        0.04,
    )
    assert (ucf.backbone.name, ucf.backbone.pretrained) == ("ViT-B-16", "openai")
    assert configure(dataset="hmdb51").training.lr == pytest.approx(0.004)
    few = configure(dataset="hmdb51", protocol="few-shot")
    assert (few.training.lr, few.training.epochs) == (pytest.approx(0.008), 30)
    full = configure(dataset="kinetics400", protocol="full")
    assert (full.augment.mixup, full.augment.cutmix, full.augment.colour) == (0.8, 1.0, 0.8)
    assert (full.loss.label_smoothing, full.training.betas) == (0.1, (0.9, 0.98))
    assert configure(dataset="ssv2").augment.flip == 0.0


def test_a_recipe_of_ones_own_can_extend_a_shipped_one(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text('extends = "hmdb51"\n[common.training]\nworkers = 1\n')
    settings = configure(dataset="hmdb51", recipe=recipe)
    assert (settings.training.workers, settings.training.lr) == (1, 0.004)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ({"dataset": "ucf11"}, "ucf101"),
        ({"method": "ga3"}, "ga2"),
        ({"protocol": "fewshot"}, "few-shot"),
        ({"overrides": ["training.lrr=1"]}, "lr"),
        ({"recipe": "stickfigure"}, "stickfigures"),
    ],
)
def test_a_wrong_name_gets_the_nearest_right_one(arguments: dict[str, object], hint: str) -> None:
    with pytest.raises(UserError) as caught:
        configure(**arguments)  # type: ignore[arg-type]
    assert f"did you mean '{hint}'" in (caught.value.hint or "")


def test_a_recipe_with_an_unknown_table_is_refused(tmp_path: Path) -> None:
    recipe = tmp_path / "bad.toml"
    recipe.write_text("[common.training]\nlr = 1\n[fewshot.training]\nlr = 2\n")
    with pytest.raises(UserError, match="fewshot"):
        configure(recipe=recipe)


def test_a_recipes_prompt_lengths_give_no_prompt_to_a_method_without(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[method]\ntext_length = 3\nvision_length = 5\n")
    for method, lengths in {"coop": (3, 0), "vpt": (0, 5), "ivlp": (3, 5), "zero-shot": (0, 0)}.items():
        found = configure(method=method, recipe=recipe).method
        assert (found.text_length, found.vision_length) == lengths


def test_an_architecture_and_its_weights_go_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe's name says nothing of a file given by hand; `tiny` has its own weights."""
    monkeypatch.chdir(tmp_path)

    def backbone(**wish: str) -> tuple[str, str]:
        found = configure(dataset="ucf101", options={"backbone": wish}).backbone
        return found.name, found.pretrained

    assert backbone() == ("ViT-B-16", "openai")
    assert backbone(name="tiny") == ("tiny", "builtin")
    assert backbone(name="ViT-L-14") == ("ViT-L-14", "openai")
    assert backbone(pretrained="laion400m_e32") == ("ViT-B-16", "laion400m_e32")
    assert backbone(pretrained="k400.pt") == ("", str(tmp_path / "k400.pt"))
    assert backbone(name="openai", pretrained="k400.pt") == ("openai", str(tmp_path / "k400.pt"))
    assert backbone(name="m.json", pretrained="hub/") == (str(tmp_path / "m.json"), str(tmp_path / "hub"))
    recipe = tmp_path / "mine.toml"
    recipe.write_text('extends = "ucf101"\n[common.backbone]\npretrained = "k400.pt"\n')
    assert configure(dataset="ucf101", recipe=recipe).backbone.name == ""


def test_a_run_whose_settings_are_cut_is_no_recipe(tmp_path: Path) -> None:
    text = configure().to_toml()
    (tmp_path / "settings.toml").write_text(text[: text.index("[loss]")])
    with pytest.raises(UserError, match=r"settings\.toml is not as the run wrote it"):
        configure(recipe=tmp_path)


# What each method is, whatever the recipe: (text prompt's depth, vision prompt's depth, coupling, inter-modal maps,
# loss terms beside cross-entropy, anchors). None: as the recipe says.
COMPOSITIONS: dict[str, tuple[int | None, int | None, str, str, dict[str, float], float]] = {
    "zero-shot": (0, 0, "none", "none", {}, 0),
    "linear-probe": (0, 0, "none", "none", {}, 0),
    "coop": (1, 0, "none", "none", {}, 0),
    "vpt": (0, None, "none", "none", {}, 0),
    "ivlp": (None, None, "none", "none", {}, 0),
    "maple": (None, None, "none", "text-to-vision", {}, 0),
    "kgcoop": (1, 0, "none", "none", {"kgcoop": 8.0}, 0),
    "promptsrc": (
        None,
        None,
        "none",
        "none",
        {"text_consistency": 25.0, "image_consistency": 10.0, "logit_consistency": 1.0},
        0,
    ),
    "vilt": (None, None, "none", "text-to-vision", {"scenario": 1.0}, 0),
    "ga2": (None, None, "mapping", "none", {}, 1),
    "recommended": (
        None,
        None,
        "none",
        "none",
        {"text_consistency": 25.0, "image_consistency": 10.0, "logit_consistency": 1.0},
        0,
    ),
}
RECIPES = [None, *recipe_names()]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("preset", [None, "authors"])
def test_a_method_is_what_it_declares_under_every_recipe_and_protocol(
    method: str, preset: str | None
) -> None:
    if preset and method not in authors_methods():
        with pytest.raises(UserError, match="no published settings"):
            configure(method=method, preset=preset)
        return
    for recipe in RECIPES:
        for protocol in PROTOCOLS:
            if preset and protocol not in PUBLISHED_PROTOCOLS[method]:
                with pytest.raises(UserError, match=f"publish no settings for the protocol {protocol}"):
                    configure(method=method, protocol=protocol, recipe=recipe, preset=preset)
                continue
            settings = configure(method=method, protocol=protocol, recipe=recipe, preset=preset)
            _assert_as_declared(settings, method, preset)


PUBLISHED_PROTOCOLS = {
    "coop": {"base-to-novel", "few-shot"},
    "kgcoop": {"base-to-novel", "few-shot"},
    "maple": {"base-to-novel"},
    "vpt": {"base-to-novel"},
    "promptsrc": {"base-to-novel", "few-shot"},
    "ivlp": {"base-to-novel", "few-shot"},
    "ga2": {"base-to-novel", "few-shot"},
}


@pytest.mark.parametrize("extends", ["", 'extends = "published"\n'])
def test_a_recipe_that_names_its_method_brings_no_sizes_of_the_one_it_extends(
    tmp_path: Path, extends: str
) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(f'{extends}[common.method]\nname = "coop"\n')
    found = configure(recipe=recipe).method
    assert (found.text_depth, found.vision_length) == (1, 0)
    recipe.write_text(f'{extends}[common.method]\nname = "coop"\ntext_depth = 3\n')
    assert (
        configure(recipe=recipe).method.text_depth == 3
    )  # written for this method, by whoever wrote the file


# Of the authors' files, by method and protocol: rate, epochs, batch, decay, warm-up factor times rate, schedule.
NUMBERS = {
    ("coop", "few-shot"): (2e-3, 200, 32, 5e-4, 1e-5, "dassl"),
    ("coop", "base-to-novel"): (2e-3, 50, 32, 5e-4, 1e-5, "dassl"),
    ("kgcoop", "base-to-novel"): (2e-3, 100, 128, 5e-4, 1e-5, "dassl"),
    ("maple", "base-to-novel"): (3.5e-3, 5, 4, 5e-4, 1e-5, "dassl"),
    ("vpt", "base-to-novel"): (2.5e-3, 5, 4, 5e-4, 1e-5, "dassl"),
    ("promptsrc", "base-to-novel"): (2.5e-3, 20, 4, 5e-4, 1e-5, "dassl"),
    ("promptsrc", "few-shot"): (2.5e-3, 50, 4, 5e-4, 1e-5, "dassl"),
    ("ivlp", "base-to-novel"): (4e-2, 11, 64, 1e-3, 0.0, "timm"),
    ("ivlp", "few-shot"): (8e-3, 50, 64, 1e-3, 0.0, "timm"),
    ("ga2", "base-to-novel"): (4e-2, 12, 64, 1e-3, 0.0, "cosine"),
    ("ga2", "few-shot"): (8e-3, 30, 64, 1e-3, 0.0, "cosine"),
}


@pytest.mark.parametrize("dataset", ["ucf101", "kinetics400", "folder", "stickfigures"])
@pytest.mark.parametrize(("method", "protocol"), NUMBERS)
def test_a_preset_has_the_authors_numbers_on_every_dataset(dataset: str, method: str, protocol: str) -> None:
    settings = configure(dataset=dataset, method=method, protocol=protocol, preset="authors", options=SHOTS)
    training, augment = settings.training, settings.augment
    warmup = pytest.approx(training.warmup_factor * training.lr, rel=1e-3)
    assert NUMBERS[method, protocol] == (
        training.lr,
        training.epochs,
        training.batch_size,
        training.weight_decay,
        warmup,
        training.schedule,
    )
    of_images = training.optimiser == "sgd"
    assert of_images == (method in ("coop", "kgcoop", "maple", "vpt", "promptsrc"))
    if of_images:  # their pipelines: a random resized crop and a flip
        changes = (
            augment.scale_min,
            augment.flip,
            augment.grey,
            augment.colour,
            augment.mixup,
            augment.cutmix,
        )
        assert changes == (0.08, 0.5, 0, 0, 0, 0)
        assert settings.loss.label_smoothing == training.lr_floor == 0


SHOTS = {"data": {"shots": 16}}


def _assert_as_declared(settings: Settings, method: str, preset: str | None) -> None:
    text, vision, coupling, maps, terms, anchors = COMPOSITIONS[method]
    chosen = settings.method
    depths = (
        chosen.text_depth if chosen.text_length else 0,
        chosen.vision_depth if chosen.vision_length else 0,
    )
    recipe_text, recipe_vision = (9, 9) if preset is None else depths
    assert depths == (recipe_text if text is None else text, recipe_vision if vision is None else vision)
    assert (chosen.coupling, chosen.inter_modal, settings.anchors.weight) == (coupling, maps, anchors)
    assert chosen.inter_modal_free == (method != "maple")
    assert chosen.teach == (method == "recommended")
    if method == "recommended":
        assert settings.average.kind == "uniform"
    assert {name: settings.loss.weight(name) for name in settings.loss.terms()} == terms


@pytest.mark.parametrize(
    ("method", "protocol", "shots", "expected"),
    [
        (
            "coop",
            "few-shot",
            16,
            {"training": {"optimiser": "sgd", "lr": 2e-3, "epochs": 200, "batch_size": 32}},
        ),
        (
            "coop",
            "few-shot",
            2,
            {"training": {"epochs": 100}, "method": {"text_init": "", "text_length": 16}},
        ),
        ("kgcoop", "few-shot", 4, {"training": {"batch_size": 128, "weight_decay": 5e-4}}),
        (
            "maple",
            "base-to-novel",
            16,
            {"method": {"text_length": 2, "class_template": "of a {}.", "text_init": "a photo"}},
        ),
        ("promptsrc", "base-to-novel", 16, {"average": {"kind": "gaussian", "mean": 15.0, "std": 1.0}}),
        ("promptsrc", "few-shot", 16, {"average": {"mean": 30.0, "std": 30.0}, "training": {"epochs": 50}}),
        ("ivlp", "base-to-novel", 16, {"training": {"lr": 0.04, "epochs": 11, "betas": (0.9, 0.98)}}),
        ("ivlp", "few-shot", 8, {"method": {"text_length": 10, "text_depth": 12}, "training": {"lr": 8e-3}}),
        ("ga2", "few-shot", 8, {"anchors": {"negatives": ("else",), "loss": "published"}}),
    ],
)
def test_the_settings_of_the_authors(
    method: str, protocol: str, shots: int, expected: dict[str, dict[str, Any]]
) -> None:
    settings = configure(
        dataset="ucf101",
        method=method,
        protocol=protocol,
        preset="authors",
        options={"data": {"shots": shots}},
    )
    assert settings.method.preset == "authors"
    for section, values in expected.items():
        found = getattr(settings, section)
        assert {key: getattr(found, key) for key in values} == values


def test_promptsrcs_teacher_has_sixty_templates() -> None:
    templates = configure(method="promptsrc", preset="authors").method.teacher_templates
    assert len(set(templates)) == 60
    assert all(template.count("{}") == 1 for template in templates)


def test_paths_of_the_data_are_absolute_so_that_a_run_is_read_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.csv").write_text("raw,name\n")
    (tmp_path / "irrelevant").mkdir()
    lists = {"split_file": "a.txt", "test_split_file": "b.txt, c.txt", "class_names": "names.csv"}
    made = configure(dataset="ucf101", options={"data": lists, "anchors": {"source": "irrelevant"}})
    assert made.data.root == f"{tmp_path}/data/ucf101"
    assert made.data.split_file == f"{tmp_path}/a.txt"
    assert made.data.test_split_file == f"{tmp_path}/b.txt,{tmp_path}/c.txt"
    assert made.data.class_names == f"{tmp_path}/names.csv"
    assert made.anchors.source == f"{tmp_path}/irrelevant"
    (tmp_path / "old.toml").write_text(
        '[data]\ndataset = "ucf101"\nroot = "/mnt/ucf"\n[training]\nepochs = 9\nextended = [4]\n'
    )
    again = configure(recipe="old.toml")
    assert (again.data.root, again.training.epochs, again.training.extended) == ("/mnt/ucf", 9, (4,))
    other = configure(recipe="old.toml", dataset="hmdb51", options={"training": {"epochs": 3}})
    assert (other.data.root, other.training.extended) == (f"{tmp_path}/data/hmdb51", ())
    plain = configure(dataset="ucf101")
    assert (plain.data.split_file, plain.data.class_names, plain.anchors.source) == (
        "",
        "readable",
        "builtin",
    )
