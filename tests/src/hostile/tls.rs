//! Certificates of libp2p's TLS, and how they can be wrong.

use std::sync::Arc;

use glueberry_tokio::identity::Keypair;
use quinn::crypto::rustls::QuicClientConfig;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair, PublicKeyData};
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, SignatureScheme};

/// Returns a certificate as it should be.
pub(super) fn certificate(keys: &Keypair) -> Arc<CertifiedKey> {
    crafted(|key| params(&[extension(keys, key)]))
}

/// Returns a certificate with its throw-away key, self-signed.
pub(super) fn crafted(params: impl FnOnce(&KeyPair) -> CertificateParams) -> Arc<CertifiedKey> {
    let key = KeyPair::generate().expect("a key");
    let certificate = params(&key).self_signed(&key).expect("a certificate");
    chain(vec![certificate.into()], &key)
}

/// Returns a chain of certificates with the key of the first.
pub(super) fn chain(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Arc<CertifiedKey> {
    let private = PrivatePkcs8KeyDer::from(key.serialize_der());
    let signer = aws_lc_rs::sign::any_supported_type(&private.into()).expect("a key of TLS");
    Arc::new(CertifiedKey::new(chain, signer))
}

pub(super) fn params(extensions: &[CustomExtension]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions.extend_from_slice(extensions);
    params
}

/// Returns the extension in which an identity vouches for a certificate's key.
pub(super) fn extension(keys: &Keypair, key: &impl PublicKeyData) -> CustomExtension {
    let message = [&b"libp2p-tls-handshake:"[..], &key.subject_public_key_info()].concat();
    let signature = keys.sign(&message).expect("it signs");
    identity(&pair(&keys.public().encode_protobuf(), &signature))
}

/// Returns libp2p's extension with any content.
pub(super) fn identity(content: &[u8]) -> CustomExtension {
    let arcs = [1, 3, 6, 1, 4, 1, 53594, 1, 1];
    let mut extension = CustomExtension::from_oid_content(&arcs, content.to_vec());
    extension.set_criticality(true);
    extension
}

/// Returns a sequence of two octet strings.
pub(super) fn pair(first: &[u8], second: &[u8]) -> Vec<u8> {
    let value = |tag: u8, content: &[u8]| {
        let len = u8::try_from(content.len()).ok().filter(|len| *len < 128).expect("short");
        [&[tag, len], content].concat()
    };
    value(0x30, &[value(4, first), value(4, second)].concat())
}

/// Returns a client that presents this, and takes whoever answers.
pub(super) fn client(certificate: &Arc<CertifiedKey>) -> quinn::ClientConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous(provider)))
        .with_client_cert_resolver(Arc::new(Presents(Some(certificate.clone()))));
    config.alpn_protocols = vec![b"libp2p".to_vec()];
    quic(config)
}

/// Returns a client that presents no certificate.
pub(super) fn anonymous() -> quinn::ClientConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous(provider)))
        .with_client_cert_resolver(Arc::new(Presents(None)));
    config.alpn_protocols = vec![b"libp2p".to_vec()];
    quic(config)
}

fn quic(config: rustls::ClientConfig) -> quinn::ClientConfig {
    quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).expect("TLS 1.3")))
}

#[derive(Debug)]
struct Presents(Option<Arc<CertifiedKey>>);

impl ResolvesClientCert for Presents {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

/// Believes everybody: an attacker does not care who it attacks.
#[derive(Debug)]
struct Credulous(Arc<CryptoProvider>);

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
