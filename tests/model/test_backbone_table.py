"""`ga2clip backbones`: sizes, licences and the page in the docs."""

import importlib.util
import json
from pathlib import Path

import open_clip
import pytest
from typer.testing import CliRunner

from ga2clip.errors import UserError
from ga2clip.model.backbone_table import as_markdown, backbone_table
from ga2clip.model.licences import UNKNOWN, licence_of
from ga2clip_cli.app import app

ROOT = Path(__file__).resolve().parents[2]
ROWS = {row.name: row for row in backbone_table()}


def script():
    spec = importlib.util.spec_from_file_location("backbone_sizes", ROOT / "scripts/backbone_sizes.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_all_architectures_are_listed_with_their_sizes() -> None:
    assert list(ROWS) == ["tiny", *open_clip.list_models()]
    unknown = {name for name, row in ROWS.items() if None in (row.vision, row.flop)}
    assert unknown <= set(open_clip.list_models()) - set(json.loads(script().FILE.read_text()))
    no_text = {name for name, row in ROWS.items() if row.text is None}
    assert all("of transformers" in ROWS[name].reason or "CoCa" in ROWS[name].reason for name in no_text)


def test_published_sizes() -> None:
    """Radford et al. 2021, table of ViT-B/32's 151 M and 4.4 G multiply-adds; Dosovitskiy et al.: ViT-B/16, 86 M."""
    row = ROWS["ViT-B-32"]
    assert (row.vision + row.text + 1, row.flop / 2e9) == (151_277_313, pytest.approx(4.41, abs=0.01))
    assert ROWS["ViT-B-16"].flop / 2e9 == pytest.approx(17.6, abs=0.1)
    assert ROWS["PE-Core-L-14-336"].vision == pytest.approx(0.32e9, rel=0.02)  # its model card


@pytest.mark.parametrize("name", ["ViT-B-32", "PE-Core-T-16-384", "RN50"])
def test_the_file_of_sizes_is_what_its_script_counts(name: str) -> None:
    assert script().sizes(name) == json.loads(script().FILE.read_text())[name]


def test_a_model_has_as_many_parameters_as_both_towers() -> None:
    clip = open_clip.create_model("ViT-S-32-alt")
    row = ROWS["ViT-S-32-alt"]
    assert row.vision == sum(p.numel() for p in clip.visual.parameters())
    assert row.vision + row.text + 1 == sum(p.numel() for p in clip.parameters())


@pytest.mark.parametrize(
    ("name", "tag", "licence"),
    [
        ("ViT-B-16", "openai", "MIT"),
        ("ViT-B-16", "laion2b_s34b_b88k", "MIT"),
        ("ViT-B-16", "datacomp_xl_s13b_b90k", "MIT"),
        ("ViT-B-32", "commonpool_s_s13m_b4k", "MIT"),
        ("ViT-B-16", "dfn2b", "Apple ML research (non-commercial)"),
        ("ViT-H-14-378-quickgelu", "dfn5b", "Apple ML research (non-commercial)"),
        ("ViT-B-16", "metaclip_fullcc", "CC-BY-NC-4.0"),
        ("ViT-H-14-worldwide", "metaclip2_worldwide", "CC-BY-NC-4.0"),
        ("ViT-B-16-SigLIP2", "webli", "Apache-2.0"),
        ("PE-Core-B-16", "meta", "Apache-2.0"),
        ("EVA02-B-16", "merged2b_s8b_b131k", "MIT"),
        ("EVA01-g-14", "laion400m_s11b_b41k", "MIT"),
        ("ViT-L-14-CLIPA", "datacomp1b", "Apache-2.0"),
        ("ViT-H-14-CLIPA-336", "laion2b", "Apache-2.0"),
        ("MobileCLIP-S1", "datacompdr", "Apple ML research (non-commercial)"),
        ("MobileCLIP2-S0", "dfndr2b", "Apple ML research (non-commercial)"),
        ("ViTamin-L", "datacomp1b", UNKNOWN),
        ("nllb-clip-base", "v1", UNKNOWN),
        ("tiny", "builtin", "MIT"),
    ],
)
def test_licences_of_well_known_weights(name: str, tag: str, licence: str) -> None:
    assert licence_of(name, tag).name == licence
    assert ROWS[name].licences[tag].name == licence
    assert bool(ROWS[name].licences[tag].source) == (licence != UNKNOWN)


def test_a_pooling_that_a_config_leaves_open_is_said_to_be() -> None:
    row = ROWS["vit_medium_patch16_gap_256"]
    assert (row.support, row.reason) == ("none", "its config does not say how its vision tower is pooled")


def test_the_page_is_what_the_registry_says() -> None:
    page = (ROOT / "docs/backbones.md").read_text(encoding="utf-8").partition("<!-- generated -->\n")[2]
    if f"open_clip {open_clip.__version__} " not in page:
        pytest.skip("the page was made with another version of open_clip")
    assert page == as_markdown(list(ROWS.values())), "run `make docs`"


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match="PE-Core-B16") as raised:
        backbone_table("PE-Core-B16")
    assert "did you mean 'PE-Core-B-16'" in str(raised.value.hint)


def test_the_command() -> None:
    run = CliRunner().invoke
    text = run(app, ["backbones"]).stdout.splitlines()
    assert text[0].split("  ")[0] == "name"
    assert len(text) == 1 + len(ROWS)
    one = run(app, ["backbones", "MobileCLIP-S1"]).stdout
    assert "text side" in one
    assert "not everything is supported: its vision tower is convolutional" in one
    assert "https://github.com/apple/ml-mobileclip/blob/main/LICENSE_MODELS" in one
    (tree,) = json.loads(run(app, ["backbones", "ViT-B-16-SigLIP", "--json"]).stdout)
    assert tree["licences"]["webli"]["name"] == "Apache-2.0"
    assert (tree["support"], tree["image_size"]) == ("full", 224)
    assert run(app, ["backbones", "--markdown"]).stdout == as_markdown(list(ROWS.values()))
