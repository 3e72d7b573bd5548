//! Identities: libp2p's, re-exported so that versions match, and the file that a node's identity is
//! kept in.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

pub use libp2p_identity::*;
use thiserror::Error;
use zeroize::Zeroizing;

/// Loads the identity that a file holds, or generates an Ed25519 identity and stores it there.
///
/// The file is that of libp2p's implementations, a private key in its protobuf encoding, readable
/// and writable by its owner alone. It is written as a whole or not at all, and never overwritten:
/// if two processes come at the same time, both get the same identity.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use glueberry_tokio::identity;
///
/// # let folder = std::env::temp_dir().join(format!("glueberry-identity-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// let path = folder.join("identity.key");
/// let first = identity::load_or_create(&path)?;
/// let again = identity::load_or_create(&path)?;
/// assert_eq!(first.public(), again.public());
/// # std::fs::remove_dir_all(folder)?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// See [`IdentityFileError`].
pub fn load_or_create(path: impl AsRef<Path>) -> Result<Keypair, IdentityFileError> {
    let path = path.as_ref();
    match load(path) {
        Err(IdentityFileError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
            create(path)
        }
        other => other,
    }
}

/// Loads the identity that a file holds.
///
/// # Errors
///
/// See [`IdentityFileError`].
pub fn load(path: impl AsRef<Path>) -> Result<Keypair, IdentityFileError> {
    let path = path.as_ref();
    let failed = |source| IdentityFileError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        return Err(failed(ErrorKind::IsADirectory.into()));
    }
    check_mode(path, &file)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE + 1));
    let limit = u64::try_from(MAX_FILE + 1).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    let not_a_key = |_| IdentityFileError::NotAKey { path: path.to_owned() };
    let keypair = Keypair::from_protobuf_encoding(&bytes).map_err(not_a_key)?;
    match keypair.key_type() {
        KeyType::Ed25519 => Ok(keypair),
        _ => Err(IdentityFileError::NotAKey { path: path.to_owned() }),
    }
}

/// Why an identity could not be loaded or stored.
///
/// `{:?}`, which is what a `main` that returns it prints, is the text of `{}`.
#[derive(Error)]
#[non_exhaustive]
pub enum IdentityFileError {
    /// The file cannot be read or written.
    #[error("identity file {path}: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The file holds no Ed25519 key in libp2p's encoding. It is left as it is.
    #[error("identity file {path} holds no Ed25519 private key", path = .path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// Users other than its owner may read or write the file. Give it the mode 0600, if the key is
    /// still secret.
    #[error(
        "identity file {path} is open to other users (mode {mode:03o}): chmod 600 it, if the key is still secret",
        path = .path.display()
    )]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
}

impl fmt::Debug for IdentityFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn create(path: &Path) -> Result<Keypair, IdentityFileError> {
    let failed = |source| IdentityFileError::Io { path: path.to_owned(), source };
    let keypair = Keypair::generate_ed25519();
    let encoded = keypair.to_protobuf_encoding();
    let encoded = encoded.map_err(|error| failed(io::Error::other(error)))?;
    let encoded = Zeroizing::new(encoded);
    let mut suffix = [0; 8];
    getrandom::fill(&mut suffix).map_err(|error| failed(io::Error::other(error)))?;
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{:016x}.tmp", u64::from_be_bytes(suffix)));
    let temporary = PathBuf::from(name);
    let stored = store(&temporary, &encoded).and_then(|()| publish(&temporary, path));
    // It is gone if it was renamed.
    fs::remove_file(&temporary).ok();
    match stored {
        Ok(()) => Ok(keypair),
        // Another process was faster.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => load(path),
        Err(error) => Err(failed(error)),
    }
}

fn store(temporary: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(temporary)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Gives a complete file its name, unless there is a file of that name.
fn publish(temporary: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(temporary, path) {
        // A file system without links: there, two processes may come between these two steps.
        Err(error) if error.kind() != ErrorKind::AlreadyExists && !path.exists() => {
            fs::rename(temporary, path)?;
        }
        other => other?,
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    // Only Unix can sync a folder. The file is there in any case.
    if cfg!(unix) {
        File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

#[cfg(unix)]
fn check_mode(path: &Path, file: &File) -> Result<(), IdentityFileError> {
    let failed = |source| IdentityFileError::Io { path: path.to_owned(), source };
    let metadata = file.metadata().map_err(failed)?;
    let mode = std::os::unix::fs::MetadataExt::mode(&metadata) & 0o777;
    match mode & 0o077 {
        0 => Ok(()),
        _ => Err(IdentityFileError::TooOpen { path: path.to_owned(), mode }),
    }
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "other systems have modes")]
fn check_mode(_: &Path, _: &File) -> Result<(), IdentityFileError> {
    Ok(())
}

/// Longer than any key.
const MAX_FILE: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("glueberry-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn many_at_once_get_one_identity_and_leave_nothing_else() {
        let folder = Folder::new("at-once");
        let path = folder.0.join("key");
        let keys = std::sync::Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    let key = load_or_create(&path).unwrap().public();
                    keys.lock().unwrap().push(key);
                });
            }
        });
        let keys = keys.into_inner().unwrap();
        assert_eq!(keys.len(), 16);
        assert!(keys.iter().all(|key| *key == keys[0]));
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt;

        let folder = Folder::new("mode");
        let path = folder.0.join("key");
        load_or_create(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = load_or_create(&path).unwrap_err();
        assert!(matches!(error, IdentityFileError::TooOpen { mode: 0o640, .. }), "{error}");
    }

    #[test]
    fn a_file_that_is_no_key_is_left_as_it_is() {
        let folder = Folder::new("no-key");
        let path = folder.0.join("key");
        store(&path, b"my shopping list").unwrap();
        let error = load_or_create(&path).unwrap_err();
        assert!(matches!(error, IdentityFileError::NotAKey { .. }), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"my shopping list");
        let missing = load_or_create(folder.0.join("no").join("folder")).unwrap_err();
        assert!(matches!(missing, IdentityFileError::Io { .. }), "{missing}");
        let not_a_file = load_or_create(&folder.0).unwrap_err();
        assert!(not_a_file.to_string().contains("is a directory"), "{not_a_file}");
    }
}
