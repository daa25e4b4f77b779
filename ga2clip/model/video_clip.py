"""A backbone and a method's settings go in; `VideoCLIP` comes out: videos (B, T, 3, H, W) → logits (B, C).

Video features are the mean of the frames' unnormalised features, as the published GA2-CLIP computes them;
logits are exp(logit_scale) times cosines.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ga2clip.errors import UserError
from ga2clip.labels import fill
from ga2clip.model.anchors import frozen_text_features, negative_features, warn_if_inert
from ga2clip.model.backbone import Backbone, load_exactly
from ga2clip.model.losses import TERMS, Features, active_terms, cosine, share_of_update
from ga2clip.model.prompts import PromptLearner, Prompts
from ga2clip.settings import Settings

_FROZEN_TEXT_TERMS = {"scenario", "kgcoop", "text_consistency", "logit_consistency"}
_FROZEN_VIDEO_TERMS = {"image_consistency", "logit_consistency"}


class LossOutput(NamedTuple):
    """total: () the weighted sum to differentiate; terms: each term unweighted, detached; logits: (B, C) detached."""

    total: Tensor
    terms: dict[str, Tensor]
    logits: Tensor


class VideoCLIP(nn.Module):
    """A prompted CLIP for videos; build it with `build_model`."""

    negatives: Tensor
    scenario: Tensor | None

    def __init__(
        self, backbone: Backbone, settings: Settings, classes: Sequence[str], prompts: PromptLearner
    ) -> None:
        super().__init__()
        self.backbone, self.settings, self.classes = backbone, settings, list(classes)
        self.prompts = prompts
        self.preprocess = backbone.preprocess
        self.loss_weights = active_terms(settings)
        # Frozen features are computed once, before anything is tuned.
        self.register_buffer("negatives", negative_features(backbone, settings.anchors), persistent=False)
        needs_scenario = (
            settings.method.linear_probe
            or _FROZEN_TEXT_TERMS & self.loss_weights.keys()
            or _preserves(settings)
        )
        scenario = self.frozen_class_features(self.classes) if needs_scenario else None
        self.register_buffer("scenario", scenario, persistent=False)
        self.classifier = (
            nn.Parameter(scenario.clone()) if settings.method.linear_probe and scenario is not None else None
        )
        self._choose_trainable()

    def _choose_trainable(self) -> None:
        tune = self.settings.method.tune
        self.backbone.vision.requires_grad_(tune in ("vision", "both"))
        self.backbone.text.requires_grad_(tune in ("text", "both"))
        if tune == "none":
            self.requires_grad_(False)

    def train(self, mode: bool = True) -> "VideoCLIP":
        """Training mode for the parts; the backbone stays in evaluation mode, as it was published."""
        super().train(mode)
        self.backbone.eval()
        return self

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.backbone.logit_scale.device

    @property
    def scale(self) -> Tensor:
        """exp(logit_scale), the temperature that multiplies cosines: () float."""
        return self.backbone.logit_scale.exp()

    @property
    def vision_trains(self) -> bool:
        """False when a video's feature is the same at every step, so that it can be computed once."""
        prompted = self.prompts.vision is not None or self.prompts.to_vision is not None
        return self.settings.method.tune != "none" and (
            prompted or self.settings.method.tune in ("vision", "both")
        )

    @property
    def text_trains(self) -> bool:
        """False when the class features are the same at every step."""
        prompted = self.prompts.text is not None or self.classifier is not None
        return self.settings.method.tune != "none" and (
            prompted or self.settings.method.tune in ("text", "both")
        )

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """Everything that trains, by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def trainable_state(self) -> dict[str, Tensor]:
        """What distinguishes this model from its backbone, the hard prompt included: what a run stores."""
        kept = {name for name, p in self.named_parameters() if p.requires_grad}
        kept |= {name for name in self.state_dict() if name.startswith("prompts.") or name == "classifier"}
        return {name: value.detach().cpu() for name, value in self.state_dict().items() if name in kept}

    def load_trainable_state(self, state: Mapping[str, Tensor], source: str = "the run") -> None:
        """Load what `trainable_state` gave. Errors: UserError listing missing and unexpected tensors."""
        expected = self.trainable_state().keys()
        frozen = {name: value for name, value in self.state_dict().items() if name not in expected}
        clash = sorted(state.keys() & frozen.keys())
        if clash:
            raise UserError(f"{source} holds backbone weights that its settings do not tune: {clash[0]} …")
        load_exactly(self, {**frozen, **state}, source)

    def folded_prompts(self) -> Prompts:
        """The per-layer prompts after mapping: constants once training is over."""
        return self.prompts()

    def encode_frames(self, frames: Tensor) -> Tensor:
        """Normalised pictures (N, 3, H, W) float → (N, D) unnormalised features."""
        return self.backbone.vision(frames, self.folded_prompts().vision)

    def encode_video(self, video: Tensor) -> Tensor:
        """Clip tensor (B, T, 3, H, W) float, normalised → (B, D): the mean of its frames' features."""
        return self.encode_frames(video.flatten(0, 1)).unflatten(0, video.shape[:2]).mean(dim=1)

    def encode_classes(self, names: Sequence[str]) -> Tensor:
        """Class names → (C, D) unnormalised features; they need not be the classes of the tuning.

        A linear probe gives its trained rows for the classes it knows and the frozen text features for others.
        Errors: UserError for a name too long for the context.
        """
        if self.classifier is not None:
            return self._probe_rows(names)
        return self.backbone.text(self.class_tokens(names), self.folded_prompts().text)

    def _probe_rows(self, names: Sequence[str]) -> Tensor:
        assert self.classifier is not None
        if list(names) == self.classes:
            return self.classifier
        rows = self.frozen_class_features(names)
        known = {name: index for index, name in enumerate(self.classes)}
        return torch.stack(
            [self.classifier[known[n]] if n in known else rows[i] for i, n in enumerate(names)]
        )

    @property
    def class_template(self) -> str:
        """What stands behind the prompt positions, or the whole text where there are none."""
        method = self.settings.method
        return method.class_template if self.prompts.text_tokens else method.scenario_template

    def class_tokens(self, names: Sequence[str]) -> Tensor:
        """Class names → ids (C, S) int64 behind SOT and the prompt: words, EOT, zeros; S is the longest needed."""
        texts = [fill(self.class_template, name) for name in names]
        context = self.backbone.context_length - self.prompts.text_tokens
        ids = self.backbone.tokenizer.tokens(texts, context=context)
        return torch.from_numpy(ids[:, 1:]).to(self.device)

    @torch.no_grad()
    def frozen_class_features(self, names: Sequence[str]) -> Tensor:
        """(C, D) features of the scenario template filled with names, from the text tower without prompts."""
        texts = [fill(self.settings.method.scenario_template, name) for name in names]
        return frozen_text_features(self.backbone, texts)

    def logits(self, video: Tensor, classes: Tensor) -> Tensor:
        """Features (B, D), (C, D) → exp(logit_scale) · cosine: (B, C) float32."""
        return self.scale * cosine(video, classes)

    def losses(self, video: Tensor, labels: Tensor, *, targets: Tensor | None = None) -> LossOutput:
        """All loss terms of a batch.

        video: (B + A, T, 3, H, W), anchor videos among them. labels: (B + A,) int64, −1 for anchors. targets:
        (B, C) soft labels instead of the labels.
        """
        frozen = self.encode_frozen_video(video, labels)
        classes = self.encode_classes(self.classes)
        return self.objective(self.encode_video(video), labels, classes, targets=targets, frozen_video=frozen)

    @torch.no_grad()
    def encode_frozen_video(self, video: Tensor, labels: Tensor) -> Tensor | None:
        """As `encode_video`, by the vision tower without prompts: (B + A, D).

        labels: (B + A,) int64. Videos that no loss term compares have zeros; None where there is no such term.
        """
        wanted = torch.zeros_like(labels, dtype=torch.bool)
        if _FROZEN_VIDEO_TERMS & self.loss_weights.keys():
            wanted |= labels >= 0
        if _preserves(self.settings):
            wanted |= labels < 0
        if not wanted.any():
            return None
        found = self.backbone.vision(video[wanted].flatten(0, 1))
        found = found.unflatten(0, (-1, video.shape[1])).mean(dim=1)
        return found.new_zeros(len(video), found.shape[1]).index_put((wanted,), found)

    def objective(
        self,
        video: Tensor,
        labels: Tensor,
        classes: Tensor,
        *,
        class_ids: Tensor | None = None,
        targets: Tensor | None = None,
        frozen_video: Tensor | None = None,
        counts: tuple[int, int] | None = None,
    ) -> LossOutput:
        """The loss terms from features; parts of a batch add up to the whole.

        video: (B + A, D). labels: (B + A,) int64 into `.classes`, −1 for anchor videos. classes: (C', D).
        class_ids: (C',) int64 sorted, which of `.classes` those rows are, the batch's own among them; None: all.
        targets: (B, C) soft labels over all classes. frozen_video: (B + A, D) of `encode_frozen_video`.
        counts: labelled and anchor videos of the whole update when this is a part of it: each term is then the
        part's share, so that the sums over the parts are the terms, and the gradients, of the whole.
        """
        labelled = labels >= 0
        if targets is None:
            targets = (
                labels[labelled] if class_ids is None else torch.searchsorted(class_ids, labels[labelled])
            )
        elif class_ids is not None:
            targets = targets[:, class_ids]
        scenario = self.scenario if self.scenario is None or class_ids is None else self.scenario[class_ids]
        features = Features(
            video=video[labelled],
            classes=classes,
            logits=self.logits(video[labelled], classes),
            targets=targets,
            scale=self.scale,
            anchors=video[~labelled],
            negatives=self.negatives,
            scenario=scenario,
            frozen_video=None if frozen_video is None else frozen_video[labelled],
            frozen_anchors=None if frozen_video is None else frozen_video[~labelled],
        )
        terms = {}
        for name in self.loss_weights:
            share = share_of_update(name, features, self.settings, counts)
            terms[name] = share * TERMS[name](features, self.settings) if share else self.scale.new_zeros(())
        total = torch.stack([self.loss_weights[name] * term for name, term in terms.items()]).sum()
        return LossOutput(total, {n: t.detach() for n, t in terms.items()}, features.logits.detach())

    @torch.no_grad()
    def interpolate_backbone(self, original: Backbone, share: float) -> None:
        """Mix the tuned backbone with the original: share · tuned + (1 − share) · original (WiSE-FT, CVPR 2022)."""
        before = dict(original.named_parameters())
        for name, parameter in self.backbone.named_parameters():
            parameter.lerp_(before[name].to(parameter.device), 1 - share)


def _preserves(settings: Settings) -> bool:
    return settings.anchors.weight > 0 and settings.anchors.loss == "preserve"


def build_model(
    backbone: Backbone, settings: Settings, classes: Sequence[str], hard_prompt: Tensor | None = None
) -> VideoCLIP:
    """Put a method's parts on a backbone.

    classes: the names that are tuned on. hard_prompt: (n, W) float, needed with coupling.
    Errors: UserError for parts that do not go together.
    """
    method = settings.method
    weights = active_terms(settings)
    if method.tune in ("vision", "both") and (_FROZEN_VIDEO_TERMS & weights.keys() or _preserves(settings)):
        raise UserError(
            "image and logit consistency, and anchors that preserve, need a frozen vision tower",
            "set method.tune to prompts or text",
        )
    if _preserves(settings) and not settings.anchors.per_step:
        raise UserError("anchor loss 'preserve' needs anchor videos", "set anchors.per_step above 0")
    if method.coupling != "none" and hard_prompt is None:
        raise UserError(
            "coupling needs a hard prompt", "--hard-prompts takes a run, a published file or a phrase"
        )
    if method.linear_probe and (method.text_length or method.vision_length):
        raise UserError(
            "a linear probe takes no prompts", "set method.text_length=0 and method.vision_length=0"
        )
    warn_if_inert(settings.anchors)
    prompts = PromptLearner(
        method,
        widths=(backbone.text.width, backbone.vision.width),
        depths=(backbone.text.depth, backbone.vision.depth),
        start=_phrase_prompts(backbone, method.text_init, method.text_length),
        hard=hard_prompt if method.coupling != "none" else None,
    )
    return VideoCLIP(backbone, settings, classes, prompts)


def phrase_embedding(backbone: Backbone, phrase: str) -> Tensor:
    """A phrase → its token embeddings (n, W) without SOT and EOT. Errors: UserError for an empty phrase."""
    ids = backbone.tokenizer.encode(phrase)
    if not ids:
        raise UserError(f"the phrase '{phrase}' has no words")
    with torch.no_grad():
        return backbone.text.embed(torch.tensor(ids, device=backbone.logit_scale.device)).clone()


@torch.no_grad()
def _phrase_prompts(backbone: Backbone, phrase: str, length: int) -> list[Tensor]:
    """Soft text prompts of all layers with which the untrained model reads the phrase before every class name.

    The input prompt ends with the phrase, next to the class name, behind random tokens where it is longer. Deeper
    prompts start from what the frozen tower makes of it there, so that training starts from the zero-shot model
    instead of from one whose prompt positions were overwritten with noise.
    """
    if not phrase or not length:
        return []
    words = phrase_embedding(backbone, phrase)[-length:]
    start = torch.randn(length, words.shape[1]) * words.std()
    start[length - len(words) :] = words
    return backbone.text.prefix_states(start)
