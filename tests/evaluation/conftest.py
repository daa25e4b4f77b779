"""Runs to evaluate are trained on the same few videos as in the tests of training."""

from tests.small_training import dataset as dataset
from tests.small_training import settings as settings
