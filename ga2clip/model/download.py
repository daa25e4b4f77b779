"""Weights that open_clip downloads; whether there is a network is looked at first, since the hub tries for a minute."""

import logging
import threading
import urllib.error
import urllib.request
from typing import Any

import open_clip

from ga2clip.errors import UserError, first_line

_log = logging.getLogger(__name__)

_PATIENCE = 5.0  # seconds; a name server that does not answer takes longer than any timeout of a connection


def published_clip(name: str, tag: str, *, quick_gelu: bool) -> Any:
    """open_clip's model with published weights, from its cache or downloaded.

    Raises:
        UserError: they are not in the cache and can't be downloaded; after some seconds where there is no network.
    """
    from huggingface_hub import constants

    online = _answers(constants.ENDPOINT)
    if not online:
        _log.info("no answer from %s: looking for weights that were downloaded before", constants.ENDPOINT)
        constants.HF_HUB_OFFLINE = True  # for this process
    try:
        return open_clip.create_model(name, pretrained=tag, force_quick_gelu=quick_gelu)
    except (OSError, RuntimeError) as error:
        reason = first_line(error) if online else f"no answer from {constants.ENDPOINT}"
        raise UserError(
            f"could not get the weights '{tag}' of {name}: {reason}",
            f"check the network connection; without one work --backbone tiny, weights on disk (--pretrained FILE), and "
            f"weights that were downloaded before into {constants.HF_HUB_CACHE}",
        ) from None


def _answers(address: str) -> bool:
    """Whether a server answers, with whatever; proxies of the environment are used."""
    answered: list[bool] = []

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=_PATIENCE).close()
            answered.append(True)
        except urllib.error.HTTPError:
            answered.append(True)
        except (OSError, ValueError):
            pass

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_PATIENCE)
    return bool(answered)
