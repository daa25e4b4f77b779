"""`Settings`: one typed tree of everything that a run can be told, with its defaults and meanings.

Unknown keys and wrong types are refused.
A run's `settings.toml` is this tree written out in full, so it repeats the run.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from ga2clip.descriptions import checked
from ga2clip.errors import UserError
from ga2clip.labels import SCENARIO_TEMPLATE
from ga2clip.registry import LOGGERS, PARTS, TERMS
from ga2clip.settings_reading import check_name, check_names, explain, merge, read_toml

Protocol = Literal["base-to-novel", "few-shot", "zero-shot", "full"]
CouplingKind = Literal["none", "concat", "mapping", "residual", "gated"]
InterModal = Literal["none", "text-to-vision", "vision-to-text", "both"]
Tune = Literal["none", "prompts", "vision", "text", "both"]
Preset = Literal["ours", "authors"]
Schedule = Literal["cosine", "timm", "dassl"]
Pooling = Literal["mean", "trend", "attention", "transformer"]
FrameAttention = Literal["own", "neighbours"]
AnchorLoss = Literal["margin", "contrast", "preserve", "published"]
Precision = Literal["fp32", "bf16", "fp16", "auto"]
_TOO_LARGE = 2**31  # for the whole numbers of NumPy's and PyTorch's functions


class _Section(BaseModel):
    # Docstrings below fields are their descriptions, which `ga2clip settings` shows.
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _is_countable(cls, value: Any) -> Any:
        if isinstance(value, int) and value >= _TOO_LARGE:
            raise PydanticCustomError("large", f"must be less than {_TOO_LARGE}")
        return value


class DataSettings(_Section):
    """Which clips are trained and tested on, and how frames are taken from them."""

    dataset: str = "stickfigures"
    """Name of the dataset; `ga2clip prepare --help` lists them."""
    root: str = ""
    """Folder of the prepared dataset; empty: `data/<dataset>` in the working folder."""
    protocol: Protocol = "base-to-novel"
    """Which classes are trained on and tested: the field's four protocols."""
    shots: int = Field(default=16, ge=0)
    """Training clips per class; 0 takes all."""
    val: float = Field(default=0.0, ge=0, lt=1)
    """Share of the training clips of each class that are kept for validation: measured after every epoch, never
    trained on. Clips of one group stay together. The run keeps the epoch with the best accuracy there (of equal ones
    that with the smaller loss), unless an average over the training is on, which needs its end; 0: no validation."""
    split: int = Field(default=1, ge=1)
    """The number of the official split, for datasets with several."""
    split_file: str = ""
    """A shared training list `path label` instead of the generated split."""
    test_split_file: str = ""
    """The test lists that go with `split_file`, separated by commas."""
    labels: str = ""
    """A CSV `id,name` that goes with the split files."""
    class_names: str = "readable"
    """Class names: `readable`, `raw` (the dataset's labels, unchanged), or a file with a name for each class in the
    dataset's order, or with lines `raw,name`."""
    frames: int = Field(default=8, ge=1, le=4096)
    """Frames taken from a clip (T)."""
    test_clips: int = Field(default=1, ge=1)
    """Temporal views in evaluation."""
    test_crops: Literal[1, 3] = 1
    """Spatial views in evaluation."""
    cache: bool = True
    """Read decoded frames from the prepared frame cache when there is one."""


class AugmentSettings(_Section):
    """Training augmentation, the same for all frames of a clip."""

    scale_min: float = Field(default=0.7, gt=0, le=1)
    """Random resized crop: smallest fraction of the frame's area; 1 switches it off."""
    flip: float = Field(default=0.5, ge=0, le=1)
    """Probability of a horizontal flip; datasets where left and right matter force 0."""
    grey: float = Field(default=0.0, ge=0, le=1)
    """Probability of dropping colour."""
    colour: float = Field(default=0.0, ge=0, le=1)
    """Probability of colour jitter: brightness and contrast by up to 40 %, saturation by 20 %, hue by a tenth of its
    circle."""
    mixup: float = Field(default=0.0, ge=0)
    """Alpha of MixUp's Beta distribution; 0 is off."""
    cutmix: float = Field(default=0.0, ge=0)
    """Alpha of CutMix's Beta distribution; 0 is off."""


class BackboneSettings(_Section):
    """The CLIP that is adapted."""

    name: str = "tiny"
    """Its architecture: `tiny` (built in) or one of open_clip's such as `ViT-B-16`. For a weights file also
    `ViT-B-16/TAG` (the architecture of those published weights), `openai` (OpenAI's architecture of any size) or a
    model config FILE.json; with `tiny` or an empty name the file and the config beside it determine it."""
    pretrained: str = "builtin"
    """`builtin`, a tag that open_clip can download such as `openai`, or a file or folder of weights."""
    quick_gelu: bool | None = None
    """The activation of a file's weights where their `name` leaves it open: QuickGELU, or GELU."""
    text_from: str = ""
    """The file that has the text tower, where `pretrained` holds a vision tower alone."""
    image_size: int = Field(default=0, ge=0, le=4096)
    """Pixels of a side of the frames that it gets, a multiple of its patch; 0: those it was trained with. The
    positions of patches are interpolated."""

    @property
    def from_file(self) -> bool:
        """Whether `pretrained` names a file or folder of weights."""
        weights = self.pretrained
        return (
            weights.endswith((".pt", ".pth", ".bin", ".safetensors")) or "/" in weights or os.sep in weights
        )


class MethodSettings(_Section):
    """The parts that a method is composed of; `ga2clip methods` shows the named compositions."""

    name: str = "ga2"
    """Name of the composition; `ga2clip methods` lists them."""
    preset: Preset = "ours"
    """The settings that a run was started with: this project's, or those that the method's authors publish."""
    text_length: int = Field(default=16, ge=0, le=1024)
    """Soft text prompt tokens; 0: no text prompt."""
    text_depth: int = Field(default=9, ge=0)
    """Number of prompted text blocks, including the input layer; in a tower with fewer layers, all."""
    vision_length: int = Field(default=16, ge=0, le=1024)
    """Soft vision prompt tokens; 0: no vision prompt."""
    vision_depth: int = Field(default=9, ge=0)
    """Vision blocks that are prompted, the input layer included; a tower with fewer layers: all."""
    text_init: str = ""
    """A phrase from which the soft text prompts start; empty: random, std 0.02, as published."""
    deep_init: Literal["phrase", "random"] = "phrase"
    """Whether deeper text prompts start from the frozen tower's hidden states of the phrase, or at random."""
    coupling: CouplingKind = "none"
    """How the frozen hard prompt is combined with the soft one: not at all, as extra tokens (`concat`), through the
    mapping layer ReLU(Linear(2W → W)) (`mapping`), with the mapping added to the soft prompt (`residual`), or with the
    mapping added through a gate that starts at zero, so that training starts from the soft prompt itself (`gated`)."""
    coupling_dropout: float = Field(default=0.5, ge=0, lt=1)
    """Dropout in the mapping layer, in training."""
    hard_prompts: str = "builtin"
    """The source of the hard prompt: `builtin`, a run, a published file, or a phrase."""
    inter_modal: InterModal = "none"
    """Linear maps between the branches' prompts, one per prompted layer."""
    inter_modal_free: bool = True
    """True: the mapped prompt is added to a free one (ViLT-CLIP); False: it replaces it (MaPLe)."""
    pooling: Pooling = "mean"
    """How the features of the frames become the feature of the video. All but the mean see the order of the frames and
    start as the mean."""
    pooling_layers: int = Field(default=1, ge=1)
    """Blocks of the pooling `transformer`; the published one has 6."""
    frame_attention: FrameAttention = "own"
    """What a frame attends to in every block of the vision tower: its own patches alone, or also those of the frames
    before and after it (Open-VCLIP). Without parameters; frames are then encoded as whole clips."""
    linear_probe: bool = False
    """A linear classifier on the frozen video feature instead of class texts."""
    teach: bool = False
    """At the end of the training, learn where the classes lie from the training clips, in closed form, as `ga2clip
    teach` does from examples."""
    tune: Tune = "prompts"
    """What trains: nothing, the parts above, or a whole tower as well (ViFi-CLIP)."""
    interpolate: float = Field(default=1.0, ge=0, le=1)
    """Share of the tuned backbone when it is mixed with the original (WiSE-FT); 1 keeps the tuned one."""
    interpolate_parts: float = Field(default=1.0, ge=0, le=1)
    """Share of the tuned parts (prompts, maps, …) when they are mixed with their start values; 1 keeps the tuned
    ones."""
    class_template: str = "{}."
    """Class text after the soft prompt; without a text prompt the `scenario_template` is used."""
    scenario_template: str = SCENARIO_TEMPLATE
    """The whole class text where no text prompt is learned, and the frozen text of the loss term `scenario`."""
    teacher_templates: tuple[str, ...] = ()
    """Templates of the frozen class texts that consistency terms compare with, averaged; none: the
    `scenario_template`."""


class AnchorSettings(_Section):
    """Generic attribute anchors: irrelevant videos against frozen negative prompts."""

    weight: float = Field(default=0.0, ge=0)
    """Weight of the anchor term; 0: no anchors."""
    loss: AnchorLoss = "margin"
    """The anchor term: `margin`, `contrast`, `preserve`, or as `published` (without a gradient where there is one
    negative prompt)."""
    margin: float = Field(default=0.1, ge=0)
    """The cosine of an anchor video with a negative prompt must exceed that with any class by this margin."""
    negatives: tuple[str, ...] = ("nothing", "an empty scene", "no person", "something else")
    """Negative prompts. The published implementation has the single word "else"."""
    negative_template: str = "a video of {}."
    """Text around each negative prompt."""
    source: str = "builtin"
    """Where anchor videos are from: `builtin` (generated irrelevant clips), `unused` (the dataset's unused
    classes) or a folder of videos."""
    per_step: int = Field(default=2, ge=0)
    """Anchor videos mixed into each batch; 0 uses the negative prompts alone, against the labelled videos."""
    every: int = Field(default=1, ge=1)
    """Anchor videos are in the first of so many updates alone, where their term counts that many times as much: on
    average the same gradient for less time."""

    @property
    def needs_videos(self) -> bool:
        """False if anchor videos can't change an update; they are then not read and encoded.

        This is the case for the published loss with one negative prompt, which adds the same number to all logits.
        """
        moves = self.loss != "published" or len(self.negatives) > 1
        return bool(self.weight and self.per_step and moves)


class LossSettings(_Section):
    """Label smoothing, and the weights of the loss terms beside cross-entropy; 0 switches a term off.

    A key is the name of a registered term (`ga2clip settings loss` lists them), its value the weight.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, NonNegativeFloat]

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target that is spread over all classes, in cross-entropy."""

    @model_validator(mode="after")
    def _known(self) -> "LossSettings":
        check_names("loss", self.__pydantic_extra__, TERMS, but=WEIGHTED_ELSEWHERE)
        return self

    def weight(self, term: str) -> float:
        """The weight of a term; 0 where the settings don't name it."""
        return self.__pydantic_extra__.get(term, 0.0)

    def terms(self) -> tuple[str, ...]:
        """The terms that are switched on."""
        return tuple(name for name, weight in self.__pydantic_extra__.items() if weight)


WEIGHTED_ELSEWHERE = frozenset({"cross_entropy", "anchor"})
"""Terms whose weight is not in `[loss]`: cross-entropy has 1, anchors have `anchors.weight`."""


class OutlierSettings(_Section):
    """Words outside the classes, for the loss term `outlier_text`."""

    words: tuple[str, ...] = ()
    """None: a list of a hundred plain words that comes with ga2clip (things, animals and places; no actions)."""
    per_step: int = Field(default=32, ge=0)
    """Words drawn for each update; 0: all."""


class AverageSettings(_Section):
    """An average of what is tuned over the training, which takes the place of the last state."""

    kind: Literal["none", "gaussian", "uniform", "exponential"] = "none"
    """gaussian: weighted by a normal density (PromptSRC, ICCV 2023). uniform: all states count the same (stochastic
    weight averaging, UAI 2018). exponential: each state counts `decay` times as much as the next (Polyak averaging)."""
    over: Literal["epochs", "updates"] = "epochs"
    """Whether the states after epochs or those after updates are averaged."""
    mean: float = 15.0
    """gaussian: the state that counts most, counted from 1, in epochs or updates as `over` says."""
    std: float = Field(default=1.0, gt=0)
    """gaussian: in epochs or updates as `over` says."""
    decay: float = Field(default=0.99, gt=0, lt=1)
    """exponential: the last 1 / (1 − decay) states count most."""


class TrainingSettings(_Section):
    """The optimisation; batch size and learning rate are the recipe's, whatever the number of devices."""

    epochs: int = Field(default=10, ge=0)
    """Passes over the training clips."""
    extended: tuple[int, ...] = ()
    """The epochs that the training had before `train --resume RUN --epochs N` made them more; until there the rate is
    that of a training of so many epochs, after it that of a longer one."""
    patience: int = Field(default=0, ge=0)
    """Epochs without a better validation (`data.val`) after which the training ends; 0: it runs to its last epoch."""
    batch_size: int = Field(default=16, ge=1)
    """Clips per update, over all devices."""
    micro_batch: int = Field(default=0, ge=0)
    """Clips per forward pass on one device, anchors included; 0: its whole share. Less memory, same update."""
    optimiser: Literal["adamw", "sgd"] = "adamw"
    """The rule of the updates."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW: decay of the first and second moment, each from 0 to below 1."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of SGD."""
    lr: float = Field(default=2e-3, gt=0)
    """Learning rate of prompts and other parts after warm-up; it falls along a cosine."""
    backbone_lr: float = Field(default=1e-5, gt=0)
    """Learning rate of tuned backbone weights (`tune` other than `prompts`)."""
    weight_decay: float = Field(default=1e-3, ge=0)
    """Decoupled with AdamW, added to the gradient with SGD."""
    warmup_epochs: float = Field(default=1.0, ge=0)
    """Epochs before the full learning rate."""
    warmup_factor: float = Field(default=0.0, ge=0, le=1)
    """Share of the rate during warm-up; 0: it rises linearly."""
    lr_floor: float = Field(default=0.0, ge=0, le=1)
    """Share of the rate at which the schedule ends."""
    schedule: Schedule = "cosine"
    """How the rate falls after warm-up. cosine: to the floor at the end, with every update; timm: the same over the
    whole training, of which warm-up cuts the beginning off; dassl: with every epoch, over as many epochs as the
    training has, counted from the end of warm-up."""
    clip_grad: float = Field(default=1.0, ge=0)
    """Largest gradient norm; 0 is off."""
    precision: Precision = "auto"
    """Autocast; `auto`: bf16 where the device has it and the backbone is large enough to gain, else fp32."""
    checkpoint_blocks: bool = False
    """Recompute activations of the blocks in the backward pass: less memory, more time."""
    compile: bool = False
    """Run the towers through torch.compile."""
    classes_per_step: int = Field(default=0, ge=0)
    """Class texts encoded per step, the batch's own classes always among them; 0: all."""
    class_chunk: int = Field(default=0, ge=0)
    """Class texts whose activations are kept at a time; the others are recomputed. Less memory, same update;
    0: all."""
    cache_features: bool = True
    """Compute a tower's features once when nothing in it trains. Training clips are then not augmented."""
    seed: int = Field(default=1, ge=0)
    """Of the drawn clips, the start of the prompts, and the order and augmentation of the clips."""
    deterministic: bool = True
    """Take deterministic kernels where there are some, so that a seed gives the same run again on one device."""
    workers: int = Field(default=0, ge=0)
    """Loader processes, at most one per processor; 0 loads in the training process."""
    checkpoint_minutes: float = Field(default=10.0, gt=0)
    """Minutes between checkpoints inside an epoch."""
    logger: str = ""
    """Where metrics go beside `metrics.jsonl`: `tensorboard`, `wandb` (extras of those names), or a registered name;
    empty: nowhere."""
    tensorboard: bool = False
    """The same as `logger = "tensorboard"`, from earlier versions."""

    @field_validator("logger", mode="after")
    @classmethod
    def _known_logger(cls, logger: str) -> str:
        if logger:
            check_name("logger", logger, LOGGERS)
        return logger

    @property
    def loggers(self) -> tuple[str, ...]:
        """The names of all that are on."""
        return tuple(dict.fromkeys(filter(None, [self.logger, "tensorboard" if self.tensorboard else ""])))

    @field_validator("betas")
    @classmethod
    def _are_decays(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in betas):
            raise PydanticCustomError("decay", "must be two numbers from 0 to below 1")
        return betas


OPTIMISATION = frozenset(
    {"epochs", "batch_size", "optimiser", "betas", "momentum", "lr", "backbone_lr", "weight_decay"}
    | {"warmup_epochs", "warmup_factor", "lr_floor", "schedule", "clip_grad"}
)
"""The settings of `[training]` that decide what an update does, not how it is computed."""


class Settings(_Section):
    """Everything needed to repeat a run."""

    data: DataSettings = DataSettings()
    augment: AugmentSettings = AugmentSettings()
    backbone: BackboneSettings = BackboneSettings()
    method: MethodSettings = MethodSettings()
    anchors: AnchorSettings = AnchorSettings()
    outliers: OutlierSettings = OutlierSettings()
    average: AverageSettings = AverageSettings()
    loss: LossSettings = Field(default_factory=lambda: LossSettings.model_validate({}))
    training: TrainingSettings = TrainingSettings()
    parts: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Settings of the parts that `[method]` does not compose, by name: the table `[parts.NAME]` switches one on."""
    descriptions: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Sentences about classes, `"class name" = ["sentence", …]`: each takes the place of the class text, and their
    features are averaged. `ga2clip train --descriptions FILE` fills this table."""

    @field_validator("parts", mode="after")
    @classmethod
    def _known_parts(cls, parts: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        check_names("parts", parts, PARTS)
        return parts

    @field_validator("descriptions", mode="before")
    @classmethod
    def _sentences(cls, table: Any) -> dict[str, tuple[str, ...]]:
        if not isinstance(table, Mapping):
            raise PydanticCustomError("table", "a table of class names with lists of sentences")
        return checked(table, "descriptions")

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any], source: str) -> "Settings":
        """Validate a nested mapping; UserError names `source`, the key and the nearest valid key."""
        try:
            return cls.model_validate(tree)
        except ValidationError as error:
            raise explain(error, source, cls) from None
        except UserError as error:  # of descriptions
            raise UserError(f"{source}: {error.message}", error.hint) from None

    @classmethod
    def read(cls, path: Path) -> "Settings":
        """Read a full or partial settings file. Raises UserError for a missing or invalid file."""
        return cls.from_dict(read_toml(path), str(path))

    def updated(self, tree: Mapping[str, Any], source: str) -> "Settings":
        """A validated copy with the settings of a nested mapping replaced."""
        return Settings.from_dict(merge(self.model_dump(), tree), source)

    def to_toml(self) -> str:
        """The whole tree as TOML text."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))
