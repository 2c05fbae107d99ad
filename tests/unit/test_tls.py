"""Certificates of a host's own that do not hold, files that are none, and peers whose certificate is refused."""

from __future__ import annotations

import asyncio
import datetime
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dataplane.control.rest.server import ApiOptions, ApiPlaceError, ApiServers
from dataplane.control.tls import TlsError, validity
from dataplane.live.replication import Replication, ReplicationError, ReplicationOptions
from dataplane.live.replication.sender import Sender
from dataplane.live.replication.standby import Standby

DAY = 86400
OPTION = "--tls-cert"


def made(folder: Path, name: str, begins: float = -1, ends: float = 1) -> Path:
    """A file with a certificate that signs itself, and its key; it holds from and until so many days from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=begins))
        .not_valid_after(now + datetime.timedelta(days=ends))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path = folder / f"{name}.pem"
    path.touch(0o600)
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, form[0], form[1])
    )
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    for name, begins, ends in (("good", -1, 1), ("other", -1, 1), ("expired", -3, -2), ("early", 2, 3)):
        made(folder, name, begins, ends)
    return folder


@pytest.mark.parametrize(
    ("name", "told"), [("good", None), ("expired", "has expired at 20"), ("early", "is valid from 20")]
)
def test_a_certificate_that_does_not_hold_is_warned_of_and_served(
    files: Path, name: str, told: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Who comes sees it, and may take it; the metric tells until when it holds, so that an alert comes before that."""
    servers = ApiServers.open(ApiOptions((str(files / "sock"),), certificate=files / f"{name}.pem"))
    servers.discard()
    assert servers.certificate
    warned = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == (told is not None)
    for words in warned:
        assert words.startswith(f"--tls-cert {files}/{name}.pem: the certificate {told}")
        assert "refuses it" in words
    days = {"good": 1, "expired": -2, "early": 3}[name]
    assert servers.certificate.ends == pytest.approx(time.time() + days * DAY, abs=60)


@pytest.mark.parametrize(("mode", "is_told"), [(0o600, False), (0o640, False), (0o644, True)])
def test_a_key_that_everybody_can_read_is_warned_of(
    files: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, *, mode: int, is_told: bool
) -> None:
    """In a file of its own, or behind the certificate."""
    one = tmp_path / "one.pem"
    one.write_bytes((files / "good.pem").read_bytes())
    one.chmod(mode)
    for key, option in ((None, "--replication-cert"), (one, "--replication-key")):
        caplog.clear()
        ReplicationOptions("192.0.2.1:1", None, files / "good.pem" if key else one, key, files / "good.pem").context()
        told = f"{option} {one}: everybody on this host can read the private key: close the file"
        assert (told in caplog.text) is is_told


def test_of_a_chain_the_first_end_counts(files: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    both = tmp_path / "chain.pem"
    both.write_bytes((files / "good.pem").read_bytes() + (files / "expired.pem").read_bytes())
    found = validity(OPTION, both)
    assert found
    assert found.ends < time.time()
    assert "has expired" in caplog.text


def encrypted(files: Path, tmp_path: Path) -> None:
    subprocess.run(
        [*["openssl", "pkey", "-aes256", "-passout", "pass:x", "-in"], files / "good.pem", "-out", tmp_path / "k.pem"],
        check=True,
        capture_output=True,
    )


@pytest.mark.parametrize(
    ("certificate", "key", "why"),
    [
        ("none.pem", None, r"--tls-cert \S*/none.pem: No such file or directory: name a certificate chain in PEM"),
        ("", None, r"--tls-cert \S*: it is no regular file: name a certificate chain in PEM"),
        ("pipe", None, r"--tls-cert \S*/pipe: it is no regular file: name a certificate chain in PEM"),
        ("text", None, r"--tls-cert \S*/text: it is no certificate in PEM: give a certificate chain"),
        ("cert", None, r"--tls-cert \S*/cert: it has no private key: give that of the certificate with --tls-key"),
        ("cert", "none.key", r"--tls-key \S*/none.key: No such file or directory: name its key in PEM"),
        ("cert", "text", r"--tls-key \S*/text: it has no private key: give that"),
        ("cert", "k.pem", r"--tls-key \S*/k.pem: the private key has a passphrase: take it away \(openssl pkey\)"),
        (
            "cert",
            "other.pem",
            r"certificate and private key are damaged, or do not belong together: give a certificate",
        ),
        ("torn", None, r"certificate and private key are damaged, or do not belong together: give a certificate"),
    ],
)
def test_files_that_are_none_are_told_with_what_to_do(
    files: Path, tmp_path: Path, certificate: str, key: str | None, why: str
) -> None:
    """The same for the API and for replication; nobody is asked for a passphrase."""
    encrypted(files, tmp_path)
    subprocess.run(["mkfifo", tmp_path / "pipe"], check=True)
    text = (files / "good.pem").read_text()
    (tmp_path / "text").write_text("no certificate")
    (tmp_path / "cert").write_text(text.partition("-----BEGIN PRIVATE")[0])
    (tmp_path / "torn").write_text(text.replace("\nMII", "\nAAA"))
    (tmp_path / "other.pem").write_text((files / "other.pem").read_text())
    paths = tmp_path / certificate, tmp_path / key if key else None
    with pytest.raises(ApiPlaceError, match=why) as refused:
        ApiServers.open(ApiOptions((str(tmp_path / "sock"),), certificate=paths[0], private_key=paths[1]))
    assert refused.value.invalid
    options = ReplicationOptions("127.0.0.1:1", None, *paths, files / "good.pem")
    with pytest.raises(ReplicationError, match=why.replace("--tls-", "--replication-")):
        Replication.open(options)


@pytest.mark.parametrize(
    ("name", "why"), [("none", "No such file or directory: name the"), ("text", "it is not in PEM: give")]
)
def test_authorities_that_are_none(files: Path, tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "text").write_text("no certificate")
    options = ReplicationOptions("127.0.0.1:1", None, files / "good.pem", None, tmp_path / name)
    with pytest.raises(ReplicationError, match=f"--replication-ca .*{why}"):
        Replication.open(options)


def test_a_library_that_is_missing_is_named(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cryptography", None)
    with pytest.raises(TlsError, match=r"cryptography is not installed: .* brings what --tls-cert needs"):
        validity(OPTION, files / "good.pem")


_REFUSED = "TLS: its certificate is refused here: certificate "


@pytest.mark.parametrize(
    ("here", "there", "sender", "standby"),
    [
        ("expired", "good", "expired.pem: the certificate has expired at ", f"{_REFUSED}has expired: renew it there"),
        ("good", "expired", f"{_REFUSED}has expired: renew it there", "expired.pem: the certificate has expired at "),
        ("early", "good", "early.pem: the certificate is valid from ", f"{_REFUSED}is not yet valid: "),
    ],
)
def test_both_sides_say_which_certificate_has_expired(
    files: Path, here: str, there: str, sender: str, standby: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a firewall that replicates, and of its standby."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        place = f"127.0.0.1:{free.getsockname()[1]}"
    ours, theirs = files / f"{here}.pem", files / f"{there}.pem"

    async def both() -> None:
        nobody: Any = None
        listening = Replication.open(ReplicationOptions(None, place, theirs, None, ours)).begun(nobody, nobody)
        sending = Replication.open(ReplicationOptions(place, None, ours, None, theirs)).begun(nobody, nobody)
        assert isinstance(listening, Standby)
        assert isinstance(sending, Sender)
        tasks = [asyncio.create_task(side.run()) for side in (listening, sending)]
        async with asyncio.timeout(20):
            while not all(
                any(who in line and why in line for line in caplog.text.splitlines())
                for who, why in (("the standby 127.0.0.1", sender), ("127.0.0.1 is not let in", standby))
            ):
                await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(both())
