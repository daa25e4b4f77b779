"""A signature says who wrote a bundle: checked against OpenSSL's own, and refused for anything that was changed."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ga2clip.errors import MissingExtraError, UserError
from ga2clip.runtime import Predictor, open_bundle
from ga2clip.runtime.signature import SIGNATURE, sign, signing_key

ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
from cryptography.hazmat.primitives import serialization  # noqa: E402

# RFC 8032, section 7.1, test 2: the key, and the signature of the one byte 72.
SECRET = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
OF_72 = (
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)


def write_keys(folder: Path, key: "ed25519.Ed25519PrivateKey") -> tuple[Path, Path]:
    private, public = folder / "key.pem", folder / "key.pub"
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return private, public


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return write_keys(tmp_path, ed25519.Ed25519PrivateKey.from_private_bytes(SECRET))


@pytest.fixture
def signed(handmade: Path, tmp_path: Path, keys: tuple[Path, Path]) -> Path:
    folder = tmp_path / "signed"
    shutil.copytree(handmade, folder)
    sign(folder, signing_key(keys[0]))
    return folder


def test_the_signature_is_that_of_the_standard(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    (tmp_path / "bundle.json").write_bytes(bytes([0x72]))
    sign(tmp_path, signing_key(keys[0]))
    assert (tmp_path / SIGNATURE).read_bytes().hex() == OF_72


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_openssl_agrees(signed: Path, keys: tuple[Path, Path]) -> None:
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(keys[1]), "-rawin"]
    command += ["-in", str(signed / "bundle.json"), "-sigfile", str(signed / SIGNATURE)]
    assert "Verified Successfully" in subprocess.run(command, capture_output=True, text=True).stdout


def test_a_signed_bundle_opens_with_the_key_of_its_writer(signed: Path, keys: tuple[Path, Path]) -> None:
    open_bundle(signed, signed_by=keys[1]).verify()
    with Predictor(signed, provider="cpu", cache=False, signed_by=keys[1]) as predictor:
        assert predictor.classes == ("ab", "abc")


def test_what_was_changed_or_signed_by_another_is_refused(
    signed: Path, tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    (tmp_path / "other").mkdir()
    _, other = write_keys(tmp_path / "other", ed25519.Ed25519PrivateKey.generate())
    with pytest.raises(UserError, match="was not signed with the key"):
        open_bundle(signed, signed_by=other)
    card = json.loads((signed / "bundle.json").read_text(encoding="utf-8"))
    (signed / "bundle.json").write_text(json.dumps(card | {"method": "another"}), encoding="utf-8")
    with pytest.raises(UserError, match="was changed since"):
        open_bundle(signed, signed_by=keys[1])
    (signed / SIGNATURE).unlink()
    with pytest.raises(UserError, match="not signed"):
        open_bundle(signed, signed_by=keys[1])


def test_the_signature_of_another_bundle_is_refused(
    signed: Path, handmade: Path, tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    """The same key, but another card."""
    other = tmp_path / "other"
    shutil.copytree(handmade, other)
    card = json.loads((other / "bundle.json").read_text(encoding="utf-8"))
    (other / "bundle.json").write_text(json.dumps(card | {"method": "another"}), encoding="utf-8")
    shutil.copy(signed / SIGNATURE, other / SIGNATURE)
    with pytest.raises(UserError, match="was not signed with the key"):
        open_bundle(other, signed_by=keys[1])
    for content in (b"", b"\0" * 64, b"\0" * 65, (signed / SIGNATURE).read_bytes() + b"\n"):
        (signed / SIGNATURE).write_bytes(content)
        with pytest.raises(UserError, match="was not signed with the key"):
            open_bundle(signed, signed_by=keys[1])


def test_a_signed_card_does_not_cover_for_another_file(signed: Path, keys: tuple[Path, Path]) -> None:
    path = signed / "tokenizer.json"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        open_bundle(signed, signed_by=keys[1]).verify()


@pytest.mark.parametrize(
    "content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n"]
)
def test_a_key_that_is_none_is_named(signed: Path, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.pem"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.pem holds no Ed25519 private key"):
        signing_key(path)
    with pytest.raises(UserError, match=r"bad\.pem holds no Ed25519 public key"):
        open_bundle(signed, signed_by=path)
    with pytest.raises(UserError, match="no file"):
        open_bundle(signed, signed_by=tmp_path / "nothing.pub")


def test_without_the_library_the_extra_is_named(signed: Path, keys: tuple[Path, Path], monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    with pytest.raises(MissingExtraError, match="sign"):
        open_bundle(signed, signed_by=keys[1])


def test_the_commands_refuse_before_anything_is_read(
    signed: Path,
    handmade: Path,
    keys: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ga2clip_cli.__main__ import main

    for arguments, code in (
        (["info", str(signed), "--verify", str(keys[1])], 0),
        (["info", str(handmade), "--verify", str(keys[1])], 1),
        (["predict", "no.mp4", "--model", str(handmade), "--verify", str(keys[1])], 1),
    ):
        monkeypatch.setattr(sys, "argv", ["ga2clip", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr().err
        assert (ended.value.code or 0) == code
        assert ("not signed" in said) == bool(code)
