//! TLS 1.3 between nodes: both sides present a certificate of [`super::certificate`], and nothing
//! else about a peer is believed.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use libp2p_identity::{Keypair, PeerId};
use quinn::crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use rustls::{
    DigitallySignedStruct, DistinguishedName, SignatureScheme,
    client::{
        ResolvesClientCert, Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::verify_tls13_signature_with_raw_key,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ClientHello, NoServerSessionStorage, ResolvesServerCert,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
    version::TLS13,
};
use thiserror::Error;
use tracing::warn;

use super::certificate::{self, CertificateError, GenerateError, PROVIDER};
use super::keys::Strict;

/// A node's side of every handshake: a certificate, which is renewed long before it expires.
///
/// Sessions are never resumed, so each connection proves both identities anew.
#[derive(Debug)]
pub(super) struct Tls {
    presented: Arc<Presented>,
}

impl Tls {
    pub(super) fn new(identity: &Keypair) -> Result<Self, TlsError> {
        let presented = Presented::new(identity.clone(), UnixTime::now())?;
        Ok(Self { presented: Arc::new(presented) })
    }

    /// The configuration for one dial, and where to ask later why it was refused, if it was.
    ///
    /// Without an expected peer whoever answers is taken: ask [`peer_id`] who it is.
    pub(super) fn client_config(
        &self,
        expected: Option<PeerId>,
    ) -> Result<(quinn::ClientConfig, Verdict), TlsError> {
        let (config, verdict) = self.rustls_client(expected)?;
        let config = QuicClientConfig::try_from(config)?;
        Ok((quinn::ClientConfig::new(Arc::new(Strict(Arc::new(config)))), verdict))
    }

    /// The configuration for everything that is accepted.
    pub(super) fn server_config(&self) -> Result<quinn::ServerConfig, TlsError> {
        let config = QuicServerConfig::try_from(self.rustls_server()?)?;
        Ok(quinn::ServerConfig::with_crypto(Arc::new(Strict(Arc::new(config)))))
    }

    pub(super) fn rustls_client(
        &self,
        expected: Option<PeerId>,
    ) -> Result<(rustls::ClientConfig, Verdict), TlsError> {
        let verdict = Verdict::default();
        let verifier = Verifier { expected, verdict: verdict.clone() };
        let mut config = rustls::ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(self.presented.clone());
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        // The specification keeps this field for versions to come.
        config.enable_sni = false;
        Ok((config, verdict))
    }

    fn rustls_server(&self) -> Result<rustls::ServerConfig, TlsError> {
        let verifier = Verifier { expected: None, verdict: Verdict::default() };
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::clone(&PROVIDER))
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(self.presented.clone());
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

/// Who is at the other end of a connection whose handshake is complete.
///
/// # Errors
///
/// None on connections of this module's configurations: their handshakes fail before.
pub(super) fn peer_id(connection: &quinn::Connection) -> Result<PeerId, CertificateError> {
    let presented = connection
        .peer_identity()
        .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok());
    match presented.as_deref().map(Vec::as_slice) {
        Some([certificate]) => certificate::peer_id(certificate),
        Some(chain) => Err(CertificateError::Chain(chain.len())),
        None => Err(CertificateError::Chain(0)),
    }
}

/// What a handshake of ours had against the peer, in more detail than TLS can carry.
#[derive(Debug, Clone, Default)]
pub(super) struct Verdict(Arc<OnceLock<Refusal>>);

impl Verdict {
    pub(super) fn refusal(&self) -> Option<&Refusal> {
        self.0.get()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    Certificate(CertificateError),
    /// The certificate is fine, but names somebody else.
    WrongPeer {
        actual: PeerId,
    },
}

/// Why TLS could not be set up. None of these is the peer's doing.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum TlsError {
    /// The node's certificate could not be made.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// The TLS library refused the configuration.
    #[error("TLS refused its configuration")]
    Config(#[from] rustls::Error),
    /// The TLS library lacks a cipher that QUIC begins with.
    #[error("TLS cannot carry QUIC")]
    Quic(#[from] NoInitialCipherSuite),
}

/// Presents the certificate that is current, whatever the peer asks for.
struct Presented {
    identity: Keypair,
    current: Mutex<Current>,
}

struct Current {
    key: Arc<CertifiedKey>,
    made: UnixTime,
}

impl Presented {
    fn new(identity: Keypair, now: UnixTime) -> Result<Self, GenerateError> {
        let key = Arc::new(certificate::generate(&identity, now)?);
        Ok(Self { identity, current: Mutex::new(Current { key, made: now }) })
    }

    /// Returns the certificate to present. One that has lived for half of its time is replaced, and so
    /// is one that was made by a clock that has been set since.
    ///
    /// Connections that have begun keep what they have; nothing ever asks for it again.
    fn at(&self, now: UnixTime) -> Arc<CertifiedKey> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let age = now.as_secs().abs_diff(current.made.as_secs());
        if age >= certificate::LIFETIME.as_secs() / 2 {
            match certificate::generate(&self.identity, now) {
                Ok(key) => *current = Current { key: Arc::new(key), made: now },
                // The next handshake tries again.
                Err(error) => warn!(%error, "certificate not renewed"),
            }
        }
        current.key.clone()
    }
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presented").finish_non_exhaustive()
    }
}

impl ResolvesClientCert for Presented {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.at(UnixTime::now()))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Presented {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.at(UnixTime::now()))
    }
}

/// Judges a peer's certificate and its signature over the handshake.
#[derive(Debug)]
struct Verifier {
    expected: Option<PeerId>,
    verdict: Verdict,
}

impl Verifier {
    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let (refusal, alert) = match certificate::verify(certificate, others, now) {
            Ok(actual) if self.expected.is_some_and(|expected| expected != actual) => {
                let alert = rustls::CertificateError::ApplicationVerificationFailure;
                (Refusal::WrongPeer { actual }, alert.into())
            }
            Ok(_) => return Ok(()),
            Err(error) => {
                let alert = to_rustls(&error);
                (Refusal::Certificate(error), alert)
            }
        };
        // A second judgement can only be on another connection, whose verdict nobody reads.
        let _ = self.verdict.0.set(refusal);
        Err(alert)
    }

    /// With the certificate's bare key: a verifier of web certificates would stumble over the
    /// critical extension.
    fn verify_signature(
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let spki = certificate::spki(certificate).map_err(|error| to_rustls(&error))?;
        let algorithms = &PROVIDER.signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &spki, signature, algorithms)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verify(end_entity, intermediates, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::Tls13RequiredForQuic.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Self::verify_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        PROVIDER.signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verify(end_entity, intermediates, now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::Tls13RequiredForQuic.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Self::verify_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        PROVIDER.signature_verification_algorithms.supported_schemes()
    }
}

/// What the peer hears of it: an alert.
fn to_rustls(error: &CertificateError) -> rustls::Error {
    use rustls::CertificateError as Tls;
    rustls::Error::InvalidCertificate(match error {
        CertificateError::NotYetValid => Tls::NotValidYet,
        CertificateError::Expired => Tls::Expired,
        CertificateError::BadSelfSignature | CertificateError::BadIdentitySignature => {
            Tls::BadSignature
        }
        CertificateError::UnknownCriticalExtension => Tls::UnhandledCriticalExtension,
        CertificateError::UnsupportedAlgorithm | CertificateError::UnsupportedIdentity => {
            Tls::ApplicationVerificationFailure
        }
        CertificateError::Chain(_)
        | CertificateError::Malformed
        | CertificateError::NoIdentity
        | CertificateError::SeveralIdentities
        | CertificateError::MalformedIdentity => Tls::BadEncoding,
    })
}

const ALPN: &[u8] = b"libp2p";

#[cfg(test)]
mod tests;
