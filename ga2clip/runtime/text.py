"""L2-normalised features (C, D) of class names: from the text bank, the cache or the text encoder, in this order."""

import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

from ga2clip.descriptions import ClassTexts, blamed
from ga2clip.errors import MissingExtraError, UserError
from ga2clip.labels import fill, unknown_words
from ga2clip.runtime.bundle import Bundle, TextBank
from ga2clip.runtime.card import PROVIDER_LIMIT, TEXT_ENCODER, TOKENIZER, BundleCard
from ga2clip.runtime.engine import Engine, check_provider
from ga2clip.runtime.scoring import mean_direction, normalise

if TYPE_CHECKING:
    from ga2clip.runtime.feature_cache import FeatureCache
    from ga2clip.tokenizer import Tokenizer

_TEXTS_PER_RUN = 64
_LAYOUT = "start, prompt positions, words, end"
"""The order of tokens in `ClassEncoder._ids`, part of the cache's key: another order gives other features."""


def origin(card: BundleCard, provider: str) -> dict[str, Any]:
    """Everything beside the text that influences its feature: the cache's key.

    It has the hashes of all files of the bundle, since an encoder may keep weights in any of them.
    """
    plain = {"template", "trained"}  # the text is the template filled; what was trained is in the weights
    return {
        "layout": _LAYOUT,
        "files": {name: entry.sha256 for name, entry in card.files.items()},
        "text": card.text.model_dump(mode="json", exclude=plain),
        "embedding": card.embedding,
        "provider": provider,
        "ftfy": version("ftfy"),  # cleans the text before the tokenizer
        **({"texts in a run": 1} if card.precision == "int8" else {}),  # in older versions they were several
        **({"tokenizers": _library_version()} if card.text.tokenizer == "json" else {}),
    }


def _library_version() -> str:
    try:
        return version("tokenizers")
    except PackageNotFoundError:
        raise MissingExtraError("reading this model's class names", "multilingual") from None


class ClassEncoder:
    """Encodes class names with a bundle. The text encoder and tokenizer are loaded on first use.

    cache: keep features on disk. Safe to use from several threads.
    """

    def __init__(self, bundle: Bundle, *, provider: str, threads: int, cache: bool) -> None:
        self.bank: TextBank = bundle.text_bank()
        self._bundle, self._provider, self._threads = bundle, provider, threads
        self._described = ClassTexts(bundle.card.descriptions)
        self._known = dict(zip(self.bank.classes, self.bank.features, strict=True))
        self._remember = cache
        self._lock = threading.Lock()
        self._engine: Engine | None = None

    def encode(
        self, names: Sequence[str], template: str | None, sentences: Mapping[str, Sequence[str]]
    ) -> np.ndarray:
        """Features of class names, float32 (C, D), L2-normalised; arguments as `ClipModel.encode_classes`. Without
        template and sentences, the names of the text bank keep their stored features.

        Raises UserError for a template without `{}`, for a name or sentence that is too long for the context, and for
        names that the tokenizer gives the same ids.
        """
        known = self._known if template is None else {}
        texts = {
            name: sentences.get(name) or self._texts(name, template)
            for name in names
            if name in sentences or name not in known
        }
        computed = self._computed(texts, self._alone(names, template, sentences)) if texts else {}
        return np.stack([computed[name] if name in computed else known[name] for name in names])

    def unknown_words(self, names: Sequence[str]) -> list[str]:
        """The words in names, other than those of the text bank, that the backbone has never seen."""
        others = [name for name in names if name not in self._known]
        if not others or not self._bundle.card.text.trained:
            return []
        return unknown_words(others, self._tokenizer.encode, self._bundle.card.text.trained)

    def _texts(self, name: str, template: str | None) -> Sequence[str]:
        """The texts of a class that is not in the bank, or of any with a template."""
        if template is not None:
            return (fill(template, name),)
        return self._described.of(name, self._bundle.card.text.template)

    def _alone(
        self, names: Sequence[str], template: str | None, sentences: Mapping[str, Sequence[str]]
    ) -> list[str]:
        """The texts of the classes that have a single one; classes with descriptions may share sentences."""
        texts = (sentences.get(name) or self._texts(name, template) for name in names)
        return [own[0] for own in texts if len(own) == 1]

    def _computed(self, texts: Mapping[str, Sequence[str]], alone: Sequence[str]) -> dict[str, np.ndarray]:
        """Features (D,) of classes by their texts. alone: texts of the question that must differ to the tokenizer."""
        if self._bundle.card.text.cleaning == "canonicalize":
            self._refuse_same_words(alone)  # what is in the cache is not split into tokens
        try:
            features = self._features([text for own in texts.values() for text in own], alone)
        except UserError as error:
            if self._engine is None:  # not loaded, so no text was refused
                raise
            raise blamed(error, texts, self._ids) from None
        return {
            name: mean_direction(np.stack([features[text] for text in own])) for name, own in texts.items()
        }

    def _refuse_same_words(self, texts: Sequence[str]) -> None:
        """Raises UserError for texts that are equal once punctuation is removed, which CLIP's rule tells apart."""
        from ga2clip.tokenizer import clean, refuse_same_ids

        words = (clean(text, "canonicalize") for text in texts)
        refuse_same_ids(
            texts, (np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4") for text in words)
        )

    def _features(self, texts: Sequence[str], among: Sequence[str]) -> dict[str, np.ndarray]:
        """Features (D,) by text. among: all texts of the question, which new ones must differ from to the tokenizer."""
        cached = self._cache.get(texts) if self._remember else {}
        missing = sorted({text for text in texts if text not in cached})
        computed = self._run(missing, among) if missing else {}
        if self._remember:
            self._cache.put(computed)
        return cached | computed

    @cached_property
    def _cache(self) -> "FeatureCache":
        from ga2clip.runtime.feature_cache import FeatureCache  # brings SQLite

        card = self._bundle.card
        return FeatureCache(origin(card, self._provider), card.embedding)

    def _run(self, texts: list[str], among: Sequence[str]) -> dict[str, np.ndarray]:
        """Encode texts, in batches of similar length so that little padding is computed; features (D,) by text.

        An int8 bundle scales its activations over the whole input, so its texts are encoded one by one: the features of
        a name, which are remembered, must not depend on the other names of the first question.
        """
        with self._lock:
            if self._engine is None:
                self._load()
        from ga2clip.tokenizer import refuse_same_ids

        refuse_same_ids(among, map(self._ids, among))
        rows = [(text, self._ids(text)) for text in texts]
        rows.sort(key=lambda row: row[1].size)
        computed: dict[str, np.ndarray] = {}
        together = 1 if self._bundle.card.precision == "int8" else _TEXTS_PER_RUN
        for start in range(0, len(rows), together):
            part = rows[start : start + together]
            ids = np.full((len(part), part[-1][1].size), self._bundle.card.text.pad, np.int64)
            for index, (_, row) in enumerate(part):
                ids[index, : row.size] = row
            assert self._engine is not None
            features = self._engine.run({"ids": ids})["features"]
            if features.shape != (len(part), self._bundle.card.embedding) or not np.isfinite(features).all():
                raise UserError(
                    f"{self._bundle.path}: the text encoder gave the shape {features.shape}, or NaN or infinity",
                    "export the bundle again",
                )
            computed.update(zip((text for text, _ in part), normalise(features), strict=True))
        return computed

    def _ids(self, text: str) -> np.ndarray:
        """Ids of [start, prompt positions, words, end], int64 (L,)."""
        card = self._bundle.card.text
        plain = self._tokenizer.tokens([text], context=card.context - card.prompt_tokens)[0]
        start = 0 if self._tokenizer.start is None else 1
        prompt = np.full(card.prompt_tokens, card.placeholder, np.int64)
        return np.concatenate([plain[:start], prompt, plain[start:]])

    @cached_property
    def _tokenizer(self) -> "Tokenizer":
        # Imported here: it loads ftfy and regex, which names of the text bank and the cache don't need.
        from ga2clip.tokenizer_files import read_tokenizer

        path, card = self._bundle.file(TOKENIZER), self._bundle.card.text
        return read_tokenizer(path, card.tokenizer, card.cleaning, card.pad, blank_end=card.blank_end)

    def _load(self) -> None:
        bundle = self._bundle
        engine = bundle.engine(TEXT_ENCODER, self._provider, threads=self._threads)
        if engine.provider != "cpu":
            probe, limit = bundle.probe(), PROVIDER_LIMIT[bundle.card.precision]
            check_provider(engine, "ids", probe.ids, "features", probe.text_features, limit)
        _ = self._tokenizer  # read before a text can be refused
        self._engine = engine
