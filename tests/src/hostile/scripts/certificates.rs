//! Certificates of raw QUIC that prove nothing.

use std::sync::Arc;

use glueberry_tokio::identity::Keypair;
use quinn::{ClientConfig, ConnectionError};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::sign::CertifiedKey;

use crate::hostile::stage::Stage;
use crate::hostile::tls::{self, crafted, extension, identity, pair, params};
use crate::hostile::{wire, within};

/// Presents it several times. The handshake ends with an alert of TLS, and nothing else happens.
async fn is_refused(stage: &Stage, config: &ClientConfig) -> String {
    let to = stage.node().addrs()[0].clone();
    let mut alerts = Vec::new();
    for _ in 0..5 {
        let dial = wire::connect(&stage.endpoint, config.clone(), &to);
        let error = match within("it is answered", dial).await {
            // This side may have thought that all is well.
            Ok(connection) => within("it is closed", connection.closed()).await,
            Err(error) => error.downcast().expect("of the connection"),
        };
        let ConnectionError::ConnectionClosed(close) = error else { panic!("{error:?}") };
        let code = u64::from(close.error_code);
        // Or a violation of the protocol, where TLS could not even be read.
        assert!((0x100..0x200).contains(&code) || code == 0xa, "an alert of TLS: {close}");
        alerts.push(if code == 0xa { code } else { code - 0x100 });
    }
    alerts.dedup();
    format!("- (alert {alerts:?})")
}

async fn with(stage: &Stage, certificate: &Arc<CertifiedKey>) -> String {
    is_refused(stage, &tls::client(certificate)).await
}

async fn with_extensions(
    stage: &Stage,
    extensions: impl FnOnce(&Keypair, &KeyPair) -> Vec<CustomExtension>,
) -> String {
    let keys = Keypair::generate_ed25519();
    with(stage, &crafted(|key| params(&extensions(&keys, key)))).await
}

pub(in crate::hostile) async fn no_certificate(stage: &Stage) -> String {
    is_refused(stage, &tls::anonymous()).await
}

async fn with_years(stage: &Stage, years: [i32; 2]) -> String {
    let keys = Keypair::generate_ed25519();
    let params = |key: &KeyPair| {
        let mut params: CertificateParams = params(&[extension(&keys, key)]);
        let [from, to] = years.map(|year| rcgen::date_time_ymd(year, 1, 1));
        (params.not_before, params.not_after) = (from, to);
        params
    };
    with(stage, &crafted(params)).await
}

pub(in crate::hostile) async fn expired(stage: &Stage) -> String {
    with_years(stage, [2020, 2021]).await
}

pub(in crate::hostile) async fn not_yet_valid(stage: &Stage) -> String {
    with_years(stage, [3000, 3001]).await
}

pub(in crate::hostile) async fn without_identity(stage: &Stage) -> String {
    with_extensions(stage, |_, _| Vec::new()).await
}

pub(in crate::hostile) async fn two_identities(stage: &Stage) -> String {
    with_extensions(stage, |keys, key| vec![extension(keys, key); 2]).await
}

pub(in crate::hostile) async fn critical_extension(stage: &Stage) -> String {
    with_extensions(stage, |keys, key| {
        let mut unknown = CustomExtension::from_oid_content(&[1, 2, 3], vec![5, 0]);
        unknown.set_criticality(true);
        vec![extension(keys, key), unknown]
    })
    .await
}

pub(in crate::hostile) async fn malformed_identity(stage: &Stage) -> String {
    let mut reason = String::new();
    for content in [&[][..], &[0x30, 5, 4, 0, 2, 1, 7], &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 4]] {
        reason = with_extensions(stage, |_, _| vec![identity(content)]).await;
    }
    reason
}

/// The extension of somebody else, for another key.
pub(in crate::hostile) async fn stolen_identity(stage: &Stage) -> String {
    let honest = KeyPair::generate().expect("a key");
    with_extensions(stage, |keys, _| vec![extension(keys, &honest)]).await
}

pub(in crate::hostile) async fn two_certificates(stage: &Stage) -> String {
    let keys = Keypair::generate_ed25519();
    let key = KeyPair::generate().expect("a key");
    let certificate = params(&[extension(&keys, &key)]).self_signed(&key).expect("a certificate");
    let der = certificate.der().clone();
    with(stage, &tls::chain(vec![der.clone(), der], &key)).await
}

/// More than any certificate has, in an extension that may be ignored: TLS itself puts an end to it.
pub(in crate::hostile) async fn huge_extension(stage: &Stage) -> String {
    with_extensions(stage, |keys, key| {
        let huge = CustomExtension::from_oid_content(&[1, 2, 3], vec![5; 200_000]);
        vec![extension(keys, key), huge]
    })
    .await
}

/// A well-formed key of a kind that does not exist.
pub(in crate::hostile) async fn other_kind_of_identity(stage: &Stage) -> String {
    with_extensions(stage, |_, _| vec![identity(&pair(&[8, 77, 18, 2, 1, 2], &[7; 64]))]).await
}
