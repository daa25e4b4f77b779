"""`BundleCard`: the content of a bundle's `bundle.json`, typed and validated.

Schema 3 states how frames are resized, which kind of tokenizer the bundle has, and a scoring rule with its bias; in
schema 2 all bundles were plain CLIPs. Schema 2 states how features are pooled and scored and how class texts are
cleaned, which schema 1 left implicit. Older cards are converted when they are read.

The card is untrusted input, and may have been edited by hand: unknown or repeated keys, unknown schema versions,
values of another type, numbers out of range, parts that contradict each other and file names with a path in them are
refused before any other file of the bundle is opened.
"""

import json
from typing import Annotated, Any, Final, Literal, NoReturn

from pydantic import (
    FailFast,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    ValidationError,
    model_serializer,
    model_validator,
)

from ga2clip.choices import BundlePrecision, Cleaning, Interpolation, ResizeMode, ScoringRule
from ga2clip.errors import UserError
from ga2clip.labels import check_class_names
from ga2clip.runtime.calibration_card import (
    WIDEST_MARGIN,
    CalibrationCard,
    CardPart,
    Positive,
    ReliabilityCard,
    Share,
    Text,
)
from ga2clip.runtime.teaching import RULE
from ga2clip.text import no_key_twice, printable

SCHEMA_VERSION: Final = 3
TAUGHT_VERSION: Final = SCHEMA_VERSION + 1
"""Of bundles that were taught, so that a ga2clip which can't score as they do refuses them."""
CARD = "bundle.json"
VIDEO_ENCODER = "video_encoder.onnx"
TEXT_ENCODER = "text_encoder.onnx"
TEXT_BANK = "text_bank.npz"
TOKENIZER = "tokenizer.json"
PROBE = "probe.npz"
POOLING = "pooling.onnx"
TAUGHT = "taught.npz"
RELIABILITY = "reliability.png"

PROVIDER_LIMIT: dict[BundlePrecision, float] = {"fp32": 0.999, "fp16": 0.999, "int8": 0.99}
"""Smallest cosine to torch's features that a provider other than the CPU must reach; GPUs use TF32 or float16."""

MOST_TAUGHT = 100_000
WIDEST_TAUGHT = 4096  # a covariance of D × D is inverted
_LARGEST_CLIP = 2**24  # pixels of all frames; 300 frames of 224×224 are fewer

FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
# FailFast: report the first fault only, not every one of a long list.
Names = Annotated[tuple[Text, ...], FailFast()]
Triple = tuple[float, float, float]
Scale = Annotated[float, Field(ge=0.01, le=1e6)]
"""A factor on cosines, which differ by 2 at most: with a smaller one all classes would be equally probable, whatever
the clip shows. CLIPs have 10 to 120, and teaching makes an eighth to 32 times of it."""


class FileEntry(CardPart):
    """One file of the bundle."""

    sha256: Sha256
    bytes: int = Field(ge=0)


class PreprocessCard(CardPart):
    """The preprocessing recipe, as `ga2clip.video.Preprocess`; `mean` and `std` are already folded into the encoder and
    stand here for the record.
    """

    size: int = Field(ge=1, le=4096)
    mean: Triple
    std: tuple[Positive, Positive, Positive]
    resize_mode: ResizeMode = "shortest"
    interpolation: Interpolation = "bicubic"
    fill: int = Field(default=0, ge=0, le=255)
    colour: Literal["RGB"] = "RGB"


class SamplingCard(CardPart):
    """How frames are taken from a clip."""

    mode: Literal["segments"] = "segments"
    frames: int = Field(ge=1, le=4096)


class TextCard(CardPart):
    """How a class name becomes token ids: start, `prompt_tokens` times `placeholder`, the filled template, end.

    The ids at the prompt positions have no effect: the encoder replaces them by the folded prompt.
    """

    template: Text
    tokenizer: Literal["clip", "json"] = "clip"
    """What reads `tokenizer.json`. `clip`: this package's own byte-pair encoding. `json`: the `tokenizers` library."""
    cleaning: Cleaning = "clip"
    """How a text is cleaned before tokenising, as `ga2clip.choices.Cleaning` says."""
    pad: int = Field(default=0, ge=0, lt=2**31)
    """The id that fills texts up to a common length."""
    blank_end: bool = False
    """Whether the end token is replaced by 0 (CLIPA)."""
    prompt_tokens: int = Field(ge=0, le=1024)
    placeholder: int = Field(ge=0, lt=2**31)
    context: int = Field(ge=3, le=4096)
    trained: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], FailFast()] = ()
    """The ids of the tokens that the backbone has seen, of a backbone that has not seen them all; empty: all."""


class ScoringCard(CardPart):
    """How the features of a clip and of class names become probabilities: a softmax over `scale` times cosine, or for
    each class alone the sigmoid of `scale` times cosine plus `bias`.
    """

    rule: ScoringRule = "softmax"
    scale: Scale
    bias: float = Field(default=0.0, ge=-1e6, le=1e6)

    @model_validator(mode="after")
    def _has_its_bias(self) -> "ScoringCard":
        if self.rule == "softmax" and self.bias:
            raise ValueError("a softmax has no bias")
        return self


class BackboneCard(CardPart):
    """The CLIP that was adapted."""

    name: str
    pretrained: str
    licence: str


class RejectCard(CardPart):
    """The open-set threshold: a clip belongs to none of the classes when its best class cosine minus its best negative
    cosine is below `threshold`.
    """

    threshold: float = Field(ge=-1e6, le=1e6)
    fitted_on: str
    kept: float = Field(ge=0, le=1)
    """Fraction of the class clips, on which the threshold was fitted, that are above it."""
    rejected: float | None = Field(ge=0, le=1)
    """Fraction of the anchor clips, on which the threshold was fitted, that are below it; None: there were none."""


class OutputAgreement(CardPart):
    """One output of the ONNX model against torch: largest absolute difference (of L2-normalised features) and
    smallest cosine."""

    max_abs: float = Field(ge=0)
    min_cosine: float = Field(ge=-1.01, le=1.01)


class Agreement(CardPart):
    """What the agreement check measured when the bundle was exported."""

    outputs: dict[str, OutputAgreement]
    top1: float = Field(ge=0, le=1)
    """Share of the clips for which torch and ONNX Runtime name the same class."""
    top1_but_ties: float = Field(ge=0, le=1)
    """As `top1`, without near-ties: clips where torch's probabilities of the two classes differ by less than 0.02."""
    max_probability_error: float = Field(ge=0)
    clips: int = Field(ge=0)
    texts: int = Field(ge=0)
    tolerance: dict[str, float]


class OnnxCard(CardPart):
    """How the graphs were made."""

    opset: int
    static: bool
    float_layers: Names = ()
    """Nodes that stayed in float32 in a quantised or half-precision bundle."""


class TaughtExample(CardPart):
    """An example that a class was taught with. Its video feature is the row of the same number in `taught.npz`."""

    label: Text
    """The class name; "none of these" for `none`."""
    kind: Literal["class", "not", "none"]
    """It shows the class; something that looks like the class but is not; or none of the classes."""
    sha256: Sha256
    """Of the clip's file."""
    trained: bool = False
    """It came with the export, of a run that learned from its training clips. Written where it is so only."""

    @model_serializer(mode="wrap")
    def _short(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        tree: dict[str, Any] = whole(self)
        return tree if self.trained else {key: value for key, value in tree.items() if key != "trained"}


class TaughtCard(CardPart):
    """What the bundle was taught after its export (`ga2clip teach`)."""

    rule: Literal["gaussian-text-prior"] = RULE
    share: Share = 1.0
    """Of the rule in the scores; the rest are the zero-shot cosines. Chosen on held-out examples."""
    probe: Share = 0.0
    """The weight of logistic regression in what tells the taught classes apart. Chosen on held-out examples. 0: nothing
    does but the scores, as in models that were tuned on the examples."""
    scale: Scale
    """The factor on scores in place of `scoring.scale`, fitted on held-out examples."""
    calibration: CalibrationCard | None = None
    """In place of the bundle's, of the classes that have examples. None: there are too few."""
    reject: RejectCard | None = None
    """In place of the bundle's. None: there are too few examples; the bundle's threshold holds, or 0 where there are
    examples of "none of these"."""
    unseen: int = Field(0, ge=0, le=MOST_TAUGHT)
    """How many classes without examples beside `classes` the rule reckons with."""
    added: Names
    """Classes, the last of `classes`, that the model did not have before."""
    examples: Annotated[tuple[TaughtExample, ...], FailFast()] = Field(min_length=1, max_length=MOST_TAUGHT)

    @model_validator(mode="after")
    def _says_all_that_was_fitted(self) -> "TaughtCard":
        # Bundles of before have neither.
        if len({"share", "probe"} & self.model_fields_set) == 1:
            raise ValueError("has one of 'share' and 'probe' without the other")
        if self.calibration is not None and not self.calibration.without_negatives:
            raise ValueError("'calibration.tuned.negative_offset' does not go with examples")
        shown = sum(example.kind == "class" for example in self.examples)
        if self.calibration is not None and self.calibration.clips != shown:
            raise ValueError(
                f"'calibration.clips' is {self.calibration.clips} where {shown} 'examples' show classes"
            )
        return self


class BundleCard(CardPart):
    """The whole of `bundle.json`."""

    schema_version: int = Field(default=SCHEMA_VERSION, ge=SCHEMA_VERSION, le=TAUGHT_VERSION)
    method: str
    backbone: BackboneCard
    licence: str
    precision: BundlePrecision
    classes: Names = Field(min_length=1)
    preprocess: PreprocessCard
    sampling: SamplingCard
    text: TextCard
    independent_frames: bool = True
    """Whether the video encoder encodes each frame by itself. If not, a frame's features depend on its neighbours in
    the clip, and frames are only encoded as whole clips."""
    pooling: Literal["mean", "graph"] = "mean"
    """How the features of a clip's frames are combined into the feature of the clip: their mean, or what `pooling.onnx`
    makes of them. With a graph the video encoder gives frame features alone."""
    scoring: ScoringCard
    embedding: int = Field(ge=1, le=65536)
    reject: RejectCard | None
    calibration: CalibrationCard | None = None
    """None: probabilities are as the model gives them."""
    negatives: Names
    descriptions: dict[Text, Names] = Field(default_factory=dict)
    """Sentences by class name. Those of `classes` are folded into the text bank already, others are known by name."""
    onnx: OnnxCard
    taught: TaughtCard | None = None
    agreement: Agreement
    accuracy: dict[str, Share] = Field(default_factory=dict)
    """Accuracy of the exported model on the run's evaluation sets, where it was asked for."""
    reliability: dict[str, ReliabilityCard] = Field(default_factory=dict)
    """By evaluation set, measured with `accuracy`."""
    trained: dict[str, str | int | float | bool]
    """Dataset, protocol, shots, seed … of the run."""
    versions: dict[str, str]
    files: dict[FileName, FileEntry]

    @model_validator(mode="after")
    def _is_whole(self) -> "BundleCard":
        needed = {*self.graphs, TEXT_BANK, TOKENIZER, PROBE, *([TAUGHT] if self.taught else [])}
        if missing := needed - set(self.files):
            raise ValueError(f"lists no {', '.join(sorted(missing))}")
        if missing := {"frame_features", "video_features", "text_features"} - set(self.agreement.outputs):
            raise ValueError(f"lacks the agreement of {', '.join(sorted(missing))}")
        if self.reject is not None and not self.negatives:
            raise ValueError("has an open-set threshold but no negative prompt")
        if self.reject is not None and abs(self.reject.threshold) > WIDEST_MARGIN:
            raise ValueError(
                f"'reject.threshold' is {self.reject.threshold:g}, beyond any difference of cosines"
            )
        if self.calibration is not None:
            self._fits(self.calibration, "calibration")
        if self.sampling.frames * self.preprocess.size**2 > _LARGEST_CLIP:
            raise ValueError("'sampling.frames' frames of 'preprocess.size' would not fit into memory")
        if (self.taught is not None) != (self.schema_version == TAUGHT_VERSION):
            raise ValueError(f"'taught' belongs to schema version {TAUGHT_VERSION} and to no other")
        if self.taught is not None:
            self._fits_what_was_taught(self.taught)
        return self

    def _fits(self, calibration: CalibrationCard, where: str) -> None:
        if self.scoring.rule == "sigmoid":
            raise ValueError(f"'{where}' is for a softmax, and 'scoring.rule' is 'sigmoid'")
        if not calibration.without_negatives and not self.negatives:
            raise ValueError("has an offset for negative prompts but no negative prompt")
        try:
            calibration.fits(self.classes, self.scoring.scale)
        except ValueError as error:
            raise ValueError(f"'{where}': {error}") from None

    def _fits_what_was_taught(self, taught: TaughtCard) -> None:
        if self.embedding > WIDEST_TAUGHT:
            raise ValueError(f"a bundle with features of more than {WIDEST_TAUGHT} numbers can't be taught")
        own = len(self.classes) - len(taught.added)
        if own < 1 or self.classes[own:] != taught.added:
            raise ValueError("'taught.added' are not the last of 'classes'")
        if strange := {e.label for e in taught.examples if e.kind != "none"} - set(self.classes):
            raise ValueError(f"'taught' has examples of '{min(strange)[:60]}', which is no class")
        if not self.scoring.scale / 8.1 < taught.scale < self.scoring.scale * 32.1:
            raise ValueError(
                f"'taught.scale' is {taught.scale:g}, not from an eighth of 'scoring.scale' "
                f"({self.scoring.scale:g}) to 32 times of it"
            )
        if taught.calibration is not None:
            self._fits(taught.calibration, "taught.calibration")

    @property
    def graphs(self) -> tuple[str, ...]:
        """The names of the ONNX files that the bundle runs."""
        pooling = (POOLING,) if self.pooling == "graph" else ()
        return (VIDEO_ENCODER, *pooling, TEXT_ENCODER)

    def to_text(self) -> str:
        """The card as `bundle.json` holds it."""
        # Without these fields a card is readable for older versions, which can't do what they say.
        usual = {"taught": self.taught is None, "independent_frames": self.independent_frames}
        tree = self.model_dump(mode="json", exclude={name for name, left_out in usual.items() if left_out})
        return json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def parse_card(text: str, source: str) -> BundleCard:
    """Read a card. Raises UserError naming `source`, the field and what is wrong with it."""
    try:
        tree: Any = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=no_key_twice)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source} is not valid JSON: {error}", "export the bundle again") from None
    version = tree.get("schema_version") if isinstance(tree, dict) else None
    known = (*_OLDER, SCHEMA_VERSION, TAUGHT_VERSION)
    if version not in known or not isinstance(version, int) or isinstance(version, bool):
        raise UserError(
            f"{source} has schema version {_short(version)}; this ga2clip reads versions 1 to {TAUGHT_VERSION}",
            "use the ga2clip version that wrote the bundle, or export it again",
        )
    while tree["schema_version"] in _OLDER:
        tree = _OLDER[tree["schema_version"]](tree)
    try:
        # As JSON, since only there a list may be a tuple while a text or a truth value may not be a number.
        card = BundleCard.model_validate_json(json.dumps(tree), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part)[:60] for part in first["loc"]) or "the card"
        fault = first["msg"].removeprefix("Value error, ")
        again = "export the bundle again" + (", or teach it again" if "taught" in where + fault else "")
        raise UserError(printable(f"{source}: {where}: {fault}"), again) from None
    except RecursionError:
        raise UserError(f"{source} is nested too deeply", "export the bundle again") from None
    check_class_names(card.classes, printable(source))
    return card


def _short(value: object) -> str:
    return repr(value)[:40] if isinstance(value, str | int | float | None) else type(value).__name__


def _from_1(tree: dict[str, Any]) -> dict[str, Any]:
    """A card of schema 1 as one of schema 2: `scale` has moved; the new fields take what schema 1 implied."""
    rest = {key: value for key, value in tree.items() if key != "logit_scale"}
    scale = {"scale": tree["logit_scale"]} if "logit_scale" in tree else {}
    return {**rest, "schema_version": 2, "scoring": scale}


def _from_2(tree: dict[str, Any]) -> dict[str, Any]:
    """A card of schema 2 as one of schema 3: the one kind of resizing has got other names."""
    pixels = tree.get("preprocess")
    if isinstance(pixels, dict):
        usual = {"resize": "bicubic-short-side", "crop": "centre"}
        pixels = {key: value for key, value in pixels.items() if usual.get(key, ()) != value}
    return {**tree, "schema_version": 3, "preprocess": pixels}


_OLDER = {1: _from_1, 2: _from_2}
"""What makes a card of the next schema of one of an older schema."""


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a finite number")
