"""A question to a `ClipModel`, class names and how to choose among them, as a `Scorer` of videos."""

from collections import deque
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from ga2clip.errors import UserError
from ga2clip.labels import comparable
from ga2clip.runtime.arguments import flag, sentence
from ga2clip.runtime.calibration import Calibration, Choice
from ga2clip.runtime.doubts import check_choice, warn_of_question
from ga2clip.runtime.model import ClipModel
from ga2clip.runtime.scoring import NONE_LABEL, Scorer
from ga2clip.runtime.taught_calibration import lacking_for_threshold

_REMEMBERED = 64  # questions, so that each is warned of once; a service may ask any number of others
Described = Mapping[str, Sequence[str]]
"""Class names with the sentences that describe them, which may be none."""


class Questions:
    """The questions that a model is asked.

    Args:
        model: encodes the class names, and says how videos are scored.
    """

    def __init__(self, model: ClipModel) -> None:
        self._model = model
        self._asked: deque[tuple[object, ...]] = deque(maxlen=_REMEMBERED)

    def scorer(
        self, described: Described, template: str | None, reject: bool, choice: Choice | None
    ) -> Scorer:
        """The scorer of a question; arguments and errors as `Predictor.scorer`. Logs what makes answers doubtful."""
        threshold = self._threshold(described) if flag("reject", reject) else None
        names, model, head = tuple(described), self._model, self._model.taught
        features = class_features(model, described, template)
        scorer = Scorer(
            names if threshold is None else (*names, NONE_LABEL),
            features,
            model.negatives,
            model.scale,
            threshold,
            model.scoring,
            model.logit_bias,
            None if head is None else head.question(names, features, model.negatives),
            self._calibration(names, features),
            choice,
        )
        check_choice(scorer, names, model.name)
        asked = (names, template, reject, repr(choice))
        if asked not in self._asked:
            self._asked.append(asked)
            taught = frozenset[str]() if head is None else head.taught_names
            lacking = ""
            if head is not None and head.fitted_threshold is None:
                lacking = lacking_for_threshold(example.kind for example in head.examples.items)
            unknown = model.unknown_words(names)
            warn_of_question(scorer, names, unknown, taught, lacking=lacking)
        return scorer

    def _threshold(self, described: Described) -> float:
        """Raises UserError where the model can't reject, or a class has the name of that answer."""
        threshold = self._model.threshold
        if threshold is None:
            raise UserError(
                f"{self._model.name} has no threshold for '{NONE_LABEL}'",
                "`ga2clip export RUN` fits it where the run's dataset is prepared; or teach clips of that answer",
            )
        if NONE_LABEL in map(comparable, described):
            raise UserError(
                f"a class is called '{NONE_LABEL}', which is the answer of a model that may reject",
                "leave this class out, or do without reject",
            )
        return threshold

    def _calibration(self, names: Sequence[str], features: np.ndarray) -> Calibration | None:
        card, head = self._model.calibration, self._model.taught
        if card is None:
            return None
        if head is not None:
            return Calibration.of_taught(card, names, head.taught_names)
        return Calibration.of(card, features, self._tuned)

    @cached_property
    def _tuned(self) -> np.ndarray:
        """Features of the model's own classes, float32 (C, D), L2-normalised; a run needs its text tower for them."""
        return self._model.encode_classes(self._model.classes, None, {})


def class_features(model: ClipModel, described: Described, template: str | None) -> np.ndarray:
    """Features of class names, float32 (C, D), L2-normalised. Raises UserError as `Predictor.encode_classes`."""
    template = sentence(template)
    sentences = {name: own for name, own in described.items() if own}
    if sentences and template is not None:
        raise UserError(
            f"a template does not go with descriptions: '{next(iter(sentences))}' has sentences of its own",
            "leave one of them out",
        )
    return model.encode_classes(tuple(described), template, sentences)
