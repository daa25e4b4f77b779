"""`VideoCLIP`: a backbone with the parts of a method; scores videos (B, T, 3, H, W) against classes.

Video features are means of unnormalised frame features, as in the published GA2-CLIP, unless a part pools them
otherwise; logits are exp(logit_scale) times cosines, plus the bias of a sigmoid model.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ga2clip.descriptions import ClassTexts, blamed
from ga2clip.errors import UserError
from ga2clip.labels import fill
from ga2clip.model.backbone import Backbone, load_exactly
from ga2clip.model.combination import check_combination
from ga2clip.model.frozen_text import class_text_features, negative_features, outlier_words, phrase_prompts
from ga2clip.model.part import (
    LearningRate,
    Part,
    Prompts,
    Site,
    Tower,
    build_parts,
    tower_size,
)
from ga2clip.model.pooling import mean_pool
from ga2clip.model.scoring import cosine, mean_directions
from ga2clip.model.term import (
    FROZEN_VISION,
    Features,
    LossOutput,
    active_terms,
    needs_of,
    weighted_sum,
)
from ga2clip.model.towers import LayerWeights
from ga2clip.model.towers import Tower as BlockTower
from ga2clip.settings import Settings
from ga2clip.tokenizer_json import JsonTokenizer

_TEXTS_AT_ONCE = 1024
"""Texts that are encoded together where no gradient is needed; a list of classes may have many sentences."""


class VideoCLIP(nn.Module):
    """A prompted CLIP for videos; build it with `build_model`."""

    negatives: Tensor
    scenario: Tensor | None
    teacher: Tensor | None
    frozen_words: Tensor | None

    def __init__(
        self, backbone: Backbone, settings: Settings, classes: Sequence[str], parts: Mapping[str, Part]
    ) -> None:
        super().__init__()
        self.backbone, self.settings, self.classes = backbone, settings, list(classes)
        self.parts = nn.ModuleDict(parts)
        self._in_order: tuple[Part, ...] = tuple(sorted(parts.values(), key=lambda part: part.order))
        self.class_texts = ClassTexts(settings.descriptions)
        self.preprocess = backbone.preprocess
        self.loss_terms = active_terms(settings)
        self.needs = needs_of(settings)
        wanted = "words" in self.needs
        self.outlier_words = outlier_words(settings.outliers, classes) if wanted else ()
        self._freeze_texts()
        self._choose_trainable()
        with torch.no_grad():
            self.text_tokens = self.eval().prompts().text_tokens
            """Prompt positions that a class text spends in the context."""
        self.check_classes(self.classes)
        self.train()

    def _freeze_texts(self) -> None:
        """Compute frozen text features once, before anything is tuned."""
        self.register_buffer(
            "negatives", negative_features(self.backbone, self.settings.anchors), persistent=False
        )
        method = self.settings.method
        scenario = (method.scenario_template,)
        teacher = method.teacher_templates or scenario
        encode = partial(class_text_features, self.backbone)
        needs = self.needs
        frozen = {
            "scenario": encode(self.classes, scenario) if "scenario" in needs else None,
            "teacher": encode(self.classes, teacher) if "teacher" in needs else None,
            "frozen_words": encode(self.outlier_words, teacher) if "words" in needs else None,
        }
        for name, features in frozen.items():
            self.register_buffer(name, features, persistent=False)

    def _choose_trainable(self) -> None:
        """Set which backbone weights train, by `method.tune`. The token embedding stays frozen, as in ViFi-CLIP
        (CVPR 2023), whose code gives embedded class texts to the text tower as a fixed buffer. As there, the
        temperature (and a sigmoid model's bias) trains when both towers train.
        """
        tune = self.settings.method.tune
        self.backbone.vision.requires_grad_(tune in ("vision", "both"))
        self.backbone.text.requires_grad_(tune in ("text", "both"))
        self.backbone.text.token_embedding.requires_grad_(False)
        for scalar in (self.backbone.logit_scale, self.backbone.logit_bias):
            if scalar is not None:
                scalar.requires_grad_(tune == "both")
        if tune == "none":
            self.requires_grad_(False)

    def train(self, mode: bool = True) -> "VideoCLIP":
        """Training mode for the parts; the backbone stays in evaluation mode, as in the published code."""
        super().train(mode)
        self.backbone.eval()
        return self

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.backbone.logit_scale.device

    @property
    def scale(self) -> Tensor:
        """exp(logit_scale), the factor on cosines: a scalar."""
        return self.backbone.logit_scale.exp()

    def trains(self, tower: Tower) -> bool:
        """Whether a tower's features change during training. If not, they can be computed once."""
        tune = self.settings.method.tune
        reached = any(tower in part.trains for part in self._in_order)
        return tune != "none" and (reached or tune in (tower, "both"))

    @property
    def features_suffice(self) -> bool:
        """Whether training can do with features of frames that are computed once: the vision tower does not train, and
        no loss term compares with frozen features that are others, since their frames see no neighbours.
        """
        frozen_are_own = self.independent_frames or FROZEN_VISION.isdisjoint(self.needs)
        return not self.trains("vision") and frozen_are_own

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """Everything that trains, by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def parameter_groups(self) -> dict[LearningRate, dict[str, nn.Parameter]]:
        """Everything that trains, by the learning rate that it trains with and by name."""
        groups: dict[LearningRate, dict[str, nn.Parameter]] = {"parts": {}, "backbone": {}}
        owners: dict[nn.Parameter, LearningRate] = {
            parameter: part.learning_rate for part in self._in_order for parameter in part.parameters()
        }
        for name, parameter in self.trainable_parameters().items():
            groups[owners.get(parameter, "backbone")][name] = parameter
        return groups

    def trainable_state(self) -> dict[str, Tensor]:
        """The tensors that a run stores: everything tuned, and the hard prompt."""
        state = self.state_dict()
        kept = self.trainable_parameters().keys() | {f"parts.{name}" for name in self.parts.state_dict()}
        return {name: value.detach().cpu() for name, value in state.items() if name in kept}

    def load_trainable_state(self, state: Mapping[str, Tensor], source: str = "the run") -> None:
        """Load tensors from `trainable_state`. Raises UserError that lists missing and unexpected tensors."""
        expected = self.trainable_state().keys()
        frozen = {name: value for name, value in self.state_dict().items() if name not in expected}
        clash = sorted(state.keys() & frozen.keys())
        if clash:
            raise UserError(f"{source} holds backbone weights that its settings do not tune: {clash[0]} …")
        load_exactly(self, {**frozen, **state}, source)

    def prompts(self) -> Prompts:
        """The prompts that enter the towers now, of all parts, and the weights where parts change them.

        They are computed at each call, with dropout in training. So an update calls this once and passes the result to
        all encoding functions; outside of training all calls give the same.
        """
        prompts = Prompts([], [])
        for part in self._in_order:
            prompts = part.prompts(prompts)
        return prompts._replace(
            text_weights=self._weights("text", self.backbone.text),
            vision_weights=self._weights("vision", self.backbone.vision),
        )

    def _weights(self, name: Tower, tower: BlockTower) -> LayerWeights:
        weights: LayerWeights = ()
        for part in self._in_order:
            changes = part.weight_changes(name)
            weights = tower.changed(changes, weights) if any(changes) else weights
        return weights

    @property
    def independent_frames(self) -> bool:
        """Whether the features of a frame depend on that frame alone, not on its neighbours in the clip."""
        return self.settings.method.frame_attention == "own"

    def encode_frames(self, video: Tensor, prompts: Prompts | None = None) -> Tensor:
        """Frame features (B, T, D), unnormalised, of a normalised clip tensor (B, T, 3, H, W) float."""
        prompts = self.prompts() if prompts is None else prompts
        frames, clip = video.flatten(0, 1), 0 if self.independent_frames else video.shape[1]
        features = self.backbone.vision(frames, prompts.vision, prompts.vision_weights, clip)
        return self.adapt_frames(features).unflatten(0, video.shape[:2])

    def adapt_frames(self, features: Tensor) -> Tensor:
        """Apply `Part.frame_features` of all parts to frame features (N, D)."""
        for part in self._in_order:
            features = part.frame_features(features)
        return features

    def encode_video(self, video: Tensor, prompts: Prompts | None = None) -> Tensor:
        """Video features (B, D), the pooled frame features, of a normalised clip tensor (B, T, 3, H, W)."""
        return self.pool(self.encode_frames(video, prompts))

    @property
    def pools(self) -> bool:
        """Whether a part changes the mean of the frame features."""
        return any(type(part).video_features is not Part.video_features for part in self._in_order)

    def pool(self, frames: Tensor) -> Tensor:
        """Video features (B, D) of frame features (B, T, D): their mean, changed by all `Part.video_features`."""
        video = mean_pool(frames)
        for part in self._in_order:
            video = part.video_features(video, frames)
        return video

    def encode_classes(
        self, names: Sequence[str], prompts: Prompts | None = None, *, chunk: int = 0
    ) -> Tensor:
        """Class names → (C, D) features, which need not be normalised; they need not be the classes of the tuning.

        A class with descriptions has the feature of its sentences, others that of the name in the template. A linear
        probe gives its trained rows for the classes it knows and text features for others.

        Args:
            names: C class names.
            prompts: as `prompts` returns them; None: computed here.
            chunk: texts whose activations are kept at a time in training; 0: all.

        Raises:
            UserError: a name or sentence is too long for the context; the message names class and text.
        """

        def encode(names: Sequence[str]) -> Tensor:
            return self.encode_texts(self.texts_of(names), prompts, chunk=chunk)

        for part in self._in_order:
            encode = partial(part.class_features, encode=encode)
        return encode(names)

    def encode_words(self, words: Sequence[str], prompts: Prompts | None = None, *, chunk: int = 0) -> Tensor:
        """Features (O, D) of words in `class_template`, whatever describes a class of that name; as their frozen ones.

        Arguments and errors as `encode_classes`.
        """
        texts = {word: (fill(self.class_template, word),) for word in words}
        return self.encode_texts(texts, prompts, chunk=chunk)

    def texts_of(self, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """The texts of each class: its sentences, or its name in `class_template`."""
        return {name: self.class_texts.of(name, self.class_template) for name in names}

    def encode_texts(
        self, texts: Mapping[str, Sequence[str]], prompts: Prompts | None = None, *, chunk: int = 0
    ) -> Tensor:
        """Features (C, D) of classes by their texts, `scoring.mean_directions`; arguments as `encode_classes`."""
        prompts = self.prompts() if prompts is None else prompts
        flat = [text for own in texts.values() for text in own]
        grad = torch.is_grad_enabled()
        size = (chunk if grad else _TEXTS_AT_ONCE) or len(flat)
        parts = [flat[start : start + size] for start in range(0, len(flat), size)]

        def encode(part: Sequence[str]) -> Tensor:
            return self.encode_tokens(self.token_ids(part), prompts)

        try:
            if len(parts) == 1:
                features = encode(flat)
            elif grad:
                features = torch.cat([checkpoint(encode, part, use_reentrant=False) for part in parts])
            else:
                features = torch.cat([encode(part) for part in parts])
        except UserError as error:
            raise blamed(error, texts, lambda text: self.token_ids([text])) from None
        return mean_directions(features, [len(own) for own in texts.values()])

    def encode_tokens(self, ids: Tensor, prompts: Prompts | None = None) -> Tensor:
        """Token ids (C, S) int64 behind SOT and the prompt → (C, D) unnormalised features."""
        prompts = self.prompts() if prompts is None else prompts
        return self.adapt_texts(self.backbone.text(ids, prompts.text, prompts.text_weights))

    def adapt_texts(self, features: Tensor) -> Tensor:
        """Apply `Part.text_features` of all parts to text features (C, D)."""
        for part in self._in_order:
            features = part.text_features(features)
        return features

    @property
    def class_template(self) -> str:
        """The template of the text after the prompt positions, or of the whole text if there are none."""
        method = self.settings.method
        return method.class_template if self.text_tokens else method.scenario_template

    def class_tokens(self, names: Sequence[str], template: str | None = None) -> Tensor:
        """The ids (C, S) of class names in a template, by default `class_template`; as `token_ids`."""
        pattern = self.class_template if template is None else template
        return self.backbone.ids([fill(pattern, name) for name in names], self.text_tokens, distinct=True)

    def token_ids(self, texts: Sequence[str]) -> Tensor:
        """Texts → ids (N, S) int64 behind SOT and the prompt: words, EOT, padding; S is the longest needed.

        Raises UserError for a text too long for the context.
        """
        return self.backbone.ids(texts, self.text_tokens)

    def check_classes(self, names: Sequence[str]) -> None:
        """Raises UserError for names that the backbone's tokenizer gives the same ids, though CLIP's would not.

        Classes with descriptions may share sentences.
        """
        if isinstance(self.backbone.tokenizer, JsonTokenizer):
            texts = [own[0] for own in self.texts_of(names).values() if len(own) == 1]
            self.backbone.ids(texts, self.text_tokens, distinct=True)

    def logits(self, video: Tensor, classes: Tensor) -> Tensor:
        """Features (B, D), (C, D) → exp(logit_scale) · cosine, plus the bias of a sigmoid model: (B, C) float32."""
        logits = self.scale * cosine(video, classes)
        return logits if self.backbone.logit_bias is None else logits + self.backbone.logit_bias

    def losses(self, video: Tensor, labels: Tensor, *, targets: Tensor | None = None) -> LossOutput:
        """All loss terms of a batch.

        video: (B + A, T, 3, H, W), anchor videos among them. labels: (B + A,) int64, −1 for anchors. targets:
        (B, C) soft labels instead of the labels.
        """
        prompts = self.prompts()
        frozen = self.encode_frozen_video(video, labels)
        classes = self.encode_classes(self.classes, prompts)
        words = self.encode_words(self.outlier_words, prompts) if self.outlier_words else None
        features = self.encode_video(video, prompts)
        return self.objective(features, labels, classes, targets=targets, frozen_video=frozen, words=words)

    @torch.no_grad()
    def encode_frozen_video(self, video: Tensor, labels: Tensor) -> Tensor | None:
        """The means of frame features by the vision tower without prompts and with its own weights: (B + A, D).

        Its frames never attend to their neighbours: it is the CLIP that was there before, as Open-VCLIP's frozen one.
        labels: (B + A,) int64. Videos that no loss term needs have zeros. None if no term needs these features.
        """
        wanted = torch.zeros_like(labels, dtype=torch.bool)
        if "frozen_video" in self.needs:
            wanted |= labels >= 0
        if "frozen_anchors" in self.needs:
            wanted |= labels < 0
        if not wanted.any():
            return None
        frames = self.backbone.vision(video[wanted].flatten(0, 1))
        features = mean_pool(frames.unflatten(0, (-1, video.shape[1])))
        return features.new_zeros(len(video), features.shape[1]).index_put((wanted,), features)

    def objective(
        self,
        video: Tensor,
        labels: Tensor,
        classes: Tensor,
        *,
        class_ids: Tensor | None = None,
        targets: Tensor | None = None,
        frozen_video: Tensor | None = None,
        words: Tensor | None = None,
        word_ids: Tensor | None = None,
        counts: tuple[int, int] | None = None,
    ) -> LossOutput:
        """The loss terms from features. The results for the pieces of an update add up to those of the whole update.

        video: (B + A, D). labels: (B + A,) int64 into `.classes`, −1 for anchor videos. classes: (C', D).
        class_ids: (C',) int64 sorted, which of `.classes` those rows are, the batch's own among them; None: all.
        targets: (B, C) soft labels over all classes. frozen_video: (B + A, D) of `encode_frozen_video`.
        words: (O, D) of `.outlier_words`, or of those that word_ids (O,) int64 names.
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
        features = Features(
            video=video[labelled],
            classes=classes,
            logits=self.logits(video[labelled], classes),
            targets=targets,
            scale=self.scale,
            scoring=self.backbone.scoring,
            anchors=video[~labelled],
            negatives=self.negatives,
            scenario=_rows(self.scenario, class_ids),
            teacher=_rows(self.teacher, class_ids),
            frozen_video=_rows(frozen_video, labelled),
            frozen_anchors=_rows(frozen_video, ~labelled),
            words=words,
            frozen_words=_rows(self.frozen_words, word_ids),
        )
        if "student" in self.needs:
            features.student_video = self._student("vision", features.video)
            features.student_classes = self._student("text", classes)
        return weighted_sum(self.loss_terms, features, self.settings, counts)

    def _student(self, tower: Tower, features: Tensor) -> Tensor:
        for part in self._in_order:
            features = part.student_features(tower, features)
        return features

    @torch.no_grad()
    def interpolate_backbone(self, original: Backbone, share: float) -> None:
        """Mix the tuned backbone with the original: share · tuned + (1 − share) · original (WiSE-FT, CVPR 2022)."""
        before = dict(original.named_parameters())
        for name, parameter in self.backbone.named_parameters():
            parameter.lerp_(before[name].to(parameter.device), 1 - share)


def build_model(
    backbone: Backbone, settings: Settings, classes: Sequence[str], hard_prompt: Tensor | None = None
) -> VideoCLIP:
    """Build a model from a backbone and the parts of the settings' method.

    classes: the names that it is tuned on. hard_prompt: (n, W) float, needed with coupling.
    Raises UserError for parts that can't be combined.
    """
    check_combination(settings, tower_size(backbone.vision))
    site = Site(
        settings=settings,
        classes=tuple(classes),
        text=tower_size(backbone.text),
        vision=tower_size(backbone.vision),
        embed_dim=backbone.embed_dim,
        hard_prompt=hard_prompt,
        phrase_prompts=partial(phrase_prompts, backbone),
        frozen_classes=lambda: class_text_features(backbone, classes, (settings.method.scenario_template,)),
    )
    return VideoCLIP(backbone, settings, classes, dict(build_parts(site)))


def _rows(features: Tensor | None, which: Tensor | None) -> Tensor | None:
    return features if features is None or which is None else features[which]
