"""Reads the frozen hard prompt (n, W) of coupled methods from the source that `method.hard_prompts` gives."""

import logging
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from torch import Tensor

from ga2clip.errors import UserError
from ga2clip.labels import SCENARIO_PHRASE
from ga2clip.model.backbone import Backbone
from ga2clip.model.frozen_text import phrase_embedding
from ga2clip.model.weights import read_weights, refuse_not_finite
from ga2clip.run import HARD_PROMPT, PROMPTS, current_names, load_run
from ga2clip.settings import MethodSettings

_log = logging.getLogger(__name__)

_HARD_KEYS = ("prompt_learner.ctx_VPT", "prompt_learner.ctx", HARD_PROMPT, "parts.text_prompt.layers.0")


def read_hard_prompt(settings: MethodSettings, backbone: Backbone) -> Tensor | None:
    """The frozen hard prompt (n, W) from `method.hard_prompts`: builtin, a run, a published file, or a phrase.

    A phrase is repeated to fill the soft prompt's length. None if the method has no coupling.
    Raises UserError if the source has no hard prompt for this backbone, or one of another width.
    """
    if settings.coupling == "none":
        return None
    spec = settings.hard_prompts
    if spec == "builtin":
        hard = _builtin_hard_prompt(backbone)
    elif (Path(spec) / PROMPTS).is_file():
        hard = _hard_from_run(Path(spec))
    elif Path(spec).is_file():
        hard = hard_prompt_from_file(Path(spec))
    elif Path(spec).suffix or "/" in spec:
        raise UserError(f"no hard prompt at {spec}", "give a run, a published file, or a phrase")
    else:
        hard = _hard_from_phrase(spec, backbone, settings.text_length)
    if hard.shape[1] != backbone.text.width:
        raise UserError(
            f"the hard prompt {spec} has width {hard.shape[1]}, the text tower of {backbone.name} {backbone.text.width}"
        )
    return hard


def _builtin_hard_prompt(backbone: Backbone) -> Tensor:
    file = resources.files("ga2clip.assets") / backbone.name.replace("/", "-") / "hard_prompt.safetensors"
    if not file.is_file():
        raise UserError(
            f"no built-in hard prompt for backbone {backbone.name}",
            "learn one on another dataset (ga2clip train --method coop …) and pass --hard-prompts RUN, "
            f"or pass a phrase: --hard-prompts '{SCENARIO_PHRASE}'",
        )
    with resources.as_file(file) as path:
        return hard_prompt_from_file(path)


def _hard_from_run(path: Path) -> Tensor:
    prompt = load_run(path).model().prompts().text[:1]
    if not prompt or prompt[0] is None:
        raise UserError(f"the run {path} has no text prompt to take as the hard prompt")
    return prompt[0].detach()


def hard_prompt_from_file(path: Path) -> Tensor:
    """The hard prompt (n, W) float32 in a published file or one of ours. Raises UserError for a file without one."""
    content = current_names(flat_weights(read_weights(path), path))  # ours may be of an earlier version
    for key in _HARD_KEYS:
        if key in content and content[key].ndim == 2:
            return content[key].float()
    raise UserError(f"{path} holds no hard prompt", f"looked for {', '.join(_HARD_KEYS[:2])} as (n, width)")


def _hard_from_phrase(phrase: str, backbone: Backbone, length: int) -> Tensor:
    words = phrase_embedding(backbone, phrase)
    repeats = -(-length // len(words))
    _log.info("hard prompt: '%s', %d tokens repeated to %d", phrase, len(words), length)
    return words.repeat(repeats, 1)[:length]


def flat_weights(content: Mapping[str, Any], path: str | Path) -> dict[str, Tensor]:
    """The weights in the content that `read_weights` returned for `path`, under whichever key they are nested."""
    for key in ("model_state_dict", "model", "state_dict"):
        if isinstance(content.get(key), Mapping):
            content = dict(content[key])
            break
    tensors = {name.removeprefix("module."): value for name, value in content.items()}
    if not tensors or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise UserError(f"{path} is not a checkpoint of named tensors")
    refuse_not_finite(tensors, path)
    return tensors
