"""The methods: named sets of settings, with their sources.

A method is only data: which parts and loss terms are on, and with which weights. Coupling, anchors and the scenario
term can be added to any method, since they are settings, too.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ga2clip.errors import unknown_name
from ga2clip.labels import SCENARIO_PHRASE


@dataclass(frozen=True)
class Method:
    """A method: a description, its source, and the settings that it changes."""

    summary: str
    source: str
    settings: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class MethodRow:
    """One method: a description of its parts, its loss terms, and its number of trainable parameters."""

    name: str
    summary: str
    source: str
    parts: str
    losses: str
    parameters: int

    def to_json(self) -> dict[str, Any]:
        """The row as a dict."""
        return asdict(self)


_NO_PROMPTS = {"text_length": 0, "vision_length": 0}
_CONSISTENCY = {"text_consistency": 25.0, "image_consistency": 10.0, "logit_consistency": 1.0}

METHODS: dict[str, Method] = {
    "zero-shot": Method(
        "the backbone as it is, class names in a template",
        "CLIP, ICML 2021",
        {"method": {**_NO_PROMPTS, "tune": "none"}, "training": {"epochs": 0}},
    ),
    "linear-probe": Method(
        "a cosine classifier on frozen video features, started from the class texts",
        "CLIP, ICML 2021, sec. 3.2; text start as in WiSE-FT, CVPR 2022",
        {"method": {**_NO_PROMPTS, "linear_probe": True}},
    ),
    "coop": Method(
        "soft text prompt at the input layer",
        "CoOp, IJCV 2022",
        {"method": {"vision_length": 0, "text_depth": 1, "text_init": SCENARIO_PHRASE}},
    ),
    "vpt": Method("deep soft vision prompts", "VPT, ECCV 2022", {"method": {"text_length": 0}}),
    "ivlp": Method(
        "independent deep soft prompts in both branches",
        "ViFi-CLIP's V-L prompting, CVPR 2023",
        {"method": {"text_init": SCENARIO_PHRASE}},
    ),
    "maple": Method(
        "deep text prompts; vision prompts are linear maps of them",
        "MaPLe, CVPR 2023",
        {
            "method": {
                "text_init": SCENARIO_PHRASE,
                "inter_modal": "text-to-vision",
                "inter_modal_free": False,
            }
        },
    ),
    "kgcoop": Method(
        "soft text prompt kept near the frozen class features",
        "KgCoOp, CVPR 2023",
        {
            "method": {"vision_length": 0, "text_depth": 1, "text_init": SCENARIO_PHRASE},
            "loss": {"kgcoop": 8.0},
        },
    ),
    "promptsrc": Method(
        "independent V-L prompts; features and logits kept near the frozen ones",
        "PromptSRC, ICCV 2023 (its three consistency losses)",
        {
            "method": {"text_init": SCENARIO_PHRASE},
            "loss": _CONSISTENCY,
        },
    ),
    "vilt": Method(
        "independent deep prompts, an inter-modal map at every layer, a loss towards the scenario text",
        "ViLT-CLIP, AAAI 2024 (our reading of its maps)",
        {
            "method": {"text_init": SCENARIO_PHRASE, "inter_modal": "text-to-vision"},
            "loss": {"scenario": 1.0},
        },
    ),
    "ga2": Method(
        "deep prompts in both branches, hard prompt coupled through a mapping layer, anchors",
        "GA2-CLIP, arXiv 2511.22125",
        {"method": {"text_init": SCENARIO_PHRASE, "coupling": "mapping"}, "anchors": {"weight": 1.0}},
    ),
    "recommended": Method(
        "V-L prompts kept near the frozen model and averaged, then the classes learned from the clips in closed form",
        "composed here from PromptSRC (ICCV 2023), SWA (UAI 2018) and `ga2clip teach`; chosen in docs/benchmarks.md",
        {
            "method": {"text_init": SCENARIO_PHRASE, "teach": True},
            "loss": _CONSISTENCY,
            "average": {"kind": "uniform"},
        },
    ),
}


def get_method(name: str) -> Method:
    """The method of that name. Raises UserError with the nearest valid name."""
    if name not in METHODS:
        raise unknown_name("method", name, METHODS)
    return METHODS[name]


def method_settings(name: str) -> dict[str, dict[str, Any]]:
    """The settings tree of a method, to be merged over the defaults."""
    tree = {section: dict(values) for section, values in get_method(name).settings.items()}
    tree.setdefault("method", {})["name"] = name
    return tree
