//! Which cipher suite a connection has: rustls says so in its log, and nowhere else.

use std::sync::Mutex;

use log::{Level, LevelFilter, Log, Metadata, Record};

struct Listener;

static LAST: Mutex<Option<String>> = Mutex::new(None);

/// Has the suites of all later handshakes remembered.
pub(crate) fn observe() {
    log::set_logger(&Listener).unwrap();
    log::set_max_level(LevelFilter::Debug);
}

/// Runs something, and returns the suite of the last connection that was made meanwhile.
pub(crate) fn of<T>(run: impl FnOnce() -> T) -> (T, String) {
    *LAST.lock().unwrap() = None;
    let result = run();
    let suite = LAST.lock().unwrap().take().expect("a connection was made");
    (result, suite)
}

impl Log for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("rustls::client") && metadata.level() <= Level::Debug
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata())
            && let Some(suite) = record.args().to_string().strip_prefix("Using ciphersuite ")
        {
            *LAST.lock().unwrap() = Some(suite.to_owned());
        }
    }

    fn flush(&self) {}
}
