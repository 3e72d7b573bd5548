//! Folders in which nothing may be written.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use glueberry_tokio::store::StoreError;

use crate::support::{
    BOOK, LOCK, Scratch, TEMPORARY, book, child_of, open, open_whole, path_of_child,
};

/// The child, who is not root, works in a folder that turns read-only.
#[test]
fn a_read_only_folder_is_told_and_left_as_it_is() {
    if let Some(path) = path_of_child() {
        let folder = path.parent().unwrap();
        let turn = |mode| fs::set_permissions(folder, Permissions::from_mode(mode)).unwrap();
        let (mut store, before) = open_whole(&path);
        turn(0o555);
        assert!(matches!(store.save(&book(2).emit()), Err(StoreError::Denied { .. })));
        assert_eq!(fs::read(&path).unwrap(), before.emit());
        drop(store);

        // A file that cannot be set aside is not overwritten either.
        fs::write(&path, "no book").unwrap();
        assert!(matches!(open(&path), Err(StoreError::Denied { .. })));
        fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
        turn(0o755);
        assert!(matches!(open(&path), Err(StoreError::Denied { action: "read", .. })));
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"no book");

        // Nor is there a store without a lock.
        fs::remove_file(folder.join(LOCK)).unwrap();
        turn(0o555);
        assert!(matches!(open(&path), Err(StoreError::Denied { action: "lock", .. })));
        turn(0o755);
        assert!(!folder.join(TEMPORARY).exists());
        return;
    }
    // Where another user can get at it, wherever the tests are built.
    let scratch = Scratch::within(&env::temp_dir());
    let (folder, program) = (scratch.path("folder"), scratch.path("program"));
    fs::create_dir(&folder).unwrap();
    let path = folder.join(BOOK);
    fs::write(&path, book(1).emit()).unwrap();
    copy_in_another_process(&env::current_exe().unwrap(), &program);

    let test = "permissions::a_read_only_folder_is_told_and_left_as_it_is";
    let mut other = child_of(&program, test, &path);
    if fs::metadata(&path).unwrap().uid() == ROOT {
        for owned in [&folder, &path] {
            std::os::unix::fs::chown(owned, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        other.uid(NOBODY).gid(NOBODY);
    }
    let output = other.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Copies a program so that it can be run at once. Were this process to write the copy, a child that
/// another test starts meanwhile would hold the file open for writing until its own `exec`, and the
/// system runs no program that is open for writing ("Text file busy").
fn copy_in_another_process(from: &Path, to: &Path) {
    let status = Command::new("cp").arg(from).arg(to).status().unwrap();
    assert!(status.success(), "cp: {status}");
}

/// Not even root can create files there.
#[cfg(target_os = "linux")]
#[test]
fn a_folder_of_the_kernel_is_told() {
    for folder in ["/proc", "/proc/self", "/sys"] {
        let error = open(&Path::new(folder).join(BOOK)).unwrap_err();
        let is_told = matches!(error, StoreError::Denied { .. } | StoreError::NoFolder { .. });
        assert!(is_told, "{folder}: {error:?}");
    }
}

const ROOT: u32 = 0;
/// A user that every system has, and that owns nothing.
const NOBODY: u32 = 65_534;
