"""Certificates of this host's own, and why TLS is not spoken: sentences for who has to do something about it."""

from __future__ import annotations

import logging
import ssl
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from dataplane.installation import how_to_install
from dataplane.terminal import printable

log = logging.getLogger("dataplane")

#: What the other side's alert says of this host's certificate.
_ALERTS = {
    "CERTIFICATE_EXPIRED": "it has expired, renew it",
    "UNKNOWN_CA": "it is of no authority that is trusted there",
    "CERTIFICATE_REVOKED": "it is revoked",
    "BAD_CERTIFICATE": "it is bad",
    "UNSUPPORTED_CERTIFICATE": "it is for something else",
    "CERTIFICATE_UNKNOWN": "it is not trusted there",
}


class TlsError(Exception):
    """A file cannot be used for TLS: one sentence that says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Validity:
    """A certificate chain that is shown, and the time in which all of it holds, in seconds since 1970."""

    file: str
    begins: float
    ends: float

    def warning(self, now: float) -> str | None:
        """That it does not hold now; None where it does."""
        if now > self.ends:
            return (
                f"{self.file}: the certificate has expired at {_moment(self.ends)}, and who is shown it refuses it:"
                " renew it, and start again"
            )
        if now < self.begins:
            return (
                f"{self.file}: the certificate is valid from {_moment(self.begins)} on, and who is shown it refuses it"
                " until then: set this host's clock, or give another one"
            )
        return None


def own_certificate(
    context: ssl.SSLContext, options: tuple[str, str], certificate: Path, private_key: Path | None
) -> None:
    """Reads what is shown to the other side; `options` name the certificate and its private key. Raises TlsError."""
    told = f"{options[0]} {printable(str(certificate))}"
    body = read_file(options[0], certificate, "a certificate chain in PEM")
    where, key = told, body
    if private_key:
        where, key = f"{options[1]} {printable(str(private_key))}", read_file(options[1], private_key, "its key in PEM")
    if b"-----BEGIN CERTIFICATE-----" not in body:
        raise TlsError(f"{told}: it is no certificate in PEM: give a certificate chain")
    if b"PRIVATE KEY-----" not in key:
        raise TlsError(f"{where}: it has no private key: give that of the certificate with {options[1]}")
    if b"ENCRYPTED" in key:
        # OpenSSL would ask at the terminal.
        raise TlsError(f"{where}: the private key has a passphrase: take it away (openssl pkey), and close the file")
    try:
        if (private_key or certificate).stat().st_mode & stat.S_IROTH:
            log.warning("%s: everybody on this host can read the private key: close the file (chmod o-r)", where)
        context.load_cert_chain(certificate, private_key)
    except (OSError, ValueError):
        raise TlsError(
            f"{told}: certificate and private key are damaged, or do not belong together: give a certificate chain, and"
            f" its key with {options[1]}"
        ) from None


def trusted(context: ssl.SSLContext, option: str, authorities: Path) -> None:
    """Reads whom the other side's certificate must be of, or be. Raises TlsError."""
    read_file(option, authorities, "the certificates in PEM that the other side's is of")
    try:
        context.load_verify_locations(authorities)
    except (OSError, ValueError):
        raise TlsError(
            f"{option} {printable(str(authorities))}: it is not in PEM: give whom the other side's certificate is of"
        ) from None


def read_file(option: str, path: Path, wanted: str) -> bytes:
    """What is in a file. Raises TlsError."""
    told = f"{option} {printable(str(path))}"
    try:
        if path.exists() and not path.is_file():
            raise TlsError(f"{told}: it is no regular file: name {wanted}")
        return path.read_bytes()
    except OSError as error:
        remedy = "let this user read it" if isinstance(error, PermissionError) else f"name {wanted}"
        raise TlsError(f"{told}: {error.strerror}: {remedy}") from None


def validity(option: str, certificate: Path) -> Validity | None:
    """The time in which all of a chain holds, which was read; a warning in the log where that is not now.

    None where it is not known. Raises TlsError.
    """
    told = f"{option} {printable(str(certificate))}"
    try:
        from cryptography import x509
    except ModuleNotFoundError as error:
        raise TlsError(f"{error.name} is not installed: {how_to_install('api')} brings what {option} needs") from None
    try:
        chain = x509.load_pem_x509_certificates(read_file(option, certificate, "a certificate chain in PEM"))
        begins = max(one.not_valid_before_utc.timestamp() for one in chain)
        found = Validity(told, begins, min(one.not_valid_after_utc.timestamp() for one in chain))
    except ValueError as error:
        # OpenSSL takes more than is allowed.
        log.warning("%s: how long the certificate holds is not known: %s", told, error)
        return None
    if warning := found.warning(time.time()):
        log.warning("%s", warning)
    return found


def with_own(reason: str, own: Validity | None) -> str:
    """Why the other side has gone, as far as this host's certificate tells: asyncio ends without TLS's alert."""
    warning = own.warning(time.time()) if own else None
    return f"{reason}: {warning}" if warning else reason


def why_not_spoken(error: OSError) -> str:
    """Why a handshake has failed, or a connection that came of one."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"TLS: its certificate is refused here: {error.verify_message or error}: renew it there, or trust it here"
        )
    if isinstance(error, ssl.SSLError):
        reason = error.reason or str(error)
        for alert, words in _ALERTS.items():
            if reason.endswith(f"ALERT_{alert}"):
                return f"TLS: it refuses this host's certificate: {words}"
        return f"TLS: {reason.replace('_', ' ').lower()}"
    return error.strerror or str(error) or "the TLS handshake takes too long"


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
