"""The certificate of raw QUIC (WIRE.md §3.1): it names an Ed25519 identity, and is signed by itself."""

import datetime
import os

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

EXTENSION = x509.ObjectIdentifier("1.3.6.1.4.1.53594.1.1")
SIGNED = b"libp2p-tls-handshake:"
KEY_HEADER = bytes.fromhex("08011220")
# SEQUENCE of two OCTET STRINGs: the key with its header, and the signature.
DER_SEQUENCE, DER_KEY, DER_SIGNATURE = bytes.fromhex("3068"), b"\x04\x24", b"\x04\x40"


class BadCertificate(Exception):
    """What the peer presented names nobody."""


def peer_id(key):
    """The text of the PeerId of an Ed25519 key (§2)."""
    alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    data = bytes.fromhex("0024") + KEY_HEADER + key
    number, text = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = alphabet[digit] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text


def spki(public):
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def make(seed):
    """`(certificate, its private key)` for the identity of `seed`."""
    identity, key = Ed25519PrivateKey.from_private_bytes(seed), ec.generate_private_key(ec.SECP256R1())
    own = identity.public_key().public_bytes_raw()
    signature = identity.sign(SIGNED + spki(key.public_key()))
    content = DER_SEQUENCE + DER_KEY + KEY_HEADER + own + DER_SIGNATURE + signature
    now, hour, name = datetime.datetime.now(datetime.UTC), datetime.timedelta(hours=1), x509.Name([])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(int.from_bytes(os.urandom(8), "big") >> 1 | 1)
        .not_valid_before(now - hour)
        .not_valid_after(now + 24 * hour)
        .add_extension(x509.UnrecognizedExtension(EXTENSION, content), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate, key


def identity_of(certificates):
    """The Ed25519 key that the peer's certificates name. That the peer has the certificate's key is
    shown by TLS.
    """
    if len(certificates) != 1:
        raise BadCertificate("not one certificate")
    certificate = certificates[0]
    now = datetime.datetime.now(datetime.UTC)
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise BadCertificate("not valid now")
    try:
        certificate.verify_directly_issued_by(certificate)
        extension = certificate.extensions.get_extension_for_oid(EXTENSION)
    except (InvalidSignature, ValueError, TypeError, x509.ExtensionNotFound) as why:
        raise BadCertificate(str(why)) from why
    content = extension.value.value
    head = DER_SEQUENCE + DER_KEY + KEY_HEADER
    if len(content) != 106 or content[:8] != head or content[40:42] != DER_SIGNATURE:
        raise BadCertificate("the extension is not that of an Ed25519 key")
    key = content[8:40]
    try:
        signed = SIGNED + spki(certificate.public_key())
        Ed25519PublicKey.from_public_bytes(key).verify(content[42:], signed)
    except InvalidSignature as why:
        raise BadCertificate("signature of the identity") from why
    return key
