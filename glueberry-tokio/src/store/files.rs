//! What is done to the files, one step each.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::StoreError;

/// Follows links and creates folders until the path is that of a file in a folder, which the file
/// need not be in yet.
pub(super) fn resolve(path: &Path) -> Result<PathBuf, StoreError> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let Ok(target) = fs::read_link(&path) else { return in_folder(&path) };
        path = folder(&path).join(target);
    }
    let source = io::Error::other("too many symbolic links");
    Err(StoreError::new("find", &path, source))
}

/// An open file that is locked.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Drop for Lock {
    /// Closing the file would unlock it too, but not while a process that was started meanwhile
    /// has yet to close its copy.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// Locks the book.
pub(super) fn lock(book: &Path) -> Result<Lock, StoreError> {
    let path = beside(book, LOCK);
    let failed = |source| StoreError::new("lock", &path, source);
    let mut options = private();
    let file = open_here(options.create(true).truncate(false), &path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: book.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Removes the temporary file of a process that died.
pub(super) fn remove_leftover(book: &Path) -> Result<(), StoreError> {
    let path = beside(book, TEMPORARY);
    remove_if_there(&path).map_err(|source| StoreError::new("remove", &path, source))
}

pub(super) fn open_if_there(path: &Path) -> Result<Option<File>, StoreError> {
    match open_here(OpenOptions::new().read(true), path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::new("read", path, source)),
    }
}

/// Replaces a file as a whole, or not at all.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let temporary = beside(path, TEMPORARY);
    let replaced = write_new(&temporary, path, bytes)
        .map_err(|source| StoreError::new("write", &temporary, source))
        .and_then(|()| {
            let renamed = fs::rename(&temporary, path);
            renamed.map_err(|source| StoreError::new("replace", path, source))
        });
    if replaced.is_err() {
        // It may hold space that is wanted; if it stays nevertheless, the next save removes it.
        let _ = remove_if_there(&temporary);
    }
    replaced?;
    sync_folder(path)
}

/// Renames a file to the first name that is free, and returns the name.
pub(super) fn set_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let aside = reserve(path)?;
    if let Err(source) = fs::rename(path, &aside) {
        let _ = remove_if_there(&aside);
        return Err(StoreError::new("set aside", path, source));
    }
    sync_folder(path)?;
    Ok(aside)
}

/// Creates an empty file under the first name that is free, so that no other process takes it.
fn reserve(path: &Path) -> Result<PathBuf, StoreError> {
    let mut number = 1_u64;
    loop {
        let aside = beside(path, &format!("{UNREADABLE}{number}"));
        match private().create_new(true).open(&aside) {
            Ok(_) => return Ok(aside),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            Err(source) => return Err(StoreError::new("create", &aside, source)),
        }
    }
}

/// Writes a file that must not be there yet, with the permissions of the one that it is to
/// replace.
fn write_new(path: &Path, model: &Path, bytes: &[u8]) -> io::Result<()> {
    remove_if_there(path)?;
    let mut file = private().create_new(true).open(path)?;
    if let Ok(model) = fs::symlink_metadata(model)
        && model.is_file()
        && is_same_owner(&model, &file.metadata()?)
    {
        file.set_permissions(model.permissions())?;
    }
    file.write_all(bytes)?;
    file.sync_all()
}

fn in_folder(path: &Path) -> Result<PathBuf, StoreError> {
    let Some(name) = path.file_name() else {
        return Err(StoreError::NotAFile { path: path.to_owned() });
    };
    let folder = folder(path);
    create_folder(&folder)?;
    let folder = folder.canonicalize();
    let path = folder.map_err(|source| StoreError::new("find", path, source))?.join(name);
    match fs::metadata(&path) {
        Ok(metadata) if !metadata.is_file() => Err(StoreError::NotAFile { path }),
        Err(source) if source.kind() != ErrorKind::NotFound => {
            Err(StoreError::new("find", &path, source))
        }
        _ => Ok(path),
    }
}

/// Creates a folder and those that it is in, and has the disk confirm each.
fn create_folder(folder: &Path) -> Result<(), StoreError> {
    // A relative path's last ancestor is the empty one.
    let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
    let missing = folder.ancestors().take_while(is_missing).collect::<Vec<_>>();
    for folder in missing.into_iter().rev() {
        match fs::create_dir(folder) {
            // Another process was faster.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(source) => return Err(StoreError::new("create", folder, source)),
            Ok(()) => sync_folder(folder)?,
        }
    }
    Ok(())
}

/// Has the disk confirm which files are in the folder of a path.
#[cfg(unix)]
fn sync_folder(path: &Path) -> Result<(), StoreError> {
    let folder = folder(path);
    let synced = File::open(&folder).and_then(|folder| folder.sync_all());
    synced.map_err(|source| StoreError::new("confirm", &folder, source))
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> Result<(), StoreError> {
    Ok(())
}

/// Opens a file of this very name. A user that may write in the folder could otherwise have a file
/// elsewhere read, locked or created by a link, or this process wait for ever for the other end of a
/// pipe.
fn open_here(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    #[cfg(unix)]
    {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        std::os::unix::fs::OpenOptionsExt::custom_flags(options, flags);
    }
    let is_link = || fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink());
    #[cfg(not(unix))]
    if is_link() {
        return Err(io::Error::other("it is a symbolic link"));
    }
    let file = match options.open(path) {
        // What the system says of a link is not the same everywhere.
        Err(_) if is_link() => return Err(io::Error::other("it is a symbolic link")),
        opened => opened?,
    };
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no file")),
    }
}

/// Returns whether both files belong to one user: permissions that another has chosen are not taken
/// over.
fn is_same_owner(model: &Metadata, file: &Metadata) -> bool {
    #[cfg(unix)]
    return std::os::unix::fs::MetadataExt::uid(model) == std::os::unix::fs::MetadataExt::uid(file);
    #[cfg(not(unix))]
    {
        let _ = (model, file);
        true
    }
}

/// Options to create a file that only its owner can read and write.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => PathBuf::from("."),
        Some(folder) => folder.to_owned(),
        None => path.to_owned(),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

const LOCK: &str = ".glueberry-lock";
const TEMPORARY: &str = ".glueberry-new";
const UNREADABLE: &str = ".unreadable-";
/// Links on the way to the file. As many as Linux follows.
const MAX_LINKS: u32 = 40;
