//! Every path that the table names, each in a form that compiles only if it exists.

use std::collections::BTreeSet;
// So that methods of these traits are found by the names of the types that have them.
use std::error::Error as _;
use std::str::FromStr as _;

use glueberry_tokio::NoMetrics;
use glueberry_tokio::test_util::MemoryNetwork;

/// Returns the paths.
pub(super) fn all() -> BTreeSet<String> {
    [ITEMS, VALUES, CALLS, FIELDS]
        .into_iter()
        .flatten()
        .map(|path| path.split_whitespace().collect())
        .collect()
}

/// Types, traits, functions, constants, and variants of enums: what can be imported.
macro_rules! items {
    ($($($part:ident)::+),* $(,)?) => {
        const ITEMS: &[&str] = &[$(stringify!($($part)::+)),*];
        $(const _: () = {
            #[expect(unused_imports, reason = "that it can be imported is all")]
            use $($part)::+ as _;
        };)*
    };
}

/// Methods and constants of types.
macro_rules! values {
    ($($($part:ident)::+),* $(,)?) => {
        const VALUES: &[&str] = &[$(stringify!($($part)::+)),*];
        $(const _: fn() = || see($($part)::+);)*
    };
}

/// Generic methods, with as much of their parameters as is needed to tell which.
macro_rules! calls {
    ($($($part:ident)::+($($parameter:ty),*)),* $(,)?) => {
        const CALLS: &[&str] = &[$(stringify!($($part)::+)),*];
        $(const _: fn() = || see($($part)::+($(any::<$parameter>()),*));)*
    };
}

/// Fields of structs.
macro_rules! fields {
    ($($owner:path { $($field:ident),* $(,)? }),* $(,)?) => {
        const FIELDS: &[&str] =
            &[$($(concat!(stringify!($owner), "::", stringify!($field))),*),*];
        $($(const _: fn(&$owner) = |owner| see(&owner.$field);)*)*
    };
}

items! {
    glueberry_libp2p::Behaviour,
    glueberry_libp2p::Libp2p,
    glueberry_proto::Action::CloseConnection,
    glueberry_proto::Action::OpenSubstream,
    glueberry_proto::Admission,
    glueberry_proto::Config,
    glueberry_proto::ConnectError::Blacklisted,
    glueberry_proto::Event::Writable,
    glueberry_proto::Node,
    glueberry_proto::NodeAction,
    glueberry_proto::NodeAction::Dial,
    glueberry_proto::PeerStatus,
    glueberry_proto::RefuseReason::Blacklisted,
    glueberry_proto::SendError::Backpressure,
    glueberry_proto::Session,
    glueberry_proto::book::Book,
    glueberry_proto::compat::Cipher,
    glueberry_proto::crypto::Identity,
    glueberry_proto::crypto::IdentityError,
    glueberry_proto::compat::KeyCache,
    glueberry_proto::compat::agree_x25519,
    glueberry_proto::compat::derive_shared_key,
    glueberry_proto::compat::ed25519_private_to_x25519,
    glueberry_proto::compat::ed25519_public_to_x25519,
    glueberry_proto::compat::secure_zero,
    glueberry_proto::greeting::Greeting,
    glueberry_proto::wire::MAX_STREAM_NAME_LEN,
    glueberry_proto::wire::StreamNameError::TooLong,
    glueberry_tokio::Builder,
    glueberry_tokio::CheckName::AddressBook,
    glueberry_tokio::CheckName::Connections,
    glueberry_tokio::CheckName::HostRunning,
    glueberry_tokio::CheckName::NodeStarted,
    glueberry_tokio::Config,
    glueberry_tokio::ConnectionState,
    glueberry_tokio::ConnectionState::Connected,
    glueberry_tokio::ConnectionState::Connecting,
    glueberry_tokio::ConnectionState::Cooldown,
    glueberry_tokio::ConnectionState::Disconnected,
    glueberry_tokio::ConnectionState::Established,
    glueberry_tokio::ConnectionState::Reconnecting,
    glueberry_tokio::DebugState,
    glueberry_tokio::Delivery::DropNewest,
    glueberry_tokio::Error,
    glueberry_tokio::ErrorCode,
    glueberry_tokio::ErrorCode::AlreadyConnected,
    glueberry_tokio::ErrorCode::Backpressure,
    glueberry_tokio::ErrorCode::Cancelled,
    glueberry_tokio::ErrorCode::ConnectionFailed,
    glueberry_tokio::ErrorCode::DecryptionFailed,
    glueberry_tokio::ErrorCode::EncryptionFailed,
    glueberry_tokio::ErrorCode::HandshakeFailed,
    glueberry_tokio::ErrorCode::HandshakeNotComplete,
    glueberry_tokio::ErrorCode::HandshakeTimeout,
    glueberry_tokio::ErrorCode::InCooldown,
    glueberry_tokio::ErrorCode::InvalidConfig,
    glueberry_tokio::ErrorCode::InvalidMessage,
    glueberry_tokio::ErrorCode::InvalidPublicKey,
    glueberry_tokio::ErrorCode::InvalidStreamName,
    glueberry_tokio::ErrorCode::MessageTooLarge,
    glueberry_tokio::ErrorCode::MetadataTooLarge,
    glueberry_tokio::ErrorCode::NoStreamsRequested,
    glueberry_tokio::ErrorCode::NodeNotStarted,
    glueberry_tokio::ErrorCode::NodeStopped,
    glueberry_tokio::ErrorCode::NotConnected,
    glueberry_tokio::ErrorCode::PeerAlreadyExists,
    glueberry_tokio::ErrorCode::PeerBlacklisted,
    glueberry_tokio::ErrorCode::PeerNotFound,
    glueberry_tokio::ErrorCode::StreamClosed,
    glueberry_tokio::ErrorCode::StreamNotFound,
    glueberry_tokio::ErrorCode::Unknown,
    glueberry_tokio::ErrorCode::VersionMismatch,
    glueberry_tokio::Event,
    glueberry_tokio::Event::MessagesDropped,
    glueberry_tokio::Event::RecordRejected,
    glueberry_tokio::EventFilter,
    glueberry_tokio::Events,
    glueberry_tokio::HANDSHAKE,
    glueberry_tokio::Health,
    glueberry_tokio::HealthCheck,
    glueberry_tokio::Message,
    glueberry_tokio::Metrics,
    glueberry_tokio::NoMetrics,
    glueberry_tokio::Node,
    glueberry_tokio::PeerEntry,
    glueberry_tokio::PeerStats,
    glueberry_tokio::Profile::V1,
    glueberry_tokio::Profile::V1Go,
    glueberry_tokio::ProtocolVersion,
    glueberry_tokio::StateChanged,
    glueberry_tokio::StateReason::ReconnectionCancelled,
    glueberry_tokio::StreamHandle,
    glueberry_tokio::StreamStats,
    glueberry_tokio::store::FileStore,
    glueberry_tokio::http::router,
    glueberry_tokio::TraceContext,
    glueberry_tokio::prometheus::PrometheusMetrics,
    glueberry_tokio::test_util::LogCapture,
    glueberry_tokio::test_util::MemoryNetwork,
    glueberry_tokio::test_util::RecordingMetrics,
    glueberry_tokio::test_util::ScriptedPeer,
    tracing::Span,
}

values! {
    glueberry_proto::Node::handle_connection,
    glueberry_proto::Node::peer_status,
    glueberry_proto::Node::poll_event,
    glueberry_proto::Node::poll_timeout,
    glueberry_proto::Node::public_key,
    glueberry_proto::Node::session_of,
    glueberry_proto::Session::poll_handshake_message,
    glueberry_proto::Session::poll_message,
    glueberry_proto::Session::send,
    glueberry_proto::Session::send_handshake,
    glueberry_proto::book::Book::add,
    glueberry_proto::book::Book::blacklist,
    glueberry_proto::book::Book::entry,
    glueberry_proto::book::Book::is_blacklisted,
    glueberry_proto::book::Book::iter,
    glueberry_proto::book::Book::len,
    glueberry_proto::book::Book::remove,
    glueberry_proto::book::Book::unblacklist,
    glueberry_proto::book::Book::update_metadata,
    glueberry_proto::compat::Cipher::decrypt,
    glueberry_proto::compat::Cipher::encrypt,
    glueberry_proto::compat::Cipher::from_key,
    glueberry_proto::compat::Cipher::new,
    glueberry_proto::crypto::Identity::agree_v1,
    glueberry_proto::crypto::Identity::from_keypair_bytes,
    glueberry_proto::crypto::Identity::from_seed,
    glueberry_proto::crypto::Identity::x25519_private,
    glueberry_proto::compat::KeyCache::clear,
    glueberry_proto::compat::KeyCache::new,
    glueberry_proto::compat::KeyCache::shared_key,
    glueberry_proto::crypto::PublicKey::to_x25519,
    glueberry_tokio::Builder::build,
    glueberry_tokio::Builder::listen,
    glueberry_tokio::Builder::metrics,
    glueberry_tokio::Config::check,
    glueberry_tokio::Config::default,
    glueberry_tokio::Config::for_tests,
    glueberry_tokio::Error::code,
    glueberry_tokio::Error::hint,
    glueberry_tokio::Error::is_retriable,
    glueberry_tokio::Error::peer,
    glueberry_tokio::Error::source,
    glueberry_tokio::Error::stream,
    glueberry_tokio::Events::recv,
    glueberry_tokio::Message::stream,
    glueberry_tokio::Node::addrs,
    glueberry_tokio::Node::all_peer_statistics,
    glueberry_tokio::Node::autoconnect,
    glueberry_tokio::Node::blacklist_peer,
    glueberry_tokio::Node::builder,
    glueberry_tokio::Node::cancel_reconnection,
    glueberry_tokio::Node::connect,
    glueberry_tokio::Node::connection_state,
    glueberry_tokio::Node::debug_state,
    glueberry_tokio::Node::disconnect,
    glueberry_tokio::Node::events,
    glueberry_tokio::Node::events_for_peer,
    glueberry_tokio::Node::finalize_handshake,
    glueberry_tokio::Node::flush_address_book,
    glueberry_tokio::Node::health,
    glueberry_tokio::Node::is_blacklisted,
    glueberry_tokio::Node::is_outbound,
    glueberry_tokio::Node::messages,
    glueberry_tokio::Node::messages_sent,
    glueberry_tokio::Node::peer,
    glueberry_tokio::Node::peer_id,
    glueberry_tokio::Node::peer_statistics,
    glueberry_tokio::Node::peers,
    glueberry_tokio::Node::public_key,
    glueberry_tokio::Node::reload_address_book,
    glueberry_tokio::Node::remove_peer,
    glueberry_tokio::Node::set_reconnect_policy,
    glueberry_tokio::Node::shutdown,
    glueberry_tokio::Node::stream,
    glueberry_tokio::Node::subscribe,
    glueberry_tokio::Node::unblacklist_peer,
    glueberry_tokio::Node::update_metadata,
    glueberry_tokio::Node::version,
    glueberry_tokio::Profile::handshake_id,
    glueberry_tokio::Profile::stream_id,
    glueberry_tokio::ProtocolVersion::CURRENT,
    glueberry_tokio::ProtocolVersion::from_str,
    glueberry_tokio::ProtocolVersion::is_compatible_with,
    glueberry_tokio::ProtocolVersion::is_newer_than,
    glueberry_tokio::StreamName::new,
    tracing::Level::DEBUG,
    tracing::Level::INFO,
    tracing::Level::WARN,
}

calls! {
    glueberry_proto::Node::new(_, glueberry_proto::Identity, _, _),
    glueberry_tokio::Builder::address_book(_, String),
    glueberry_tokio::Builder::build_over(_, &MemoryNetwork),
    glueberry_tokio::Builder::streams(_, Vec<String>),
    glueberry_tokio::Metrics::backpressure_engaged(&NoMetrics, _),
    glueberry_tokio::Metrics::backpressure_wait(&NoMetrics, _, _),
    glueberry_tokio::Metrics::connection_attempt(&NoMetrics, _),
    glueberry_tokio::Metrics::connection_closed(&NoMetrics, _),
    glueberry_tokio::Metrics::connection_opened(&NoMetrics, _),
    glueberry_tokio::Metrics::decryption_error(&NoMetrics),
    glueberry_tokio::Metrics::encryption_error(&NoMetrics),
    glueberry_tokio::Metrics::event_dropped(&NoMetrics),
    glueberry_tokio::Metrics::event_emitted(&NoMetrics, _),
    glueberry_tokio::Metrics::handshake_duration(&NoMetrics, _),
    glueberry_tokio::Metrics::handshake_result(&NoMetrics, _),
    glueberry_tokio::Metrics::key_derivation(&NoMetrics, _),
    glueberry_tokio::Metrics::message_dropped(&NoMetrics, _),
    glueberry_tokio::Metrics::message_received(&NoMetrics, _, _),
    glueberry_tokio::Metrics::message_sent(&NoMetrics, _, _),
    glueberry_tokio::Metrics::pending_messages(&NoMetrics, _, _),
    glueberry_tokio::Metrics::stream_closed(&NoMetrics, _),
    glueberry_tokio::Metrics::stream_opened(&NoMetrics, _),
    glueberry_tokio::Node::add_new_peer(_, _, Vec<_>),
    glueberry_tokio::Node::add_peer(_, _, Vec<_>),
    glueberry_tokio::Node::add_peer_with_metadata(_, _, Vec<_>, _),
    glueberry_tokio::Node::complete_handshake(_, _, _, &[String]),
    glueberry_tokio::Node::events_for_states(_, Vec<_>),
    glueberry_tokio::Node::prepare_streams(_, _, _, &[String]),
    glueberry_tokio::Node::send(_, _, _, Vec<u8>),
    glueberry_tokio::Node::try_send(_, _, _, Vec<u8>),
    glueberry_tokio::StreamHandle::send(_, Vec<u8>),
    glueberry_tokio::store::FileStore::open(String, _),
}

fields! {
    glueberry_proto::Config {
        book_flush_interval, cooldown, handshake_timeout, high_watermark,
        high_watermark_bytes, low_watermark, low_watermark_bytes, max_handshake_size,
        max_message_size, max_metadata_size, reconnect, refuse_after_disconnect,
        sessions_high, sessions_low,
    },
    glueberry_proto::PeerStatus { attempts, direction, next_attempt_at, since, state },
    glueberry_tokio::Config {
        core, delivery, disable_backpressure, event_buffer, message_buffer,
    },
    glueberry_tokio::DebugState { peers },
    glueberry_tokio::EventFilter { peers, states },
    glueberry_tokio::Health { checks, is_healthy },
    glueberry_tokio::Message { data, peer, received_at },
    glueberry_tokio::PeerEntry {
        addrs, banned_until, created_at, is_blacklisted, last_seen, metadata, peer,
        public_key, updated_at,
    },
    glueberry_tokio::PeerStats {
        bytes_received, bytes_sent, connected_at, connection_count, failure_count,
        is_connected, is_outbound, last_message_at, messages_received, messages_sent,
        peer, streams, total_connect_time,
    },
    glueberry_tokio::ReconnectPolicy { initial_backoff, max_attempts, max_backoff },
    glueberry_tokio::StateChanged { at, direction, peer, reason, state },
    glueberry_tokio::StreamStats {
        bytes_received, bytes_sent, last_received_at, last_sent_at, messages_received,
        messages_sent,
    },
}

fn see<T>(_: T) {}

/// Stands for an argument of a call that is never made.
fn any<T>() -> T {
    unreachable!("nothing of this runs")
}
