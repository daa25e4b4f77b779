"""Converts published checkpoints to our models and runs.

Supported: GA2-CLIP's training checkpoint (`model_state_dict` with `prompt_learner.*`, `image_encoder.*`,
`text_encoder.*`), with or without the temporal header `Transf`, its plain hard-prompt file, and ViFi-CLIP's checkpoints
(`model`), prompted (the context named `ctx`) or fully fine-tuned. Reading is safe: nothing in a file can run code, and
unknown tensors are an error.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ga2clip.data.class_names import kind_of_names
from ga2clip.errors import UserError
from ga2clip.files import replacing
from ga2clip.hard_prompt import flat_weights, hard_prompt_from_file
from ga2clip.labels import check_class_names, read_class_list
from ga2clip.model import class_texts
from ga2clip.model.architecture import OPENAI, OPENAI_HEAD_WIDTH, VOCABULARY
from ga2clip.model.backbone import Backbone
from ga2clip.model.checkpoint import read_checkpoint
from ga2clip.model.load_backbone import backbone_from_weights
from ga2clip.model.methods import method_settings
from ga2clip.model.video_clip import VideoCLIP, build_model
from ga2clip.model.weights import read_weights
from ga2clip.run import BACKBONE, HARD_PROMPT, write_run
from ga2clip.settings import Settings
from ga2clip.text import some

_DEEP = re.compile(r"(image|text)_encoder\.transformer\.resblocks\.(\d+)\.VPT_shallow")
_TEMPORAL_HEADER = "fusion_model_state_dict"
_HEADER = "fusion_model."  # before the names of its tensors, once they are among the others
_HEADER_BLOCK = re.compile(rf"{re.escape(_HEADER)}transformer\.resblocks\.(\d+)\.(.+)")
_POOLING = "parts.pooling_transformer"
_POSITIONS = f"{_POOLING}.positions"
_TOKEN_EMBEDDING = "token_embedding.weight"
_CONTEXTS = ("prompt_learner.ctx_VPT", "prompt_learner.ctx")


def load_published(
    checkpoint: str | Path,
    clip: str | Path,
    hard_prompts: str | Path | None = None,
    classes: Sequence[str] | str | Path = (),
    template: str | None = None,
) -> VideoCLIP:
    """Load a published GA2-CLIP or ViFi-CLIP checkpoint.

    Args:
        checkpoint: the authors' training checkpoint.
        clip: the CLIP weights that training started from, in any supported file format. They are needed for the
            token embedding, which the checkpoint lacks; all other weights must be in the checkpoint.
        hard_prompts: the hard-prompt file; required if the checkpoint has a mapping layer.
        classes: the class names in the checkpoint's order, or a class list file.
        template: the class text it was tuned with; None: read from the checkpoint. For a checkpoint with text
            prompts this is only the text after the prompts, usually `{}.`.

    Returns:
        A model in evaluation mode, float32, on the CPU. Pass it to `ga2clip.open_predictor` to predict.

    Raises:
        UserError: the checkpoint has unknown, missing or misfitting tensors, numbers that are not finite or no class
            texts, or the CLIP, the classes or the template are not those of the checkpoint.

    Example:
        >>> model = load_published("ga2.pth", "ViT-B-16.pt", "hard_prompts.pth", classes="ucf101.txt")
        >>> predictor = open_predictor(model)
    """
    names = _class_names(classes)
    published = _read_published(checkpoint)
    backbone, _ = _published_backbone(published, checkpoint, clip)
    hard = None if hard_prompts is None else hard_prompt_from_file(Path(hard_prompts))
    return _assemble(published, backbone, hard, names, template, Settings(), str(checkpoint))


def import_run(
    checkpoint: Path,
    clip: Path,
    hard_prompts: Path | None,
    classes: Path,
    out: Path,
    settings: Settings | None = None,
    template: str | None = None,
) -> Path:
    """Write a published checkpoint as a run, for eval, export and predict.

    settings: what the checkpoint doesn't contain, such as its dataset and the number of frames; None: no dataset.
    A tuned backbone is stored in the run as `backbone.safetensors`; if it equals that of `clip`, it is not stored. The
    class text that the checkpoint was tuned with goes into the run's settings. Other arguments and errors: as
    `load_published`; also UserError if `out` is not empty.
    """
    names = _class_names(classes)
    published = _read_published(checkpoint)
    backbone, tuned = _published_backbone(published, checkpoint, clip)
    hard = None if hard_prompts is None else hard_prompt_from_file(hard_prompts)
    base = settings or Settings().updated({"data": {"dataset": ""}}, "import")
    if base.data.dataset:
        kind = kind_of_names(base.data.dataset, names)
        base = base.updated({"data": {"class_names": kind}}, "import")
    weights = BACKBONE if tuned else str(clip.absolute())
    base = base.updated({"backbone": {"name": OPENAI, "pretrained": weights}}, "import")
    model = _assemble(published, backbone, hard, names, template, base, str(checkpoint))
    note = {"imported": {"checkpoint": checkpoint.name, "clip": clip.name, "tuned_backbone": bool(tuned)}}
    write_run(out, model.settings, model, note)
    if tuned:
        with replacing(out / weights) as temporary:
            save_file({name: value.contiguous() for name, value in tuned.items()}, temporary)
    return out


def _class_names(classes: Sequence[str] | str | Path) -> tuple[str, ...]:
    if isinstance(classes, str | Path):
        return check_class_names(read_class_list(Path(classes)), classes)
    return check_class_names(classes)


def _read_published(checkpoint: str | Path) -> dict[str, Tensor]:
    """The flat weights of a checkpoint, those of a temporal header with `_HEADER` before their names."""
    content = read_weights(checkpoint)
    published = flat_weights(content, checkpoint)
    if header := content.get(_TEMPORAL_HEADER):
        tensors = flat_weights({"state_dict": header}, f"{checkpoint} ({_TEMPORAL_HEADER})")
        published |= {_HEADER + name: value for name, value in tensors.items()}
    if any(name.startswith(("visual.", "vision_model.")) for name in published):
        raise UserError(
            f"{checkpoint} is a CLIP to start from (a backbone), not a checkpoint of tuned prompts",
            f"nothing is to be imported: --pretrained {checkpoint} takes it as it is",
        )
    _refuse_missing_prompts(content.get("config"), published, checkpoint)
    return published


def _refuse_missing_prompts(config: Any, published: Mapping[str, Tensor], checkpoint: str | Path) -> None:
    """ViFi-CLIP stores its settings beside the weights: in how many blocks each tower has prompts.

    Without the last of them the rest would load as a shallower model.
    """
    try:
        said = config["TRAINER"]["ViFi_CLIP"]
        depths = {
            "image": said["PROMPT_DEPTH_VISION"] if said["PROMPT_MODEL"] else 0,
            "text": said["PROMPT_DEPTH_TEXT"] if said["PROMPT_MODEL"] else 0,
        }
    except (TypeError, KeyError, IndexError):
        return  # another trainer's settings, or none
    for tower, depth in depths.items():
        blocks = {
            name.split(".")[3] for name in published if name.startswith(f"{tower}_encoder.transformer.")
        }
        inputs = {"image": {"image_encoder.VPT"}, "text": set(_CONTEXTS)}[tower]
        deep = [match for match in map(_DEEP.fullmatch, published) if match and match[1] == tower]
        layers = len(deep) + bool(inputs & published.keys())
        if isinstance(depth, int) and layers < min(depth, len(blocks)):
            raise UserError(
                f"{checkpoint} is incomplete; missing: {tower} prompts of {depth - layers} of the {depth} blocks "
                "that its settings name",
                "take the checkpoint as its training saved it",
            )


def _published_backbone(
    published: Mapping[str, Tensor], checkpoint: str | Path, clip: str | Path
) -> tuple[Backbone, dict[str, Tensor]]:
    """The checkpoint's backbone, and its weights if they differ from those of `clip` (else an empty dict)."""
    given = read_checkpoint(clip).tensors
    own = {name: value for name, value in published.items() if _is_backbone(name)}
    _refuse_another_clip(own, given, checkpoint, clip)
    needed = {_published_name(name) for name in given} - {_published_name(_TOKEN_EMBEDDING)}
    if missing := sorted(needed - own.keys()):
        raise UserError(
            f"{checkpoint} is incomplete; missing of its backbone: {some(missing)}",
            "only the token embedding, which these checkpoints lack, is taken from --clip-weights",
        )
    own = {_clip_name(name): value for name, value in own.items()}
    tuned = any(_differs(value, given[name]) for name, value in own.items())
    weights = {**given, **own} if tuned else given
    # Both repositories build their CLIP by OpenAI's own `build_model`.
    backbone = backbone_from_weights(
        weights, source=f"{checkpoint} with {clip}", quick_gelu=True, head_width=OPENAI_HEAD_WIDTH
    )
    return backbone, weights if tuned else {}


def _refuse_another_clip(
    own: Mapping[str, Tensor], given: Mapping[str, Tensor], checkpoint: str | Path, clip: str | Path
) -> None:
    """A checkpoint started from a CLIP of its own shapes. Errors: UserError naming what differs."""
    hint = "give the CLIP that it was tuned from: --clip-weights FILE"
    embedding = given.get(_TOKEN_EMBEDDING)
    if embedding is None:
        raise UserError(f"{clip} has no token embedding, which {checkpoint} needs", hint)
    others = [
        name
        for name, value in own.items()
        if (start := given.get(_clip_name(name))) is None or start.shape != value.shape
    ]
    if others:
        raise UserError(f"{clip} is not the CLIP of {checkpoint}: not the same shape: {some(others)}", hint)
    if len(embedding) != VOCABULARY:
        raise UserError(f"{clip} has a vocabulary of {len(embedding):,}, not CLIP's {VOCABULARY:,}", hint)


def _is_backbone(name: str) -> bool:
    branch = name.startswith(("image_encoder.", "text_encoder."))
    return name == "logit_scale" or (branch and not name.endswith(("VPT", "VPT_shallow")))


def _clip_name(name: str) -> str:
    return name.replace("image_encoder.", "visual.", 1).replace("text_encoder.", "", 1)


def _published_name(name: str) -> str:
    """The inverse of `_clip_name`."""
    if name.startswith("visual."):
        return name.replace("visual.", "image_encoder.", 1)
    return name if name == "logit_scale" else f"text_encoder.{name}"


def _differs(value: Tensor, given: Tensor) -> bool:
    """Whether a stored weight differs from the CLIP's, compared in the precision of the checkpoint."""
    return value.shape != given.shape or not torch.equal(value, given.to(value.dtype))


def _assemble(
    published: Mapping[str, Tensor],
    backbone: Backbone,
    hard: Tensor | None,
    classes: Sequence[str],
    template: str | None,
    base: Settings,
    source: str,
) -> VideoCLIP:
    state = published_prompts(published, hard, source)
    _fit_header(state, base.data.frames, source)
    method = _describe(state)
    prompted = bool(method["text_length"])
    template = class_texts.find_template(published, backbone, classes, source, template, prompted=prompted)
    method["class_template" if prompted else "scenario_template"] = template
    settings = base.updated(method_settings(method["name"]), source).updated({"method": method}, source)
    model = build_model(backbone, settings, classes, state.get(HARD_PROMPT))
    model.load_trainable_state(state, source)
    return model.eval()


def _fit_header(state: dict[str, Tensor], frames: int, source: str) -> None:
    """Turn a published temporal header into our pooling for as many frames as it is used with.

    It has a position for each of 77 frame numbers, of which the first T are used, and adds all of its output.
    """
    pooling = [name for name in state if name.startswith(f"{_POOLING}.")]
    if not pooling:
        return
    positions = state.get(_POSITIONS)
    if positions is None or positions.ndim != 2 or len(pooling) == 1:
        lacking = "blocks" if positions is not None else "positions"
        raise UserError(f"{source} is incomplete; missing: the {lacking} of its temporal header")
    if frames > len(positions):
        raise UserError(
            f"{source} has positions for {len(positions)} frames, not {frames}", "set data.frames lower"
        )
    state[_POSITIONS] = positions[:frames].clone()
    state[f"{_POOLING}.gate"] = torch.ones(positions.shape[1])


def published_prompts(published: Mapping[str, Tensor], hard: Tensor | None, source: str) -> dict[str, Tensor]:
    """The prompt tensors of a published state dict under our names.

    Raises UserError for tensors that are neither prompts, backbone nor class texts, for a mapping layer without a hard
    prompt, and for a hard prompt without a mapping layer.
    """
    state: dict[str, Tensor] = {}
    unknown = []
    for name, value in published.items():
        ours = _our_name(name)
        if ours:
            state[ours] = value.float()
        elif not _is_backbone(name) and name not in class_texts.KEYS:
            unknown.append(name)
    if unknown:
        raise UserError(f"{source} holds tensors that no known layout has: {', '.join(unknown[:6])}")
    coupled = "parts.coupling.mapping.weight" in state
    if coupled and hard is None:
        raise UserError(f"{source} has a mapping layer, so it needs its hard prompt", "--hard-prompts FILE")
    if coupled and hard is not None:
        state[HARD_PROMPT] = hard.float()
    elif hard is not None:
        raise UserError(f"{source} has no mapping layer for a hard prompt", "leave out --hard-prompts")
    return state


def _our_name(name: str) -> str | None:
    if name in _CONTEXTS:
        return "parts.text_prompt.layers.0"
    if name == "image_encoder.VPT":
        return "parts.vision_prompt.layers.0"
    if name.startswith("prompt_learner.proj_b2n_VPT.0."):
        return "parts.coupling.mapping." + name.rsplit(".", 1)[1]
    if name == f"{_HEADER}frame_position_embeddings.weight":
        return _POSITIONS
    if block := _HEADER_BLOCK.fullmatch(name):
        return f"{_POOLING}.blocks.{block[1]}.{block[2]}"
    deep = _DEEP.fullmatch(name)
    if deep:
        return f"parts.{'vision' if deep[1] == 'image' else 'text'}_prompt.layers.{deep[2]}"
    return None


def _describe(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The method settings that a published state dict implies."""

    def size(branch: str) -> tuple[int, int]:
        layers = [value for name, value in state.items() if name.startswith(f"parts.{branch}_prompt.layers.")]
        return (len(layers[0]), len(layers)) if layers else (0, 0)

    (text_length, text_depth), (vision_length, vision_depth) = size("text"), size("vision")
    coupled = HARD_PROMPT in state
    blocks = {name.split(".")[3] for name in state if name.startswith(f"{_POOLING}.blocks.")}
    pooling = {"pooling": "transformer", "pooling_layers": len(blocks)} if blocks else {}
    prompted = "ga2" if coupled else "ivlp"
    return {
        "name": prompted if text_length or vision_length else "zero-shot",  # of a backbone that may be tuned
        "text_length": text_length,
        "text_depth": text_depth,
        "vision_length": vision_length,
        "vision_depth": vision_depth,
        "coupling": "mapping" if coupled else "none",
        "hard_prompts": "imported" if coupled else "builtin",
        **pooling,
    }
