use proptest::prelude::*;

use super::*;

fn name(name: &str) -> StreamName {
    StreamName::new(name).unwrap()
}

#[test]
fn names_that_every_profile_allows() {
    for text in ["a", "messages", "A-Z_09", "-", "handshake2", "Handshake", &"x".repeat(64)] {
        let name = name(text);
        assert_eq!(StreamName::new_go(text).as_ref(), Ok(&name));
        assert_eq!(name.as_str(), text);
        assert_eq!(name.to_string(), text);
        assert!(Profile::ALL.iter().all(|profile| profile.allows(&name)));
    }
}

#[test]
fn names_that_none_allows() {
    for new in [StreamName::new, StreamName::new_go] {
        assert_eq!(new(""), Err(StreamNameError::Empty));
        assert_eq!(new(&"x".repeat(65)), Err(StreamNameError::TooLong { len: 65 }));
        assert_eq!(new("handshake"), Err(StreamNameError::Reserved));
        for (text, at) in
            [("a.b", 1), ("/", 0), ("ab c", 2), ("a\0", 1), ("chat\n", 4), ("a\u{301}", 1)]
        {
            assert_eq!(new(text), Err(StreamNameError::InvalidCharacter { at }));
        }
        // A letter number, a vulgar fraction, a symbol: alphabetic or numeric, but no L or Nd.
        for text in ["Ⅷ", "½", "ⓐ", "€"] {
            assert_eq!(new(text), Err(StreamNameError::InvalidCharacter { at: 0 }));
        }
    }
}

/// As the Go program judges them.
#[test]
fn names_that_only_go_allows() {
    for text in ["été", "日本", "٣", "ǅ", "ʰ", "𐐀", "chat-я_1"] {
        let name = StreamName::new_go(text).unwrap();
        assert!(!name.is_portable());
        assert!(Profile::V1Go.allows(&name));
        assert!(!Profile::V1.allows(&name));
        assert!(matches!(StreamName::new(text), Err(StreamNameError::InvalidCharacter { .. })));
    }
}

#[test]
fn length_is_counted_in_bytes() {
    assert!(StreamName::new_go(&"é".repeat(32)).is_ok());
    let error = StreamNameError::TooLong { len: 66 };
    assert_eq!(StreamName::new_go(&"é".repeat(33)), Err(error));
}

#[test]
fn names_are_found_by_their_text() {
    let names = std::collections::BTreeSet::from([name("b"), name("a")]);
    assert!(names.contains("a"));
    assert_eq!(names.first(), Some(&name("a")));
}

#[test]
fn ids() {
    let stream = |version| ProtocolId::Stream { version, name: name("messages") };
    for (id, text) in [
        (ProtocolId::Handshake(Profile::V1), "/glueberry/handshake/1.0.0"),
        (ProtocolId::Handshake(Profile::V1Go), "/glueberry/stream/handshake/1.0.0"),
        (ProtocolId::Handshake(Profile::V2), "/glueberry/handshake/2.0.0"),
        (stream(StreamVersion::V1), "/glueberry/stream/messages/1.0.0"),
        (stream(StreamVersion::V2), "/glueberry/stream/messages/2.0.0"),
    ] {
        assert_eq!(id.to_string(), text);
        assert_eq!(ProtocolId::parse(text).as_ref(), Ok(&id));
    }
}

#[test]
fn ids_of_a_profile() {
    for profile in Profile::ALL {
        assert_eq!(profile.handshake_id(), ProtocolId::Handshake(profile));
        let id = profile.stream_id(name("messages"));
        let version = if profile == Profile::V2 { 2 } else { 1 };
        assert_eq!(id.to_string(), format!("/glueberry/stream/messages/{version}.0.0"));
    }
    assert_eq!(Profile::V2.framing(), Framing::Varint);
    assert_eq!(Profile::V1.framing(), Framing::LengthPrefix);
    assert_eq!(Profile::V1Go.framing(), Framing::DoubleVarint);
}

#[test]
fn foreign_ids() {
    for text in [
        "",
        "/ipfs/ping/1.0.0",
        "/glueberry/handshake/1.0.1",
        "/glueberry/handshake/3.0.0",
        "/glueberry/handshake/1.0.0/",
        "/Glueberry/handshake/1.0.0",
        "/glueberry/stream/chat",
        "/glueberry/stream/chat/1.1.0",
        "/glueberry/streams/chat/1.0.0",
        "glueberry/stream/chat/1.0.0",
    ] {
        assert_eq!(ProtocolId::parse(text), Err(ProtocolIdError::Unknown), "{text}");
    }
}

#[test]
fn ids_with_names_that_are_not_allowed() {
    for (text, error) in [
        ("/glueberry/stream//1.0.0", StreamNameError::Empty),
        ("/glueberry/stream/a/b/1.0.0", StreamNameError::InvalidCharacter { at: 1 }),
        ("/glueberry/stream/handshake/2.0.0", StreamNameError::Reserved),
        ("/glueberry/stream/日本/2.0.0", StreamNameError::InvalidCharacter { at: 0 }),
        ("/glueberry/stream/a/1.0.0/1.0.0", StreamNameError::InvalidCharacter { at: 1 }),
    ] {
        assert_eq!(ProtocolId::parse(text), Err(ProtocolIdError::Name(error)), "{text}");
    }
    let long = format!("/glueberry/stream/{}/1.0.0", "x".repeat(65));
    let error = ProtocolIdError::Name(StreamNameError::TooLong { len: 65 });
    assert_eq!(ProtocolId::parse(&long), Err(error));
}

proptest! {
    #[test]
    fn whatever_parses_prints_the_same(
        text in r"/glueberry/(stream/)?(handshake|[a-zé日٣Ⅷ/_-]{0,6})/[12]\.0\.0",
    ) {
        if let Ok(id) = ProtocolId::parse(&text) {
            prop_assert_eq!(id.to_string(), text);
        }
    }

    #[test]
    fn any_text_is_parsed_or_refused(text: String) {
        let _ = ProtocolId::parse(&text);
        let portable = StreamName::new(&text);
        if portable.is_ok() {
            prop_assert_eq!(&StreamName::new_go(&text), &portable);
        }
        if let Ok(name) = StreamName::new_go(&text) {
            prop_assert_eq!(name.is_portable(), portable.is_ok());
        }
    }
}
