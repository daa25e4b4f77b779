"""Published checkpoints and hard prompts go in; models and runs of ours come out.

Layouts read: GA2-CLIP's training checkpoint (`model_state_dict` with `prompt_learner.*`, `image_encoder.*`,
`text_encoder.*`), its plain hard-prompt file, and ViFi-CLIP's V-L prompting checkpoint (`model`, the context
named `ctx`). Reading is safe: nothing in a file can run code, and every tensor must be accounted for.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ga2clip.errors import UserError
from ga2clip.files import replacing
from ga2clip.labels import check_class_names, fill, read_class_list
from ga2clip.model.architecture import OPENAI, OPENAI_HEAD_WIDTH
from ga2clip.model.backbone import Backbone
from ga2clip.model.frozen_text import phrase_embedding
from ga2clip.model.load_backbone import backbone_from_weights
from ga2clip.model.methods import method_settings
from ga2clip.model.video_clip import VideoCLIP, build_model
from ga2clip.model.weights import read_weights
from ga2clip.run import BACKBONE, HARD_PROMPT, PROMPTS, load_run, write_run
from ga2clip.settings import MethodSettings, Settings

_log = logging.getLogger(__name__)

_HARD_KEYS = ("prompt_learner.ctx_VPT", "prompt_learner.ctx", HARD_PROMPT, "parts.text_prompt.layers.0")
_DEEP = re.compile(r"(image|text)_encoder\.transformer\.resblocks\.(\d+)\.VPT_shallow")
_CONTEXTS = ("prompt_learner.ctx_VPT", "prompt_learner.ctx")
# Embeddings of the training classes' texts: checked against the class list, then not needed.
_CLASS_TEXT = (
    "prompt_learner.token_prefix",
    "prompt_learner.token_suffix",
    "prompt_learner.complete_text_embeddings",
)
_SAME_ROUNDING = 2e-3  # half precision of unit-scale weights: what differs by more was tuned


def load_published(
    checkpoint: str | Path,
    clip: str | Path,
    hard_prompts: str | Path | None = None,
    classes: Sequence[str] | str | Path = (),
) -> VideoCLIP:
    """A model from a published GA2-CLIP or ViFi-CLIP checkpoint, in evaluation mode, float32.

    A backbone that the checkpoint holds replaces that of `clip`, tuned or not. `ga2clip.open_predictor` takes the
    model.

    Args:
        checkpoint: their training checkpoint.
        clip: the CLIP weights they started from, in any container; needed for the token embedding, which the
            checkpoint lacks.
        hard_prompts: the hard-prompt file, where the checkpoint has a mapping layer.
        classes: the names in the checkpoint's order, or a class list file.

    Raises:
        UserError: unknown, missing or misfitting tensors, or classes that are not the checkpoint's.
    """
    names = list(read_class_list(Path(classes))) if isinstance(classes, (str, Path)) else list(classes)
    check_class_names(names)
    published = _state_dict(checkpoint)
    backbone, _ = _published_backbone(published, checkpoint, clip)
    hard = None if hard_prompts is None else _hard_from_file(Path(hard_prompts))
    return _assemble(published, backbone, hard, names, Settings(), str(checkpoint))


def import_run(
    checkpoint: Path,
    clip: Path,
    hard_prompts: Path | None,
    classes: Path,
    out: Path,
    settings: Settings | None = None,
) -> Path:
    """Write a published checkpoint as a run that eval, export and predict take like any other.

    settings: of what the checkpoint doesn't say, such as its dataset and the number of frames; None: no dataset.
    The backbone stays outside the run when it is that of `clip`; a tuned one is stored in the run as
    `backbone.safetensors`. Errors: as `load_published`, and for an `out` that holds something else.
    """
    names = read_class_list(classes)
    published = _state_dict(checkpoint)
    backbone, tuned = _published_backbone(published, checkpoint, clip)
    hard = None if hard_prompts is None else _hard_from_file(hard_prompts)
    base = settings or Settings().updated({"data": {"dataset": ""}}, "import")
    weights = BACKBONE if tuned else str(clip.absolute())
    base = base.updated({"backbone": {"name": OPENAI, "pretrained": weights}}, "import")
    model = _assemble(published, backbone, hard, names, base, str(checkpoint))
    note = {"imported": {"checkpoint": checkpoint.name, "clip": clip.name, "tuned_backbone": bool(tuned)}}
    write_run(out, model.settings, model, note)
    if tuned:
        with replacing(out / weights) as temporary:
            save_file({name: value.contiguous() for name, value in tuned.items()}, temporary)
    return out


def read_hard_prompt(settings: MethodSettings, backbone: Backbone) -> Tensor | None:
    """The frozen hard prompt (n, W) that `method.hard_prompts` names: builtin, a run, a published file, a phrase.

    A phrase is repeated to fill the soft prompt's length. None when nothing is coupled.
    Errors: UserError where there is none for this backbone, or its width is another.
    """
    if settings.coupling == "none":
        return None
    spec = settings.hard_prompts
    if spec == "builtin":
        hard = _builtin_hard_prompt(backbone)
    elif (Path(spec) / PROMPTS).is_file():
        hard = _hard_from_run(Path(spec))
    elif Path(spec).is_file():
        hard = _hard_from_file(Path(spec))
    elif Path(spec).suffix or "/" in spec:
        raise UserError(f"no hard prompt at {spec}", "give a run, a published file, or a phrase")
    else:
        hard = _hard_from_phrase(spec, backbone, settings.text_length)
    if hard.shape[1] != backbone.text.width:
        raise UserError(
            f"the hard prompt {spec} is {hard.shape[1]} wide, {backbone.name}'s text {backbone.text.width}"
        )
    return hard


def _builtin_hard_prompt(backbone: Backbone) -> Tensor:
    file = resources.files("ga2clip.assets") / backbone.name.replace("/", "-") / "hard_prompt.safetensors"
    if not file.is_file():
        raise UserError(
            f"no built-in hard prompt for backbone {backbone.name}",
            "learn one on another dataset (ga2clip train --method coop …) and pass --hard-prompts RUN, "
            "or pass a phrase: --hard-prompts 'a video of a person doing'",
        )
    with resources.as_file(file) as path:
        return _hard_from_file(path)


def _hard_from_run(path: Path) -> Tensor:
    prompt = load_run(path).model().prompts().text[:1]
    if not prompt or prompt[0] is None:
        raise UserError(f"the run {path} has no text prompt to take as the hard prompt")
    return prompt[0].detach()


def _hard_from_file(path: Path) -> Tensor:
    content = _state_dict(path)
    for key in _HARD_KEYS:
        if key in content and content[key].ndim == 2:
            return content[key].float()
    raise UserError(f"{path} holds no hard prompt", f"looked for {', '.join(_HARD_KEYS[:2])} as (n, width)")


def _hard_from_phrase(phrase: str, backbone: Backbone, length: int) -> Tensor:
    words = phrase_embedding(backbone, phrase)
    repeats = -(-length // len(words))
    _log.info("hard prompt: '%s', %d tokens repeated to %d", phrase, len(words), length)
    return words.repeat(repeats, 1)[:length]


def _state_dict(path: str | Path) -> dict[str, Tensor]:
    """The flat weights of a checkpoint, whatever key its author nested them under."""
    content = read_weights(path)
    for key in ("model_state_dict", "model", "state_dict"):
        if isinstance(content.get(key), Mapping):
            content = dict(content[key])
            break
    tensors = {name.removeprefix("module."): value for name, value in content.items()}
    if not tensors or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise UserError(f"{path} is not a checkpoint of named tensors")
    return tensors


def _published_backbone(
    published: Mapping[str, Tensor], checkpoint: str | Path, clip: str | Path
) -> tuple[Backbone, dict[str, Tensor]]:
    """The checkpoint's backbone, and its weights if they are not those of `clip` (else nothing)."""
    given = _state_dict(clip)
    own = {_clip_name(name): value for name, value in published.items() if _is_backbone(name)}
    weights = {**given, **own}
    # Both repositories build their CLIP by OpenAI's own `build_model`.
    backbone = backbone_from_weights(
        weights, source=f"{checkpoint} with {clip}", quick_gelu=True, head_width=OPENAI_HEAD_WIDTH
    )
    tuned = any(name not in given or _differs(value, given[name]) for name, value in own.items())
    return backbone, dict(weights) if tuned else {}


def _is_backbone(name: str) -> bool:
    branch = name.startswith(("image_encoder.", "text_encoder."))
    return name == "logit_scale" or (branch and not name.endswith(("VPT", "VPT_shallow")))


def _clip_name(name: str) -> str:
    return name.replace("image_encoder.", "visual.", 1).replace("text_encoder.", "", 1)


def _differs(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape:
        return True
    return not torch.allclose(a.float(), b.float(), rtol=_SAME_ROUNDING, atol=_SAME_ROUNDING * 1e-1)


def _assemble(
    published: Mapping[str, Tensor],
    backbone: Backbone,
    hard: Tensor | None,
    classes: Sequence[str],
    base: Settings,
    source: str,
) -> VideoCLIP:
    state = published_prompts(published, hard, source)
    method = _describe(state)
    settings = base.updated(method_settings(method["name"]), source).updated({"method": method}, source)
    _check_class_text(published, backbone, classes, method["text_length"], source)
    model = build_model(backbone, settings, classes, state.get(HARD_PROMPT))
    model.load_trainable_state(state, source)
    return model.eval()


def published_prompts(published: Mapping[str, Tensor], hard: Tensor | None, source: str) -> dict[str, Tensor]:
    """The prompt tensors of a published state dict under our names.

    Errors: UserError for tensors that are neither prompts, backbone nor class texts; for a mapping layer
    without hard prompt, and the reverse.
    """
    state: dict[str, Tensor] = {}
    unknown = []
    for name, value in published.items():
        ours = _our_name(name)
        if ours:
            state[ours] = value.float()
        elif not _is_backbone(name) and name not in _CLASS_TEXT:
            unknown.append(name)
    if unknown:
        raise UserError(f"{source} holds tensors that no known layout has: {', '.join(unknown[:6])}")
    coupled = "parts.coupling.mapping.weight" in state
    if coupled and hard is None:
        raise UserError(f"{source} has a mapping layer, so it needs its hard prompt", "--hard-prompts FILE")
    if coupled and hard is not None:
        state[HARD_PROMPT] = hard.float()
    elif hard is not None:
        raise UserError(f"{source} has no mapping layer for a hard prompt", "leave --hard-prompts away")
    return state


def _our_name(name: str) -> str | None:
    if name in _CONTEXTS:
        return "parts.text_prompt.layers.0"
    if name == "image_encoder.VPT":
        return "parts.vision_prompt.layers.0"
    if name.startswith("prompt_learner.proj_b2n_VPT.0."):
        return "parts.coupling.mapping." + name.rsplit(".", 1)[1]
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
    return {
        "name": "ga2" if coupled else "ivlp",
        "text_length": text_length,
        "text_depth": text_depth,
        "vision_length": vision_length,
        "vision_depth": vision_depth,
        "coupling": "mapping" if coupled else "none",
        "hard_prompts": "imported" if coupled else "builtin",
    }


def _check_class_text(
    published: Mapping[str, Tensor], backbone: Backbone, classes: Sequence[str], length: int, source: str
) -> None:
    """Compare the checkpoint's embedded class texts with the names given: wrong or reordered names are refused."""
    suffix = published.get("prompt_learner.token_suffix")
    if suffix is None:
        return
    if len(suffix) != len(classes):
        raise UserError(f"{source} was tuned on {len(suffix)} classes, the list has {len(classes)}")
    texts = [fill("{}.", name) for name in classes]
    ids = backbone.tokenizer.tokens(
        texts, length=backbone.context_length - length, context=backbone.context_length
    )
    expected = backbone.text.embed(torch.from_numpy(ids[:, 1:]))
    width = min(expected.shape[1], suffix.shape[1])
    wrong = [
        (expected[i, :width] - suffix[i, :width].float()).abs().amax().item() > 1e-2
        for i in range(len(classes))
    ]
    if any(wrong):
        name = classes[wrong.index(True)]
        raise UserError(
            f"class {wrong.index(True) + 1} of the list, '{name}', is not what {source} was tuned on there",
            "give the names in the checkpoint's order, spelled as its label file has them",
        )
