use std::time::Duration;

use rcgen::{Issuer, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, SignatureAlgorithm};

use super::*;

#[test]
fn own_certificate_names_its_identity() {
    let identity = Keypair::generate_ed25519();
    let made = generate(&identity, now()).unwrap();
    let [certificate] = &made.cert[..] else { panic!("one certificate") };
    assert_eq!(verify(certificate, &[], now()), Ok(identity.public().to_peer_id()));
    assert_eq!(peer_id(certificate), Ok(identity.public().to_peer_id()));
    assert!(certificate.len() < 400, "it is sent in every handshake");
}

#[test]
fn own_certificate_expires_and_is_valid_for_clocks_that_are_behind() {
    let identity = Keypair::generate_ed25519();
    let made = generate(&identity, now()).unwrap();
    let at = |secs: u64| {
        let result =
            verify(&made.cert[0], &[], UnixTime::since_unix_epoch(Duration::from_secs(secs)));
        result.map(drop)
    };
    assert_eq!(at(now().as_secs() - 10 * 365 * DAY), Ok(()));
    assert_eq!(at(now().as_secs() + 29 * DAY), Ok(()));
    assert_eq!(at(now().as_secs() + 31 * DAY), Err(CertificateError::Expired));
    // Whatever the clock says, there is one.
    for clock in [0, u64::MAX] {
        generate(&identity, UnixTime::since_unix_epoch(Duration::from_secs(clock))).unwrap();
    }
}

const DAY: u64 = 24 * 60 * 60;

#[test]
fn certificates_of_one_identity_differ() {
    let identity = Keypair::generate_ed25519();
    let spki_of = |made: CertifiedKey| spki(&made.cert[0]).unwrap().into_owned();
    assert_ne!(
        spki_of(generate(&identity, now()).unwrap()),
        spki_of(generate(&identity, now()).unwrap()),
        "the key is drawn anew"
    );
}

#[test]
fn rust_libp2p_agrees() {
    let identity = Keypair::generate_ed25519();
    let ours = generate(&identity, now()).unwrap().cert[0].clone();
    let seen = libp2p_tls::certificate::parse(&ours).unwrap();
    assert_eq!(seen.peer_id(), identity.public().to_peer_id());

    let (theirs, _) = libp2p_tls::certificate::generate(&identity).unwrap();
    assert_eq!(verify(&theirs, &[], now()), Ok(identity.public().to_peer_id()));
}

/// The vectors at the end of the specification.
#[test]
fn vectors_of_the_specification() {
    let judge = |vector: &str| {
        let der = CertificateDer::from(hex::decode(vector).unwrap());
        verify(&der, &[], now()).map(|peer| peer.to_string())
    };
    let ed25519 = "12D3KooWJRSrypvnpHgc6ZAgyCni4KcSmbV7uGRaMw5LgMKT18fq";
    assert_eq!(judge(ED25519).as_deref(), Ok(ed25519));
    assert_eq!(judge(BAD_ED25519), Err(CertificateError::BadIdentitySignature));
    // Supported or not: that depends on what else is built along.
    let others = [
        (ECDSA, "QmZcrvr3r4S3QvwFdae3c2EWTfo792Y14UpzCZurhmiWeX"),
        (SECP256K1, "16Uiu2HAm2dSCBFxuge46aEt7U1oejtYuBUZXxASHqmcfVmk4gsbx"),
    ];
    for (vector, name) in others {
        match judge(vector) {
            Ok(peer) => assert_eq!(peer, name),
            Err(error) => assert_eq!(error, CertificateError::UnsupportedIdentity),
        }
    }
}

#[test]
fn keys_of_any_usual_kind_are_accepted() {
    let algorithms: [&'static SignatureAlgorithm; 3] =
        [&PKCS_ECDSA_P384_SHA384, &PKCS_ED25519, &PKCS_RSA_SHA256];
    for algorithm in algorithms {
        let identity = Keypair::generate_ed25519();
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = craft(&key, &[extension(&identity, &key)]);
        let verified = verify(&certificate, &[], now());
        assert_eq!(verified, Ok(identity.public().to_peer_id()), "{algorithm:?}");
    }
}

#[test]
fn time_is_checked() {
    let identity = Keypair::generate_ed25519();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    params.custom_extensions.push(extension(&identity, &key));
    let certificate = params.self_signed(&key).unwrap().into();

    let at =
        |secs| verify(&certificate, &[], UnixTime::since_unix_epoch(Duration::from_secs(secs)));
    assert_eq!(at(0), Err(CertificateError::NotYetValid));
    assert_eq!(at(START_OF_2020 - 1), Err(CertificateError::NotYetValid));
    assert!(at(START_OF_2020).is_ok());
    assert!(at(START_OF_2021).is_ok());
    assert_eq!(at(START_OF_2021 + 1), Err(CertificateError::Expired));
    assert_eq!(at(u64::MAX), Err(CertificateError::Expired));
}

#[test]
fn only_one_certificate() {
    let identity = Keypair::generate_ed25519();
    let certificate = generate(&identity, now()).unwrap().cert[0].clone();
    let two = verify(&certificate, std::slice::from_ref(&certificate), now());
    assert_eq!(two, Err(CertificateError::Chain(2)));
}

#[test]
fn extensions_are_checked() {
    let identity = Keypair::generate_ed25519();
    let key = KeyPair::generate().unwrap();
    let good = extension(&identity, &key);
    let judge = |extensions: &[CustomExtension]| verify(&craft(&key, extensions), &[], now());

    assert_eq!(judge(&[]), Err(CertificateError::NoIdentity));
    assert_eq!(judge(&[good.clone(), good.clone()]), Err(CertificateError::SeveralIdentities));

    let mut unknown = CustomExtension::from_oid_content(&[1, 2, 3], vec![5, 0]);
    assert!(judge(&[good.clone(), unknown.clone()]).is_ok());
    unknown.set_criticality(true);
    assert_eq!(judge(&[good.clone(), unknown]), Err(CertificateError::UnknownCriticalExtension));

    let mut optional = good.clone();
    optional.set_criticality(false);
    assert!(judge(&[optional]).is_ok());

    let with =
        |content: Vec<u8>| judge(&[CustomExtension::from_oid_content(&EXTENSION_ARCS, content)]);
    assert_eq!(with(vec![]), Err(CertificateError::MalformedIdentity));
    let longer = [good.content(), &[0]].concat();
    assert_eq!(with(longer), Err(CertificateError::MalformedIdentity));
    let shorter = good.content()[..good.content().len() - 1].to_vec();
    assert_eq!(with(shorter), Err(CertificateError::MalformedIdentity));
    // A sequence of an octet string and an integer; of three octet strings; with no key inside.
    assert_eq!(with(vec![0x30, 5, 4, 0, 2, 1, 7]), Err(CertificateError::MalformedIdentity));
    assert_eq!(with(vec![0x30, 6, 4, 0, 4, 0, 4, 0]), Err(CertificateError::MalformedIdentity));
    assert_eq!(with(vec![0x30, 4, 4, 0, 4, 0]), Err(CertificateError::UnsupportedIdentity));
}

#[test]
fn stolen_extension_is_refused() {
    let victim = Keypair::generate_ed25519();
    let honest = KeyPair::generate().unwrap();
    let thief = KeyPair::generate().unwrap();
    let certificate = craft(&thief, &[extension(&victim, &honest)]);
    let judged = verify(&certificate, &[], now());
    assert_eq!(judged, Err(CertificateError::BadIdentitySignature));
}

#[test]
fn signature_of_another_key_is_refused() {
    let identity = Keypair::generate_ed25519();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.custom_extensions.push(extension(&identity, &key));
    let authority = Issuer::new(CertificateParams::default(), KeyPair::generate().unwrap());
    let certificate = params.signed_by(&key, &authority).unwrap().into();
    let judged = verify(&certificate, &[], now());
    assert_eq!(judged, Err(CertificateError::BadSelfSignature));
}

/// Outside of what is signed the parser is lax about the tags of values. That changes nobody.
#[test]
fn flipped_bits_and_cuts_are_refused() {
    let identity = Keypair::generate_ed25519();
    let good = generate(&identity, now()).unwrap().cert[0].to_vec();
    let begin = good.len() - content(&good).unwrap().len();
    let signed = begin..begin + parse(&good[..].into()).unwrap().tbs_certificate.as_ref().len();
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            if let Ok(peer) = verify(&bad.into(), &[], now()) {
                assert_eq!(peer, identity.public().to_peer_id());
                assert!(!signed.contains(&at), "bit {bit} of byte {at}");
            }
        }
        let cut = verify(&good[..at].into(), &[], now());
        assert_eq!(cut, Err(CertificateError::Malformed), "{at} bytes");
    }
    let longer = [&good[..], &[0]].concat();
    assert_eq!(verify(&longer.into(), &[], now()), Err(CertificateError::Malformed));
}

fn extension(identity: &Keypair, key: &KeyPair) -> CustomExtension {
    identity_extension(identity, &key.subject_public_key_info()).unwrap()
}

fn craft(key: &KeyPair, extensions: &[CustomExtension]) -> CertificateDer<'static> {
    let mut params = CertificateParams::default();
    params.custom_extensions = extensions.to_vec();
    params.self_signed(key).unwrap().into()
}

fn now() -> UnixTime {
    UnixTime::now()
}

const START_OF_2020: u64 = 1_577_836_800;
const START_OF_2021: u64 = 1_609_459_200;

const ED25519: &str = "\
    308201773082011ea003020102020900f5bd0debaa597f52300a06082a8648ce3d04030230003020170d373530\
    3130313030303030305a180f34303936303130313030303030305a30003059301306072a8648ce3d020106082a\
    8648ce3d030107034200046bf9871220d71dcb3483ecdfcbfcc7c103f8509d0974b3c18ab1f1be1302d643103a\
    08f7a7722c1b247ba3876fe2c59e26526f479d7718a85202ddbe47562358a37f307d307b060a2b0601040183a2\
    5a01010101ff046a30680424080112207fda21856709c5ae12fd6e8450623f15f11955d384212b89f56e7e136d\
    2e17280440aaa6bffabe91b6f30c35e3aa4f94b1188fed96b0ffdd393f4c58c1c047854120e674ce64c788406d\
    1c2c4b116581fd7411b309881c3c7f20b46e54c7e6fe7f0f300a06082a8648ce3d040302034700304402207d1a\
    1dbd2bda235ff2ec87daf006f9b04ba076a5a5530180cd9c2e8f6399e09d0220458527178c7e77024601dbb1b2\
    56593e9b96d961b96349d1f560114f61a87595\
";
const BAD_ED25519: &str = "\
    308201773082011da003020102020830a73c5d896a1109300a06082a8648ce3d04030230003020170d37353031\
    30313030303030305a180f34303936303130313030303030305a30003059301306072a8648ce3d020106082a86\
    48ce3d03010703420004bbe62df9a7c1c46b7f1f21d556deec5382a36df146fb29c7f1240e60d7d5328570e3b7\
    1d99602b77a65c9b3655f62837f8d66b59f1763b8c9beba3be07778043a37f307d307b060a2b0601040183a25a\
    01010101ff046a3068042408011220ec8094573afb9728088860864f7bcea2d4fd412fef09a8e2d24d482377c2\
    0db60440ecabae8354afa2f0af4b8d2ad871e865cb5a7c0c8d3dbdbf42de577f92461a0ebb0a28703e33581af7\
    d2a4f2270fc37aec6261fcc95f8af08f3f4806581c730a300a06082a8648ce3d040302034800304502202dfb17\
    a6fa0f94ee0e2e6a3b9fb6e986f311dee27392058016464bd130930a61022100ba4b937a11c8d3172b81e7cd04\
    aedb79b978c4379c2b5b24d565dd5d67d3cb3c\
";
const ECDSA: &str = "\
    308201c030820166a003020102020900eaf419a6e3edb4a6300a06082a8648ce3d04030230003020170d373530\
    3130313030303030305a180f34303936303130313030303030305a30003059301306072a8648ce3d020106082a\
    8648ce3d030107034200048dbf1116c7c608d6d5292bd826c3feb53483a89fce434bf64538a359c8e07538ff71\
    f6766239be6a146dcc1a5f3bb934bcd4ae2ae1d4da28ac68b4a20593f06ba381c63081c33081c0060a2b060104\
    0183a25a01010101ff0481ae3081ab045f0803125b3059301306072a8648ce3d020106082a8648ce3d03010703\
    42000484b93fa456a74bd0153919f036db7bc63c802f055bc7023395d0203de718ee0fc7b570b767cdd858aca6\
    c7c4113ff002e78bd2138ac1a3b26dde3519e06979ad04483046022100bc84014cea5a41feabdf4c161096564b\
    9ccf4b62fbef4fe1cd382c84e11101780221009204f086a84cb8ed8a9ddd7868dc90c792ee434adf62c66f99a0\
    8a5eba11615b300a06082a8648ce3d0403020348003045022054b437be9a2edf591312d68ff24bf91367ad4143\
    f76cf80b5658f232ade820da022100e23b48de9df9c25d4c83ddddf75d2676f0b9318ee2a6c88a736d85eab94a\
    912f\
";
const SECP256K1: &str = "\
    3082018230820128a003020102020900f3b305f55622cfdf300a06082a8648ce3d04030230003020170d373530\
    3130313030303030305a180f34303936303130313030303030305a30003059301306072a8648ce3d020106082a\
    8648ce3d0301070342000458f7e9581748ff9bdd933b655cc0e5552a1248f840658cc221dec2186b5a2fe4641b\
    86ab7590a3422cdbb1000cf97662f27e5910d7569f22feed8829c8b52e0fa38188308185308182060a2b060104\
    0183a25a01010101ff0471306f042508021221026b053094d1112bce799dc8026040ae6d4eb574157929f15981\
    72061f753d9b1b04463044022040712707e97794c478d93989aaa28ae1f71c03af524a8a4bd2d98424948a7823\
    02207b61b7f074b696a25fb9e0059141a811cccc4cc28042d9301b9b2a4015e87470300a06082a8648ce3d0403\
    0203480030450220143ae4d86fdc8675d2480bb6912eca5e39165df7f572d836aa2f2d6acfab13f8022100831d\
    1979a98f0c4a6fb5069ca374de92f1a1205c962a6d90ad3d7554cb7d9df4\
";
