"""Signing of bundles: an Ed25519 signature (RFC 8032) over the bytes of `bundle.json`, which holds the hashes of all
other files; 64 bytes in `bundle.json.sig`.

Keys are PEM files as OpenSSL writes them. OpenSSL can also check a signature:

    openssl genpkey -algorithm ed25519 -out key.pem
    openssl pkey -in key.pem -pubout -out key.pub
    openssl pkeyutl -verify -pubin -inkey key.pub -rawin -in bundle.json -sigfile bundle.json.sig
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ga2clip.errors import MissingExtraError, UserError
from ga2clip.files import replacing
from ga2clip.runtime.card import CARD

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SIGNATURE = "bundle.json.sig"
_LARGEST_KEY = 65536  # bytes, of a PEM file
_MAKE_KEY = "make one with: openssl genpkey -algorithm ed25519 -out key.pem"
_MAKE_PUBLIC = "make it from the signing key: openssl pkey -in key.pem -pubout -out key.pub"


def signing_key(path: Path) -> "Ed25519PrivateKey":
    """The private key in a PEM file.

    Raises:
        UserError: the file can't be read, or holds no unencrypted Ed25519 key.
        MissingExtraError: the extra `sign` is not installed.
    """
    serialization, ed25519 = _library()
    content = _read(path, _MAKE_KEY)
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except TypeError:
        raise UserError(
            f"the key {path} is encrypted", "decrypt it with: openssl pkey -in KEY -out PLAIN"
        ) from None
    except Exception:  # the library raises its own classes, ValueError and errors of its parser
        key = None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise UserError(f"{path} holds no Ed25519 private key", _MAKE_KEY)
    return key


def sign(folder: Path, key: "Ed25519PrivateKey") -> None:
    """Write `bundle.json.sig` into a bundle. Raises UserError when it can't be written."""
    with replacing(folder / SIGNATURE) as temporary:
        temporary.write_bytes(key.sign((folder / CARD).read_bytes()))


def check_signature(folder: Path, card: bytes, public: Path) -> None:
    """Check the signature of a bundle's card.

    Args:
        folder: the bundle.
        card: the bytes of its `bundle.json`, not yet parsed.
        public: a PEM file with the author's public key.

    Raises:
        UserError: the bundle is not signed, or not by this key, or the key can't be read.
        MissingExtraError: the extra `sign` is not installed.
    """
    key, path = _public_key(public), folder / SIGNATURE
    if not path.is_file():
        raise UserError(f"{folder} is not signed: it has no {SIGNATURE}", "ask the bundle's author for it")
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(_read(path, "copy the bundle again"), card)
    except InvalidSignature:
        raise UserError(
            f"{folder} was not signed with the key of {public}, or was changed since",
            "do not use it; get the bundle and the key again from a source that you trust",
        ) from None


def _public_key(path: Path) -> "Ed25519PublicKey":
    serialization, ed25519 = _library()
    content = _read(path, _MAKE_PUBLIC)
    try:
        key = serialization.load_pem_public_key(content)
    except Exception:  # as above
        key = None
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise UserError(f"{path} holds no Ed25519 public key", _MAKE_PUBLIC)
    return key


def _library() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise MissingExtraError("signing a bundle, and checking a signature,", "sign") from None
    return serialization, ed25519


def _read(path: Path, hint: str) -> bytes:
    """A small file. Raises UserError with the hint."""
    try:
        if not path.is_file():
            raise UserError(f"there is no file {path}", hint)
        with path.open("rb") as file:
            content = file.read(_LARGEST_KEY + 1)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}", hint) from None
    if len(content) > _LARGEST_KEY:
        raise UserError(f"{path} is too large to be a key or a signature", hint)
    return content
