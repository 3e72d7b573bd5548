//! The certificate of libp2p's TLS handshake.
//!
//! It is self-signed by a throw-away key. Its one extension holds the node's public key and that
//! key's signature over the throw-away key: whoever proves in the handshake to own the throw-away
//! key is thereby the node. Names, issuers and authorities mean nothing here.
//!
//! <https://github.com/libp2p/specs/blob/master/tls/tls.md>

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use libp2p_identity::{Keypair, PeerId, PublicKey};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair, PublicKeyData};
use rustls::{
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer, UnixTime},
    sign::CertifiedKey,
};
use thiserror::Error;
use x509_parser::{
    asn1_rs::{Any, FromDer, OctetString, Oid, Sequence, ToDer, oid},
    certificate::X509Certificate,
    extensions::X509Extension,
    time::ASN1Time,
};
use zeroize::Zeroizing;

/// The cryptography of every certificate and handshake, whatever the process has installed.
///
/// The hybrid with ML-KEM comes first, as in libp2p, so that what is recorded today stays closed
/// to the quantum computers of later. The list is written out because its order in rustls hangs on
/// a feature that any crate of the program can set.
pub(super) static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    use aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768};
    let kx_groups = vec![X25519MLKEM768, X25519, SECP256R1, SECP384R1];
    Arc::new(CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() })
});

/// Makes a certificate for `identity`, with a fresh key from the system's randomness. It expires
/// [`LIFETIME`] after `now`.
///
/// Peers must refuse what has expired (libp2p's TLS specification, "Peer Authentication"), so a thief that
/// gets hold of the throw-away key has the identity's place for that long. It is valid from long ago,
/// for peers whose clocks are behind.
pub(super) fn generate(identity: &Keypair, now: UnixTime) -> Result<CertifiedKey, GenerateError> {
    let key = Zeroizing::new(KeyPair::generate()?);
    let mut params = CertificateParams::default();
    // A clock that is beyond what a certificate can say is wrong; its peers have the last word.
    let now = Duration::from_secs(now.as_secs().min(YEAR_9000));
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + now + LIFETIME;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions.push(identity_extension(identity, &key.subject_public_key_info())?);
    let certificate = params.self_signed(&*key)?;

    let private = Zeroizing::new(key.serialize_der());
    // A provider's loader takes what it does not wipe.
    let signer = aws_lc_rs::sign::any_supported_type(&PrivatePkcs8KeyDer::from(&**private).into())?;
    Ok(CertifiedKey::new(vec![certificate.into()], signer))
}

fn identity_extension(identity: &Keypair, spki: &[u8]) -> Result<CustomExtension, GenerateError> {
    let signature = identity.sign(&signed_message(spki))?;
    let mut fields = OctetString::new(&identity.public().encode_protobuf()).to_der_vec()?;
    fields.extend(OctetString::new(&signature).to_der_vec()?);
    let content = Sequence::new(fields.into()).to_der_vec()?;
    let mut extension = CustomExtension::from_oid_content(&EXTENSION_ARCS, content);
    extension.set_criticality(true);
    Ok(extension)
}

/// Why no certificate could be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum GenerateError {
    /// The throw-away key or the certificate around it could not be made.
    #[error("the certificate could not be made")]
    Certificate(#[from] rcgen::Error),
    /// The extension could not be encoded.
    #[error("the certificate's extension could not be encoded")]
    Encode(#[from] x509_parser::asn1_rs::SerializeError),
    /// The identity cannot sign.
    #[error("the identity could not sign")]
    Identity(#[from] libp2p_identity::SigningError),
    /// The throw-away key was refused by TLS.
    #[error("the certificate's key could not be used")]
    Key(#[from] rustls::Error),
}

/// Checks the certificates that a peer presented and says who it is.
///
/// The peer's hold of the certificate's key is not shown by this: the handshake's signature does
/// that, see [`spki`].
pub(super) fn verify(
    first: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<PeerId, CertificateError> {
    if !others.is_empty() {
        return Err(CertificateError::Chain(others.len() + 1));
    }
    let certificate = parse(first)?;
    check_validity(&certificate, now)?;
    check_self_signature(&certificate, first)?;
    let claim = Claim::parse(&certificate)?;
    let spki = certificate.public_key().raw;
    if !claim.key.verify(&signed_message(spki), &claim.signature) {
        return Err(CertificateError::BadIdentitySignature);
    }
    Ok(claim.key.to_peer_id())
}

/// Who a certificate names, once [`verify`] has passed it.
pub(super) fn peer_id(verified: &CertificateDer<'_>) -> Result<PeerId, CertificateError> {
    Ok(Claim::parse(&parse(verified)?)?.key.to_peer_id())
}

/// The key that must have signed the handshake.
pub(super) fn spki<'a>(
    certificate: &'a CertificateDer<'_>,
) -> Result<SubjectPublicKeyInfoDer<'a>, CertificateError> {
    let spki: &'a [u8] = parse(certificate)?.tbs_certificate.subject_pki.raw;
    Ok(spki.into())
}

/// Why a peer's certificate was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub(crate) enum CertificateError {
    /// Exactly one certificate is allowed.
    #[error("{0} certificates instead of one")]
    Chain(usize),
    /// The certificate is no X.509.
    #[error("the certificate is malformed")]
    Malformed,
    /// Its time has not come, or this node's clock is behind.
    #[error("the certificate is not valid yet")]
    NotYetValid,
    /// Its time is over, or this node's clock is ahead.
    #[error("the certificate has expired")]
    Expired,
    /// It, or its key, uses an algorithm or a curve that this node does not know.
    #[error("the certificate's signature algorithm is not supported")]
    UnsupportedAlgorithm,
    /// It was not signed by the key that it carries.
    #[error("the certificate's own signature is wrong")]
    BadSelfSignature,
    /// It names no identity.
    #[error("the certificate lacks libp2p's extension")]
    NoIdentity,
    /// It names several identities.
    #[error("the certificate has libp2p's extension twice")]
    SeveralIdentities,
    /// It holds an unknown extension that must not be ignored.
    #[error("the certificate has an unknown critical extension")]
    UnknownCriticalExtension,
    /// The extension with the identity does not parse.
    #[error("libp2p's extension in the certificate is malformed")]
    MalformedIdentity,
    /// The identity's key is malformed or of a kind that this node does not speak to.
    #[error("the peer's identity is not a supported key")]
    UnsupportedIdentity,
    /// The identity did not sign the certificate's key.
    #[error("the identity's signature in the certificate is wrong")]
    BadIdentitySignature,
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, CertificateError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(CertificateError::Malformed),
    }
}

fn check_validity(
    certificate: &X509Certificate<'_>,
    now: UnixTime,
) -> Result<(), CertificateError> {
    let now =
        i64::try_from(now.as_secs()).ok().and_then(|secs| ASN1Time::from_timestamp(secs).ok());
    let now = now.ok_or(CertificateError::Expired)?;
    let validity = certificate.validity();
    if now < validity.not_before {
        return Err(CertificateError::NotYetValid);
    }
    if validity.not_after < now {
        return Err(CertificateError::Expired);
    }
    Ok(())
}

/// Only algorithms that TLS would accept count, and the key's and the signature's identifiers must
/// be exactly theirs: so curves are named ones and hashes no weaker than SHA-256, as the
/// specification demands.
fn check_self_signature(
    certificate: &X509Certificate<'_>,
    der: &CertificateDer<'_>,
) -> Result<(), CertificateError> {
    let signed = certificate.tbs_certificate.as_ref();
    let spki = certificate.public_key();
    let signature_id = content(der)
        .and_then(|fields| fields.get(signed.len()..))
        .and_then(content)
        .ok_or(CertificateError::Malformed)?;
    let key_id = content(spki.raw).and_then(content).ok_or(CertificateError::Malformed)?;

    let algorithm = PROVIDER
        .signature_verification_algorithms
        .all
        .iter()
        .find(|known| {
            known.public_key_alg_id().as_ref() == key_id
                && known.signature_alg_id().as_ref() == signature_id
        })
        .ok_or(CertificateError::UnsupportedAlgorithm)?;
    algorithm
        .verify_signature(&spki.subject_public_key.data, signed, &certificate.signature_value.data)
        .map_err(|_| CertificateError::BadSelfSignature)
}

/// What lies inside the first DER value of `der`.
fn content(der: &[u8]) -> Option<&[u8]> {
    Any::from_der(der).ok().map(|(_, any)| any.data)
}

/// What the extension says.
struct Claim {
    key: PublicKey,
    signature: Vec<u8>,
}

impl Claim {
    fn parse(certificate: &X509Certificate<'_>) -> Result<Self, CertificateError> {
        let mut found = None;
        for extension in certificate.extensions() {
            if extension.oid == EXTENSION {
                if found.replace(extension).is_some() {
                    return Err(CertificateError::SeveralIdentities);
                }
            } else if extension.critical {
                return Err(CertificateError::UnknownCriticalExtension);
            }
        }
        Self::from_extension(found.ok_or(CertificateError::NoIdentity)?)
    }

    fn from_extension(extension: &X509Extension<'_>) -> Result<Self, CertificateError> {
        let (key, signature) =
            octet_string_pair(extension.value).ok_or(CertificateError::MalformedIdentity)?;
        let key = PublicKey::try_decode_protobuf(key)
            .map_err(|_| CertificateError::UnsupportedIdentity)?;
        Ok(Self { key, signature: signature.to_vec() })
    }
}

/// Parses `SEQUENCE { OCTET STRING, OCTET STRING }` and nothing behind.
fn octet_string_pair(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (rest, sequence) = Sequence::from_der(der).ok()?;
    let fields = match sequence.content {
        std::borrow::Cow::Borrowed(fields) => fields,
        std::borrow::Cow::Owned(_) => return None,
    };
    let (fields, first) = <&[u8]>::from_der(fields).ok()?;
    let (fields, second) = <&[u8]>::from_der(fields).ok()?;
    (rest.is_empty() && fields.is_empty()).then_some((first, second))
}

fn signed_message(spki: &[u8]) -> Vec<u8> {
    [b"libp2p-tls-handshake:", spki].concat()
}

/// How long a certificate is valid.
pub(super) const LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

const YEAR_9000: u64 = 221_845_392_000;

const EXTENSION: Oid<'static> = oid!(1.3.6.1.4.1.53594.1.1);
const EXTENSION_ARCS: [u64; 9] = [1, 3, 6, 1, 4, 1, 53594, 1, 1];

#[cfg(test)]
mod tests;
