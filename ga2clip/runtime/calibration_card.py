"""The parts of a bundle's card that make probabilities of scores, and what was measured of them.

Ranges are those within which probabilities are finite and depend on the clip: numbers beyond them, of which `export`
and `teach` write none, would make every clip certain, or all clips alike, without a word.
"""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, FailFast, Field, StringConstraints, model_validator

FEWEST: Final = 20
"""Clips, to fit anything on."""
SLOPES: Final = (1e-6, 1e6)
"""Of sigmoids of logits, which are below 1e6: flatter ones are constant, and steeper ones are steps."""
WIDEST_MARGIN: Final = 2.001
"""Between two cosines, with room for rounding."""


class CardPart(BaseModel):
    """A part of a card: unknown keys and numbers that are not finite are refused."""

    # Built at first use: a part of the card is only ever read with the whole.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)


Text = Annotated[str, StringConstraints(max_length=2000)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class GroupCalibration(CardPart):
    """How sure the model may be of one group of names. The measurements are on clips that were held out in turns."""

    # The fit looks from 1/20 to 20. Differences of logits, twice the scale at most, stay above rounding and finite.
    temperature: float = Field(ge=0.01, le=100)
    """What logits are divided by before the softmax."""
    negative_offset: float | None = None
    """What is added to the logits of the negative prompts, which take part in the softmax; what they get is shared by
    all classes alike. None: they take no part."""
    slope: float = Field(ge=SLOPES[0], le=SLOPES[1])
    offset: float = Field(ge=-1e6, le=1e6)
    """The score of a class by itself: the sigmoid of `slope` times (scale times cosine) plus `offset`. It rises with
    the cosine."""
    misses: Annotated[tuple[Share, ...], FailFast()] = Field(min_length=FEWEST)
    """1 minus the probability of the true class for each calibration clip, in rising order; for sets of classes."""
    accuracy: Share
    ece_before: Share
    ece: Share
    """Expected calibration error, without and with the temperature."""
    brier_before: float = Field(ge=0, le=2)
    brier: float = Field(ge=0, le=2)
    covered: Share
    """Share of the clips whose true class is in the set of 90 % coverage, and
    the mean number of classes in it:"""
    set_size: Positive

    @model_validator(mode="after")
    def _is_in_order(self) -> "GroupCalibration":
        if any(one > other for one, other in zip(self.misses, self.misses[1:], strict=False)):
            raise ValueError("'misses' are not in rising order")
        return self


class CalibrationCard(CardPart):
    """What makes probabilities of scores, fitted by the export without test clips."""

    fitted_on: str
    clips: int = Field(ge=FEWEST)
    tuned: GroupCalibration
    """For the classes of the bundle."""
    new: GroupCalibration | None
    """For names that are far from them. None: could not be fitted, they are treated as the bundle's classes."""
    # The fit gives 0.01 at least: nearer names are the same to the model.
    reach: float = Field(ge=0.01, le=2)
    """Distance (1 minus cosine) from the nearest tuned class at which a name counts as new; nearer ones lie between."""
    thresholds: dict[Text, Share] = {}
    """From which score on a class counts as true by itself, where it has clips enough."""
    usual_threshold: Share = 0.5
    """Of all other classes, fitted to all clips and classes together."""
    misses_with_negatives: bool = True
    """Whether negative prompts took part in `misses`, as in bundles of before, which don't say so. Sets are made
    without them, so such misses make sets that are too small."""

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> "CalibrationCard":
        if self.new is not None and (self.new.negative_offset is None) != self.without_negatives:
            raise ValueError("'tuned' and 'new' both need a 'negative_offset', or neither")
        for name, group in (("tuned", self.tuned), ("new", self.new)):
            if group is not None and len(group.misses) != self.clips:
                raise ValueError(f"'{name}.misses' has {len(group.misses)} numbers for {self.clips} 'clips'")
        return self

    @property
    def without_negatives(self) -> bool:
        """Whether the negative prompts take no part in the probabilities."""
        return self.tuned.negative_offset is None

    @property
    def makes_sets(self) -> bool:
        """Whether sets of classes can be made: the misses are those of probabilities without negative prompts."""
        return self.without_negatives or not self.misses_with_negatives

    def fits(self, classes: tuple[str, ...], scale: float) -> None:
        """Raises ValueError for thresholds of other classes, or offsets beyond all logits, which `scale` bounds."""
        if strange := set(self.thresholds) - set(classes):
            raise ValueError(f"'thresholds' names '{min(strange)[:60]}', which is none of 'classes'")
        for name, group in (("tuned", self.tuned), ("new", self.new)):
            offset = 0.0 if group is None else group.negative_offset or 0.0
            if abs(offset) > WIDEST_MARGIN * scale:
                raise ValueError(f"'{name}.negative_offset' is {offset:g}, beyond twice the scale {scale:g}")


class ReliabilityCard(CardPart):
    """What the probabilities of the bundle meant on one set of test clips; `before` is without the calibration.

    95 % intervals are over clips: bootstrap, for the share covered by Wilson score.
    """

    clips: int = Field(ge=1)
    ece_before: Share
    ece: Share
    ece_interval: tuple[Share, Share]
    brier_before: float = Field(ge=0, le=2)
    brier: float = Field(ge=0, le=2)
    brier_interval: tuple[float, float]
    covered: Share | None
    """Share of the clips whose true class is in the set of 90 % coverage; None: the bundle has no calibration."""
    covered_interval: tuple[Share, Share] | None
    set_size: Positive | None
    """The mean number of classes in that set."""
