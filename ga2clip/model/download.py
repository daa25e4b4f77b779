"""What open_clip downloads; whether there is a network is looked at first, since the hub tries for a minute."""

import functools
import importlib.util
import logging
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
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
    return _published(
        f"the weights '{tag}' of {name}",
        lambda: open_clip.create_model(name, pretrained=tag, force_quick_gelu=quick_gelu),
    )


def published_tokenizer(name: str) -> Any:
    """open_clip's tokenizer of an architecture that has one of Hugging Face's, from the cache or downloaded.

    Raises:
        UserError: transformers, with which open_clip reads it, is not installed, or as `published_clip`.
    """
    if importlib.util.find_spec("transformers") is None:
        raise UserError(
            f"open_clip reads the tokenizer of {name} with transformers, which is not installed",
            "pip install transformers; or download the folder of its hub and give it: --pretrained FOLDER",
        )
    return _published(f"the tokenizer of {name}", lambda: open_clip.get_tokenizer(name))


def _published(what: str, get: Callable[[], Any]) -> Any:
    from huggingface_hub import constants

    online = _answers(constants.ENDPOINT)
    if not online:
        _log.info("no answer from %s: looking for what was downloaded before", constants.ENDPOINT)
        constants.HF_HUB_OFFLINE = True  # for this process
    try:
        return get()
    except (OSError, RuntimeError) as error:
        reason = first_line(error) if online else f"no answer from {constants.ENDPOINT}"
        raise UserError(
            f"could not get {what}: {reason}",
            f"check the network connection; without one work --backbone tiny, weights on disk (--pretrained FILE), and "
            f"what was downloaded before into {constants.HF_HUB_CACHE}",
        ) from None


@functools.cache  # a tokenizer and weights are two questions
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
