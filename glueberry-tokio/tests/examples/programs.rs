//! Examples as processes.

use std::path::{Path, PathBuf};
use std::process::{Command as Blocking, Stdio};
use std::sync::Once;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

pub(super) const LONG: Duration = Duration::from_secs(120);
/// Those whose features this test was built with.
pub(super) const EXAMPLES: &[&str] = &[
    "chat",
    "cluster",
    "file",
    "integration",
    "rpc",
    #[cfg(feature = "config")]
    "from_env",
    #[cfg(feature = "opentelemetry")]
    "traces",
    #[cfg(feature = "smol")]
    "on_smol",
];
/// The features that this test was built with: with others, all of it would be built once more.
const FEATURES: &[&str] = &[
    "http",
    #[cfg(feature = "async-std")]
    "async-std",
    #[cfg(feature = "config")]
    "config",
    #[cfg(feature = "dnsaddr")]
    "dnsaddr",
    #[cfg(feature = "opentelemetry")]
    "opentelemetry",
    #[cfg(feature = "smol")]
    "smol",
    #[cfg(feature = "test-util")]
    "test-util",
];

/// Returns the program of an example, which is built unless it is newer than the sources: `cargo
/// test` builds all examples, but not if only some tests are chosen.
fn program(name: &str) -> PathBuf {
    static BUILT: Once = Once::new();
    // target/PROFILE/deps/examples-HASH
    let folder = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned();
    BUILT.call_once(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let sources = ["src", "examples", "../glueberry-proto/src"];
        let changed_at = sources.iter().filter_map(|it| newest(&root.join(it))).max();
        let is_new = |name: &&str| {
            let program = std::fs::metadata(folder.join("examples").join(name));
            program.and_then(|it| it.modified()).ok() > changed_at
        };
        if EXAMPLES.iter().all(is_new) {
            return;
        }
        let mut cargo = Blocking::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--locked", "--package", "glueberry-tokio"]);
        cargo.args(["--features", &FEATURES.join(","), "--examples", "--target-dir"]);
        cargo.arg(folder.parent().unwrap());
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().unwrap().success());
    });
    folder.join("examples").join(name)
}

/// Returns when a file of a folder was last changed.
fn newest(folder: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let times = entries.map(|path| match path.is_dir() {
        true => newest(&path),
        false => path.metadata().and_then(|it| it.modified()).ok(),
    });
    times.max().flatten()
}

/// A folder that is removed with the test.
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("glueberry-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// An example that runs, and is killed with the test.
pub(super) struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    pub(super) fn start(name: &str, folder: &Path, args: &[&str]) -> Self {
        let mut command = Command::new(program(name));
        command.args(args).current_dir(folder).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Returns the rest of the first line that has a text in it.
    pub(super) async fn wait_for(&mut self, text: &str) -> String {
        let wait = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                if let Some((_, rest)) = line.split_once(text) {
                    return rest.to_owned();
                }
            }
            panic!("it ended without `{text}`");
        };
        timeout(LONG, wait).await.unwrap_or_else(|_| panic!("no `{text}`"))
    }

    /// Sends a signal, as Ctrl-C and a container's end do; returns whether it ended well.
    pub(super) async fn signal(&mut self, signal: &str) -> bool {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().await.unwrap().success());
        self.ends_well().await
    }

    pub(super) async fn ends_well(&mut self) -> bool {
        timeout(LONG, self.child.wait()).await.unwrap().unwrap().success()
    }
}

/// Runs an example to its end; returns whether it ended well, and what it printed.
pub(super) async fn output(name: &str, folder: &Path, args: &[&str]) -> (bool, String) {
    let mut command = Command::new(program(name));
    command.args(args).current_dir(folder).kill_on_drop(true);
    let output = timeout(LONG, command.output()).await.unwrap().unwrap();
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}
