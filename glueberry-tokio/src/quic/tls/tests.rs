use std::time::Duration;

use rustls::{
    ClientConnection, HandshakeKind, NamedGroup, ServerConnection, pki_types::ServerName,
};

use super::*;

#[test]
fn both_sides_are_proven_and_the_exchange_is_hybrid() {
    let (dialler, listener) = (Node::new(), Node::new());
    let (config, verdict) = dialler.tls.rustls_client(Some(listener.peer)).unwrap();
    let done = handshake(config, listener.tls.rustls_server().unwrap()).unwrap();

    let group = done.client.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, NamedGroup::X25519MLKEM768);
    assert_eq!(done.client.handshake_kind(), Some(HandshakeKind::Full), "no retry was needed");
    assert_eq!(done.client.alpn_protocol(), Some(ALPN));
    assert_eq!(done.server.server_name(), None);
    assert_eq!(named(done.client.peer_certificates()), listener.peer);
    assert_eq!(named(done.server.peer_certificates()), dialler.peer);
    assert_eq!(verdict.refusal(), None);
}

#[test]
fn wrong_peer_is_told_by_name() {
    let (dialler, listener, other) = (Node::new(), Node::new(), Node::new());
    let (config, verdict) = dialler.tls.rustls_client(Some(other.peer)).unwrap();
    let error = handshake(config, listener.tls.rustls_server().unwrap()).unwrap_err();
    let refused = rustls::CertificateError::ApplicationVerificationFailure;
    assert_eq!(error, rustls::Error::InvalidCertificate(refused));
    let wrong = Refusal::WrongPeer { actual: listener.peer };
    assert_eq!(verdict.refusal(), Some(&wrong));
}

#[test]
fn anyone_may_answer_if_nobody_is_expected() {
    let (dialler, listener) = (Node::new(), Node::new());
    let (config, verdict) = dialler.tls.rustls_client(None).unwrap();
    let done = handshake(config, listener.tls.rustls_server().unwrap()).unwrap();
    assert_eq!(named(done.client.peer_certificates()), listener.peer);
    assert_eq!(verdict.refusal(), None);
}

#[test]
fn two_certificates_are_refused() {
    let (dialler, listener) = (Node::new(), Node::new());
    let key = listener.key();
    let chain = vec![key.cert[0].clone(), dialler.key().cert[0].clone()];
    let chained = presenting(CertifiedKey::new(chain, Arc::clone(&key.key)));

    let (config, verdict) = dialler.tls.rustls_client(Some(listener.peer)).unwrap();
    handshake(config, chained.rustls_server().unwrap()).unwrap_err();
    assert_eq!(verdict.refusal(), Some(&Refusal::Certificate(CertificateError::Chain(2))));

    let (config, _) = chained.rustls_client(None).unwrap();
    handshake(config, dialler.tls.rustls_server().unwrap()).unwrap_err();
}

#[test]
fn certificate_without_its_key_is_refused() {
    let (dialler, thief, victim) = (Node::new(), Node::new(), Node::new());
    let stolen = victim.key().cert.clone();
    let thief = presenting(CertifiedKey::new(stolen, Arc::clone(&thief.key().key)));

    let (config, _) = dialler.tls.rustls_client(Some(victim.peer)).unwrap();
    let error = handshake(config, thief.rustls_server().unwrap()).unwrap_err();
    assert!(matches!(error, rustls::Error::InvalidCertificate(_)), "{error:?}");

    let (config, _) = thief.rustls_client(None).unwrap();
    let error = handshake(config, dialler.tls.rustls_server().unwrap()).unwrap_err();
    assert!(matches!(error, rustls::Error::InvalidCertificate(_)), "{error:?}");
}

#[test]
fn diallers_must_present_a_certificate() {
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier {
            expected: None,
            verdict: Verdict::default(),
        }))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    let error = handshake(config, Node::new().tls.rustls_server().unwrap()).unwrap_err();
    assert_eq!(error, rustls::Error::NoCertificatesPresented);
}

#[test]
fn another_application_is_refused() {
    let (dialler, listener) = (Node::new(), Node::new());
    let (mut config, _) = dialler.tls.rustls_client(None).unwrap();
    config.alpn_protocols = vec![b"h3".to_vec()];
    let error = handshake(config, listener.tls.rustls_server().unwrap()).unwrap_err();
    assert_eq!(error, rustls::Error::NoApplicationProtocol);
}

#[test]
fn sessions_are_not_resumed() {
    let (dialler, listener) = (Node::new(), Node::new());
    let (config, _) = dialler.tls.rustls_client(None).unwrap();
    let server = listener.tls.rustls_server().unwrap();
    handshake(config.clone(), server.clone()).unwrap();
    let again = handshake(config, server).unwrap();
    assert_eq!(again.client.handshake_kind(), Some(HandshakeKind::Full));
}

#[test]
fn rust_libp2p_agrees() {
    let (ours, theirs) = (Node::new(), Keypair::generate_ed25519());
    let peer = theirs.public().to_peer_id();

    let (config, _) = ours.tls.rustls_client(Some(peer)).unwrap();
    let server = libp2p_tls::make_server_config(&theirs).unwrap();
    let done = handshake(config, server).unwrap();
    assert_eq!(named(done.server.peer_certificates()), ours.peer);

    let config = libp2p_tls::make_client_config(&theirs, Some(ours.peer)).unwrap();
    let done = handshake(config, ours.tls.rustls_server().unwrap()).unwrap();
    assert_eq!(named(done.server.peer_certificates()), peer);

    let config = libp2p_tls::make_client_config(&theirs, Some(peer)).unwrap();
    handshake(config, ours.tls.rustls_server().unwrap()).unwrap_err();
}

#[test]
fn a_certificate_is_renewed_after_half_of_its_life() {
    let identity = Keypair::generate_ed25519();
    let start = UnixTime::now().as_secs();
    let at = |secs| UnixTime::since_unix_epoch(Duration::from_secs(secs));
    let presented = Presented::new(identity.clone(), at(start)).unwrap();
    let (life, mut renewed) = (certificate::LIFETIME.as_secs(), 0);
    let mut before = presented.at(at(start));
    for hour in 0..3 * life / 3600 {
        let now = at(start + hour * 3600);
        let key = presented.at(now);
        assert_eq!(certificate::verify(&key.cert[0], &[], now), Ok(identity.public().to_peer_id()));
        if !Arc::ptr_eq(&before, &key) {
            let spki = |key: &CertifiedKey| certificate::spki(&key.cert[0]).unwrap().into_owned();
            assert_ne!(spki(&before), spki(&key), "the throw-away key is another one");
            renewed += 1;
        }
        before = key;
    }
    assert_eq!(renewed, 5);
    // The clock was wrong and is set.
    let early = presented.at(at(start));
    assert!(!Arc::ptr_eq(&before, &early));
    assert!(certificate::verify(&early.cert[0], &[], at(start)).is_ok());
}

/// A node that presents this whatever its identity.
fn presenting(key: CertifiedKey) -> Tls {
    let presented = Presented::new(Keypair::generate_ed25519(), UnixTime::now()).unwrap();
    presented.current.lock().unwrap().key = Arc::new(key);
    Tls { presented: Arc::new(presented) }
}

struct Node {
    peer: PeerId,
    tls: Tls,
}

impl Node {
    fn key(&self) -> Arc<CertifiedKey> {
        self.tls.presented.at(UnixTime::now())
    }

    fn new() -> Self {
        let identity = Keypair::generate_ed25519();
        Self { peer: identity.public().to_peer_id(), tls: Tls::new(&identity).unwrap() }
    }
}

struct Done {
    client: ClientConnection,
    server: ServerConnection,
}

impl fmt::Debug for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Done")
    }
}

fn named(certificates: Option<&[CertificateDer<'_>]>) -> PeerId {
    certificate::peer_id(&certificates.unwrap()[0]).unwrap()
}

/// A handshake in memory. The error is that of the side that failed first.
#[expect(clippy::unwrap_in_result, reason = "only what is tested may fail")]
fn handshake(
    client: rustls::ClientConfig,
    server: rustls::ServerConfig,
) -> Result<Done, rustls::Error> {
    let name = ServerName::try_from("l").unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut unread = &wire[..];
        while !unread.is_empty() {
            server.read_tls(&mut unread).unwrap();
            server.process_new_packets()?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut unread = &wire[..];
        while !unread.is_empty() {
            client.read_tls(&mut unread).unwrap();
            client.process_new_packets()?;
        }
    }
    Ok(Done { client, server })
}
