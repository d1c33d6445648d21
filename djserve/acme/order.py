"""One order of a certificate, in a process that ends with it.

The library waits for the network, and computes keys: neither is for an event loop. What
is printed is for the server's log, and the exit code says whether it is an error.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from datetime import datetime, timedelta
from typing import IO, TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

import djserve
from djserve.acme.folder import CertificateFolder, Owner, private_pem, write_file
from djserve.conf.schema_https import ACMEConfig
from djserve.system import WRITE, open_regular, read_regular

if TYPE_CHECKING:
    from pathlib import Path

# In front of the seconds that the authority asks to wait for; the error comes after.
RETRY_AFTER = "Retry-After:"

# Seconds for all of an order: authorities validate in a few.
TIME_LIMIT = 180.0


def main() -> int:
    """Order what standard input describes; return the exit code."""
    given = json.load(sys.stdin)
    values = given["config"]
    config = ACMEConfig(**{**values, "acme_domains": tuple(values["acme_domains"])})
    folder = CertificateFolder(config, Owner(*given["owner"]))
    try:
        flags = WRITE | os.O_CREAT
        with open(open_regular(folder.lock, flags), "ab") as lock:
            if not _lock(lock) or folder.due_in() > 0:
                # Another server with the same folder, or this one's successor.
                return 0
            _order(config, folder)
    except Exception as error:
        print(explain(error))
        return 1
    print(f"New certificate for {', '.join(config.acme_domains)}")
    return 0


def explain(error: BaseException) -> str:
    """Return an error in one line, with what the authority says of each name."""
    from acme import errors

    if isinstance(error, errors.ValidationError):
        reasons = [
            f"{authorization.body.identifier.value}: {challenge.error}"
            for authorization in error.failed_authzrs
            for challenge in authorization.body.challenges
            if challenge.error is not None
        ]
    else:
        reasons = [f"{error}" or type(error).__name__]
    return " ".join("; ".join(reasons).split())[:1000]


def _lock(file: IO[bytes]) -> bool:
    """Lock a file until it is closed; return whether that could be done."""
    try:
        import fcntl
    except ImportError:
        # Without it one server has the folder for itself.
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _order(config: ACMEConfig, folder: CertificateFolder) -> None:
    from acme import crypto_util
    from josepy import jwk

    # Its import also makes the challenge known to the library.
    from djserve.acme.library import Network

    if config.acme_ca_file is not None:
        # What the library's own client (requests) reads.
        os.environ["REQUESTS_CA_BUNDLE"] = config.acme_ca_file
    key = jwk.JWKRSA(key=_account_key(folder.account))
    net = Network(key, user_agent=f"djserve/{djserve.__version__}", timeout=30)
    try:
        client = _open_account(config, net)
        secret_key = ec.generate_private_key(ec.SECP256R1())
        secret = private_pem(secret_key)
        csr = crypto_util.make_csr(secret, list(config.acme_domains))
        order = client.new_order(csr)
        chain = _validate(config, folder, client, order)
    except Exception:
        if net.retry_after is not None:
            print(f"{RETRY_AFTER} {net.retry_after:.0f}")
        raise
    if x509.load_pem_x509_certificate(chain).public_key() != secret_key.public_key():
        raise ValueError("the authority's certificate is for another key")
    folder.save_certificate(secret + chain)


def _validate(
    config: ACMEConfig, folder: CertificateFolder, client: Any, order: Any
) -> bytes:
    """Answer the challenges of an order; return the certificate with its chain."""
    made: list[Path] = []
    try:
        for authorization in order.authorizations:
            if authorization.body.status.name != "valid":
                challenge = _choose(authorization.body, config.acme_challenge)
                name = authorization.body.identifier.value
                response, path = _answer(folder, challenge, name, client.net.key)
                made.append(path)
                client.answer_challenge(challenge, response)
        # The library counts in local time without a zone.
        deadline = datetime.now() + timedelta(seconds=TIME_LIMIT)
        finished = client.poll_and_finalize(order, deadline)
        chain: str = finished.fullchain_pem
        return chain.encode("ascii")
    finally:
        for path in made:
            with suppress(OSError):
                path.unlink()


def _answer(
    folder: CertificateFolder, challenge: Any, name: str, account: Any
) -> tuple[Any, Path]:
    """Put the answer to a challenge in its place; return what tells of it, and that."""
    from djserve.acme.library import TLSALPN01, make_certificate

    response, content = challenge.response_and_validation(account)
    if isinstance(challenge.chall, TLSALPN01):
        pem = make_certificate(name, content)
        return response, folder.save_tls_challenge(name, pem)
    token = challenge.chall.encode("token")
    return response, folder.save_challenge(token, content)


def _choose(body: Any, kind: str) -> Any:
    """Return the challenge of that kind among those of an authorization."""
    for each in body.challenges:
        if each.chall.typ == kind:
            return each
    raise ValueError(
        f"{body.identifier.value}: the authority offers no {kind} challenge"
    )


def _open_account(config: ACMEConfig, net: Any) -> Any:
    """Return a client of the directory with this server's account, new or known."""
    from acme import client, errors, messages

    directory = _read_directory(config.acme_directory, net)
    opened = client.ClientV2(directory, net)
    registration = messages.NewRegistration.from_data(
        email=config.acme_email, terms_of_service_agreed=config.acme_agree_to_terms
    )
    try:
        opened.new_account(registration)
    except errors.ConflictError as error:
        net.account = messages.RegistrationResource(
            body=messages.Registration(), uri=error.location
        )
    return opened


def _read_directory(url: str, net: Any) -> Any:
    """Return what an authority offers, and where (RFC 8555 section 7.1.1)."""
    from acme import client

    try:
        directory = client.ClientV2.get_directory(url, net)
        for field in ("newNonce", "newAccount", "newOrder"):
            directory[field]
    except Exception as error:
        # Of the kinds that whatever is answered there leads the library to.
        raise ValueError(f"no directory could be read from {url}: {error}") from error
    return directory


def _account_key(path: Path) -> rsa.RSAPrivateKey:
    try:
        key = load_pem_private_key(read_regular(path), None)
    except FileNotFoundError:
        key = rsa.generate_private_key(65537, 2048)
        write_file(path, private_pem(key))
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError(f"{path} holds no RSA key")
    return key
