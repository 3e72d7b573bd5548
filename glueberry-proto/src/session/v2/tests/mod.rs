//! Sessions against the vectors of an independent implementation (`tests/vectors/v2`, whose README
//! has the format): every byte, every message, every end.

macro_rules! vectors {
    ($file:literal) => {
        serde_json::from_str::<Vec<Value>>(include_str!(concat!(
            "../../../../tests/vectors/v2/",
            $file,
            ".json"
        )))
        .unwrap()
    };
}

mod streams;
mod tested;
mod values;

use bytes::BytesMut;
use serde_json::Value;

use self::tested::Tested;
use crate::Instant;
use crate::v2::agreement::Binding;
use crate::v2::{Padding, Suite};

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("{field} of {value}"))
}

fn bytes(value: &Value, field: &str) -> Vec<u8> {
    hex::decode(text(value, field)).unwrap()
}

fn array(value: &Value, field: &str) -> [u8; 32] {
    bytes(value, field).try_into().unwrap()
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}

/// Runs one side of a whole handshake; returns the session, if all of it could be run.
fn run_handshake(case: &Value, side: &str) -> Option<Tested> {
    let name = text(case, "name");
    let is_left_out = |step: &Value| {
        step["call"] == "end" || (step["call"] == "write_record" && step["side"] == side)
    };
    if list(case, "steps").iter().any(is_left_out) {
        return None;
    }
    let mut tested = Tested::new(case, side)?;
    for (at, step) in list(case, "steps").iter().enumerate() {
        let is_own = step["side"] == side;
        let context = format!("{name}, {side}, step {at}");
        if step["call"].is_string() {
            assert!(!is_own || tested.call(step), "{context}");
        } else if is_own {
            tested.flush();
            assert_eq!(hex::encode(tested.written.split()), text(step, "writes"), "{context}");
        } else {
            tested.feed(tested.channel, &bytes(step, "writes"));
            let expected: Vec<&str> =
                list(step, "then_messages").iter().map(|it| it.as_str().unwrap()).collect();
            assert_eq!(tested.heard(), expected, "{context}");
            if let Some(verified) = step["then_verified"].as_bool() {
                let gate = tested.session.handshake.gate().unwrap();
                assert_eq!(gate.is_confirmed(), verified, "{context}");
            }
        }
        assert_eq!(tested.ended(), None, "{context}");
    }
    let gate = tested.session.handshake.gate().unwrap();
    let terms = gate.terms().unwrap();
    assert_eq!(terms.session[..], bytes(case, "sid"), "{name}");
    assert_eq!(gate.exporter().unwrap().as_bytes()[..], bytes(case, "exporter"), "{name}");
    assert_eq!(u64::from(terms.suite.code()), case["suite"].as_u64().unwrap(), "{name}");
    assert!(tested.session.is_established(), "{name}");
    Some(tested)
}

#[test]
fn whole_handshakes() {
    let mut run = Vec::new();
    for case in vectors!("handshakes") {
        for side in ["i", "r"] {
            if run_handshake(&case, side).is_some() {
                run.push(format!("{} {side}", text(&case, "name")));
            }
        }
    }
    let hybrid = run.iter().filter(|it| it.starts_with("hybrid")).count();
    assert!(run.len() >= 12 && (hybrid >= 4 || !cfg!(feature = "ml-kem")), "{run:?}");
}

#[test]
fn accepted_and_refused_handshakes() {
    let mut run = 0;
    for case in [vectors!("handshake_accepted"), vectors!("handshake_errors")].concat() {
        let (name, side) = (text(&case, "name"), text(&case, "side"));
        let Some(mut tested) = Tested::new(&case, side) else {
            continue;
        };
        run += 1;
        assert_eq!(hex::encode(tested.written.split()), text(&case, "first_writes"), "{name}");
        for (at, step) in list(&case, "steps").iter().enumerate() {
            let context = format!("{name}, {side}, step {at}");
            if step["call"].is_string() {
                assert!(tested.call(step), "{context}");
            } else if step["connected"].is_boolean() {
                panic!("{context}");
            } else if step["reads"].is_string() {
                tested.feed(tested.channel, &bytes(step, "reads"));
            } else {
                tested.end(tested.channel, &step["control_ends"]);
            }
            let heard = tested.heard();
            if step["then_handshake_messages"].is_array() {
                let expected: Vec<&str> = list(step, "then_handshake_messages")
                    .iter()
                    .map(|it| it.as_str().unwrap())
                    .collect();
                assert_eq!(heard, expected, "{context}");
            }
            assert_eq!(tested.ended(), step["then_ended"].as_u64(), "{context}");
            tested.flush();
            let written = hex::encode(tested.written.split());
            // A CLOSE is one possible record.
            if step["then_ended"].is_null() || written.len() == 8 {
                assert_eq!(written, step["then_writes"].as_str().unwrap_or(""), "{context}");
            }
        }
    }
    assert!(run >= 80, "{run}");
}

#[test]
fn choices() {
    let cases = vectors!("choices");
    for case in &cases {
        let codes = |of: usize| -> Vec<u16> {
            let codes = case["suites"][of].as_array().unwrap().iter();
            codes.map(|code| u16::try_from(code.as_u64().unwrap()).unwrap()).collect()
        };
        let ours: Vec<Suite> =
            Suite::RANKED.into_iter().filter(|it| codes(0).contains(&it.code())).collect();
        let suite = Suite::choose(&ours, &codes(1)).map(|it| u64::from(it.code()));
        let mask = |of: usize| u8::try_from(case["masks"][of].as_u64().unwrap()).unwrap();
        let binding = Binding::Exporter([7; 32]).choose(mask(0), mask(1)).ok();
        if case["suite"].is_u64() {
            assert_eq!(suite, case["suite"].as_u64(), "{case}");
        }
        if case["binding_type"].is_u64() {
            let kind = binding.map(|it| u64::from(it.kind()));
            assert_eq!(kind, case["binding_type"].as_u64(), "{case}");
        }
    }
    assert!(!cases.is_empty());
}

/// When the sender must change keys, and what the receiver makes of a record that it sends.
#[test]
fn epochs() {
    use crate::crypto::{RustCrypto, SharedKey};
    use crate::v2::record::{Cipher, Opener, Sealer};

    let all: Value =
        serde_json::from_str(include_str!("../../../../tests/vectors/v2/epochs.json")).unwrap();
    let secret = SharedKey::from_bytes(&[3; 32]).unwrap();
    let cipher = Cipher {
        aead: std::sync::Arc::new(RustCrypto),
        suite: Suite::ChaCha20Poly1305,
        padding: Padding::None,
    };
    let mut run = 0;
    for step in list(&all, "steps") {
        let number = |field: &str| step[field].as_u64().unwrap();
        let mut sealer = Sealer::new(cipher.clone(), &secret);
        let mut opener = Opener::new(cipher.clone(), &secret);
        sealer.set_counts(number("counter"), number("blocks"));
        opener.set_counts(number("counter"), number("blocks"));
        let mut out = BytesMut::new();
        let mut writer = sealer.write(&mut out, Instant::ZERO);
        let slice = vec![0; usize::try_from(number("len")).unwrap() - 17];
        writer.put_record(crate::v2::record::Kind::Data, &slice);
        writer.finish();
        let opened = opener.open(&mut out);
        let is_last = out[2] & 0x80 != 0;
        assert_eq!(Some(is_last), step["sender_must_flag"].as_bool(), "{step}");
        if Some(is_last) != step["last"].as_bool() {
            continue;
        }
        run += 1;
        match text(step, "receiver") {
            "next" | "rekey" => assert!(opened.is_ok(), "{step}"),
            _ => assert_eq!(opened, Err(crate::Violation::EpochLimit), "{step}"),
        }
    }
    assert!(run > 5, "{run}");
}

/// ML-KEM-768 itself, from a seed and coins.
#[test]
#[cfg(feature = "ml-kem")]
fn ml_kem() {
    use crate::v2::Role;
    use crate::v2::kem::Share;

    let cases = vectors!("ml_kem");
    for case in &cases {
        let make = |role| Share::from_bytes(role, &bytes(case, "coins"), &bytes(case, "seed"));
        let (initiator, responder) =
            (make(Role::Initiator).unwrap(), make(Role::Responder).unwrap());
        let key = responder.encapsulation_key().unwrap();
        assert_eq!(key, bytes(case, "encapsulation_key"));
        let (mut ciphertext, secret) = initiator.encapsulate(&key).unwrap();
        assert_eq!(ciphertext, bytes(case, "ciphertext"));
        assert_eq!(secret.as_bytes()[..], bytes(case, "shared_secret"));
        assert_eq!(responder.decapsulate(&ciphertext).unwrap().as_bytes(), secret.as_bytes());
        ciphertext[0] ^= 1;
        let rejected = responder.decapsulate(&ciphertext).unwrap();
        assert_eq!(hex::encode(rejected.as_bytes()), text(case, "first_byte_changed_gives"));
        assert!(responder.decapsulate(&ciphertext[1..]).is_err(), "another length");
        assert!(initiator.encapsulate(&key[1..]).is_err(), "another length");
        let above_the_modulus = [&[0xff; 384], &key[384..]].concat();
        assert!(initiator.encapsulate(&above_the_modulus).is_err());
    }
    assert!(!cases.is_empty());
}
