"""Images signed here with certificates made here."""

import datetime
import io
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import av
import c2pa
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from PIL import Image as PILImage

from forgerank.report import credentials
from forgerank.report.credentials import read_credentials
from forgerank.report.entries import ActionEntry, Credentials

SOURCES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
STEPS = [
    {
        "action": "c2pa.created",
        "digitalSourceType": SOURCES + "trainedAlgorithmicMedia",
        "softwareAgent": {"name": "Painter", "version": "3"},
    },
    {"action": "c2pa.edited", "softwareAgent": "Brush", "when": "2025-01-01T00:00:00Z"},
]


def certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: str, issuer_key: ec.EllipticCurvePrivateKey
) -> bytes:
    """PEM of a certificate with what C2PA demands: SHA-256, key usage, for a signer e-mail protection."""
    root = name == issuer
    now = datetime.datetime.now(datetime.UTC)
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only",
         "decipher_only"), False
    )  # fmt: skip
    names = [
        x509.Name(
            [
                x509.NameAttribute(NameOID.COMMON_NAME, text),
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Press"),
            ]
        )
        for text in (name, issuer)
    ]
    builder = (
        x509.CertificateBuilder(names[1], names[0], key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=9))
        .add_extension(x509.BasicConstraints(ca=root, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
        .add_extension(
            x509.KeyUsage(digital_signature=not root, key_cert_sign=root, crl_sign=root, **usage),
            critical=True,
        )
    )
    if not root:
        purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(purpose, critical=False)
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def signer() -> dict[str, Any]:
    key, root_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    chain = certificate("Editor", key, "Root", root_key) + certificate("Root", root_key, "Root", root_key)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {"alg": c2pa.C2paSigningAlg.ES256, "sign_cert": chain, "private_key": private, "ta_url": None}


def image(kind: str = "JPEG") -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    PILImage.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def signed(
    signer: dict[str, Any],
    data: bytes,
    steps: list[dict[str, Any]],
    source: bytes | None = None,
    kind: str = "image/jpeg",
    url: str | None = None,
) -> bytes:
    """The image with a manifest; `source` is its ingredient sky.jpg; with `url` it lies there."""
    manifest = {
        "claim_generator_info": [{"name": "test", "version": "1.0"}],
        "title": "sunset.jpg",
        "assertions": [{"label": "c2pa.actions", "data": {"actions": steps}}],
    }
    out = io.BytesIO()
    with c2pa.Builder(manifest) as builder, c2pa.Signer.from_info(c2pa.C2paSignerInfo(**signer)) as key:
        if source is not None:
            ingredient = {"title": "sky.jpg", "relationship": "componentOf"}
            builder.add_ingredient(ingredient, "image/jpeg", io.BytesIO(source))
        if url is not None:
            builder.set_no_embed()
            builder.set_remote_url(url)
        builder.sign(key, kind, io.BytesIO(data), out)
    return out.getvalue()


@pytest.fixture(scope="module")
def generated(signer: dict[str, Any]) -> bytes:
    return signed(signer, image(), STEPS)


def read(folder: Path, data: bytes) -> Credentials | None:
    (folder / "upload").write_bytes(data)  # without an extension, as the service stores it
    return read_credentials(folder / "upload")


def test_what_was_signed_is_read_back(tmp_path: Path, generated: bytes) -> None:
    found = read(tmp_path, generated)
    assert found == Credentials(
        state="Valid",
        failures=("signingCredential.untrusted",),  # no list of trusted signers is configured
        claim_generator="test 1.0",
        issuer="Press",
        signer="Editor",
        title="sunset.jpg",
        actions=(
            ActionEntry(
                action="c2pa.created", digital_source_type="trainedAlgorithmicMedia", software="Painter 3"
            ),
            ActionEntry(action="c2pa.edited", software="Brush", when="2025-01-01T00:00:00Z"),
        ),
    )


def test_the_history_of_an_ingredient_is_told(
    tmp_path: Path, signer: dict[str, Any], generated: bytes
) -> None:
    step = {"action": "c2pa.created", "digitalSourceType": SOURCES + "digitalCreation"}
    edited = signed(signer, image("PNG"), [step], generated, "image/png")
    found = read(tmp_path, edited)
    assert found is not None
    assert found.ingredients == ("sky.jpg",)
    assert [(action.of, action.action, action.digital_source_type) for action in found.actions] == [
        (None, "c2pa.created", "digitalCreation"),
        ("sky.jpg", "c2pa.created", "trainedAlgorithmicMedia"),
        ("sky.jpg", "c2pa.edited", None),
    ]


def test_a_changed_image_is_told(tmp_path: Path, generated: bytes) -> None:
    changed = bytearray(generated)
    changed[-100] ^= 0xFF  # in the pixels
    found = read(tmp_path, bytes(changed))
    assert found is not None
    assert found.state == "Invalid"
    assert "assertion.dataHash.mismatch" in found.failures


@pytest.mark.parametrize("offset", [40, 100, 200, 400, 1000])
def test_a_damaged_manifest_costs_one_line(tmp_path: Path, generated: bytes, offset: int) -> None:
    place = generated.index(b"jumdc2pa") + offset
    found = read(tmp_path, generated[:place] + b"\xff" * 8 + generated[place + 8 :])
    assert found is not None
    if found.state is None:
        assert found.problem is not None
        assert found.problem.startswith("damaged: ")
        assert "\n" not in found.problem
    else:
        assert found.state == "Invalid"


def test_a_cut_file_costs_one_line(tmp_path: Path, generated: bytes) -> None:
    found = read(tmp_path, generated[: generated.index(b"jumdc2pa") + 500])
    assert found is not None
    assert str(found.problem).startswith("damaged: ")


def test_a_plain_image_carries_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "c2pa", None)  # not even asked for
    assert read(tmp_path, image()) is None
    assert read(tmp_path, b"") is None


def test_the_store_is_found_across_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, generated: bytes
) -> None:
    for chunk in (32, 33, 64):
        monkeypatch.setattr(credentials, "_CHUNK", chunk)
        assert read(tmp_path, generated) is not None


def test_without_the_extra_a_line_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, generated: bytes
) -> None:
    monkeypatch.setitem(sys.modules, "c2pa", None)
    found = read(tmp_path, generated)
    assert found == Credentials(problem='not read: this needs c2pa-python: pip install "forgerank[c2pa]"')


def test_texts_and_lists_are_limited(tmp_path: Path, signer: dict[str, Any]) -> None:
    steps = [STEPS[0], *({"action": f"org.test.{'x' * 300}"} for _ in range(149))]
    found = read(tmp_path, signed(signer, image(), steps))
    assert found is not None
    assert len(found.actions) == 100
    assert max(len(action.action) for action in found.actions) == 200
    assert found.problem == "50 actions and ingredients are not listed"


def test_nothing_is_fetched(tmp_path: Path, signer: dict[str, Any]) -> None:
    asked = []

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Listener) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/manifest.c2pa"
        try:
            elsewhere = signed(signer, image(), STEPS, url=url)
            assert read(tmp_path, elsewhere) is None
            with pytest.raises(c2pa.C2paError):
                c2pa.Reader(io.BytesIO(elsewhere))
            assert asked == ["/manifest.c2pa"]  # the library asks unless it is told not to
            credentials._read(io.BytesIO(elsewhere))
            assert len(asked) == 1
        finally:
            server.shutdown()
            thread.join()


def test_a_video_is_read(tmp_path: Path, signer: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 64
        for shade in (0, 128, 255):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), shade, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    found = read(tmp_path, signed(signer, buffer.getvalue(), STEPS, kind="video/mp4"))
    assert found is not None
    assert (found.state, found.signer) == ("Valid", "Editor")


def test_a_file_that_went_away_costs_one_line(tmp_path: Path) -> None:
    found = read_credentials(tmp_path / "gone.jpg")
    assert found is not None
    assert str(found.problem).startswith("not read: ")
