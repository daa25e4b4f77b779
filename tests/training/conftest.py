"""What trainings are tested on."""

from tests.small_training import dataset as dataset
from tests.small_training import fewer_clips as fewer_clips
from tests.small_training import no_curves as no_curves
from tests.small_training import settings as settings
