//! The list of scripts.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use super::scripts::{
    certificates, connections, dials, floods, frames, go_frames, handshake, names, places, records,
    streams,
};
use super::stage::Stage;
use crate::fabric::Fabric;

/// What an attacker does.
#[derive(Clone, Copy)]
pub(super) struct Script {
    pub(super) name: &'static str,
    over: Over,
    /// How often it is played before the last time.
    pub(super) turns: usize,
    /// Plays it once; panics if the victim does not do what it must. Returns what it has reported.
    pub(super) round: for<'a> fn(&'a Stage) -> Round<'a>,
}

type Round<'a> = Pin<Box<dyn Future<Output = String> + Send + 'a>>;

#[derive(Clone, Copy)]
enum Over {
    All,
    Quic,
    Tcp,
    Libp2p,
}

impl Script {
    /// Returns what it is played over.
    pub(super) fn fabrics(self) -> impl Iterator<Item = Fabric> {
        let fabrics: &[Fabric] = match self.over {
            Over::All => &[Fabric::RawQuic, Fabric::Quic, Fabric::Noise],
            Over::Quic => &[Fabric::RawQuic, Fabric::Quic],
            Over::Tcp => &[Fabric::Noise],
            Over::Libp2p => &[Fabric::Quic, Fabric::Noise],
        };
        fabrics.iter().copied()
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Lists scripts: those that are over soon take turns with quiet; those that wait for a time to pass
/// are played once or twice.
macro_rules! scripts {
    ($($turns:literal $over:ident $module:ident: $($name:ident),+;)+) => {
        /// Every script, the longest first.
        pub(super) const ALL: &[Script] = &[
            $($(Script {
                name: stringify!($name),
                over: Over::$over,
                turns: $turns,
                round: |stage| Box::pin($module::$name(stage)),
            },)+)+
        ];
    };
}

scripts! {
    0 All handshake: never_completed, creeping_message;
    0 All records: creeping_record;
    0 All streams: streams_refused, ended_before_the_answer;
    1 All connections: silent, half_open;
    1 All names: never_named, creeping_names, thousands_of_proposals, proposals_of_a_crowd,
        proposals_of_strangers, few_proposals_by_hundreds;
    1 All handshake: reset_within_a_message, streams_without_a_handshake;
    1 All dials: never_answers;
    1 All streams: stream_never_answered;
    1 Tcp frames: rules_of_the_muxer, muxer_pings_unread, frames_of_one_byte;
    3 All connections: garbage_before_anything, flood_of_first_words, closed_in_every_state;
    3 Tcp connections: garbage_in_noise, proposals_before_security;
    3 All places: same_identity_again_and_again, fresh_identities, same_identity_at_once,
        victims_own_key, banned_and_back;
    3 Quic certificates: no_certificate, expired, not_yet_valid, without_identity, two_identities,
        critical_extension, malformed_identity, stolen_identity, two_certificates, huge_extension,
        other_kind_of_identity;
    3 All names: overlong_name, unterminated_name, endless_length, not_utf8, empty_name, http,
        flood_of_unknown_names;
    3 All handshake: too_large, longest_length, byte_above_the_limit, ended_within_a_message,
        empty_by_thousands, endless_messages, flood_after_the_end, second_substream,
        second_profile, late_substream, future_profile, probes_by_hundreds;
    3 All go_frames: overflowing_length, no_inner_length, longer_inside, long_trailer,
        padded_lengths;
    3 All records: bad_tags, bad_tag_forgiven, repeated_nonce, reflected, empty_record,
        short_record, overlong_length, truncated_record, reset_within_a_record, wrong_key,
        other_stream, sent_too_early;
    3 All streams: flood_of_substreams, ended_by_thousands, reset_by_thousands,
        large_messages_in_parts, never_reads, stopped, streams_reset;
    3 Libp2p floods: garbage_to_libp2p, pings_unread;
    3 Quic floods: keys_updated, other_parts_of_quic;
    3 Tcp frames: frames_for_nobody, too_many_opened, frame_above_every_window, frames_of_no_kind,
        opened_and_reset, empty_frames;
    3 All dials: somebody_else, refuses_everything, hangs_up_at_once, leaves_once_agreed,
        answers_another_name;
}
