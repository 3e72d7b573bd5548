//! Why an address book's file cannot be read or written.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why an address book's file cannot be locked, read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has the book open, or another store of this one.
    #[error("address book {} is in use", path.display())]
    InUse {
        /// The book.
        path: PathBuf,
    },
    /// The path leads to a folder, or to something else that is no file.
    #[error("{} is no file", path.display())]
    NotAFile {
        /// What is no file.
        path: PathBuf,
    },
    /// The folder is missing, or is no folder.
    #[error("cannot {action} {}: its folder is missing", path.display())]
    NoFolder {
        /// What was to be done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// This process may not do that there, or no process may.
    #[error("cannot {action} {}: permission denied", path.display())]
    Denied {
        /// What was to be done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The disk is full, or another limit of the system on what is stored is reached.
    #[error("cannot {action} {}: disk is full", path.display())]
    DiskFull {
        /// What was to be done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The book has become larger than what would be read again.
    #[error("{len} bytes are too many for {}: {limit} are allowed", path.display())]
    TooLarge {
        /// The book.
        path: PathBuf,
        /// How many bytes it has.
        len: usize,
        /// How many it may have.
        limit: usize,
    },
    /// The system fails in another way.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was to be done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl StoreError {
    /// Tells apart what the system says.
    pub(super) fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => {
                Self::NoFolder { action, path, source }
            }
            ErrorKind::IsADirectory => Self::NotAFile { path },
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                Self::Denied { action, path, source }
            }
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                Self::DiskFull { action, path, source }
            }
            _ => Self::Io { action, path, source },
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use super::*;

    #[test]
    fn a_full_disk_is_told_apart() {
        let full = Path::new("/dev/full");
        let mut file = File::options().write(true).open(full).unwrap();
        let error = StoreError::new("write", full, file.write_all(b"book").unwrap_err());
        assert!(matches!(error, StoreError::DiskFull { .. }), "{error:?}");
        assert_eq!(error.to_string(), "cannot write /dev/full: disk is full");
    }
}
