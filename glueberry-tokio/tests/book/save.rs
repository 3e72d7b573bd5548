//! What a save leaves on the disk.

use std::fs;

use glueberry_tokio::store::StoreError;

use crate::support::{BOOK, LOCK, Scratch, book, open_whole};

#[test]
fn what_is_saved_is_loaded() {
    let scratch = Scratch::new();
    for peers in [3, 1, 5, 0] {
        let (mut store, _) = open_whole(&scratch.path(BOOK));
        store.save(&book(peers).emit()).unwrap();
        assert_eq!(scratch.names(), [BOOK, LOCK]);
        drop(store);
        assert_eq!(open_whole(&scratch.path(BOOK)).1, book(peers));
    }
}

#[test]
fn a_folder_that_is_gone_is_an_error_and_may_come_back() {
    let scratch = Scratch::new();
    let folder = scratch.path("folder");
    let (mut store, _) = open_whole(&folder.join(BOOK));
    fs::remove_dir_all(&folder).unwrap();
    let error = store.save(&book(1).emit()).unwrap_err();
    assert!(matches!(error, StoreError::NoFolder { .. }), "{error}");
    fs::create_dir(&folder).unwrap();
    store.save(&book(1).emit()).unwrap();
}

/// The last step fails, for any user.
#[test]
fn a_save_that_fails_leaves_nothing_behind() {
    let scratch = Scratch::new();
    let (mut store, _) = open_whole(&scratch.path(BOOK));
    fs::create_dir(scratch.path(BOOK)).unwrap();
    let error = store.save(&book(1).emit()).unwrap_err();
    assert!(matches!(error, StoreError::NotAFile { .. }), "{error}");
    assert_eq!(scratch.names(), [BOOK, LOCK]);
    fs::remove_dir(scratch.path(BOOK)).unwrap();
    store.save(&book(1).emit()).unwrap();
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    use super::*;
    use crate::support::open;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn new_files_are_private_and_others_keep_their_permissions() {
        let scratch = Scratch::new();
        let path = scratch.path(BOOK);
        let (mut store, _) = open_whole(&path);
        store.save(&book(1).emit()).unwrap();
        assert_eq!((mode(&path), mode(&scratch.path(LOCK))), (0o600, 0o600));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        store.save(&book(2).emit()).unwrap();
        assert_eq!(mode(&path), 0o640);
    }

    #[test]
    fn a_link_stays_and_its_file_is_the_book() {
        let scratch = Scratch::new();
        fs::create_dir(scratch.path("real")).unwrap();
        let real = scratch.path("real").join(BOOK);
        fs::write(&real, book(1).emit()).unwrap();
        symlink("link-2.json", scratch.path("link-1.json")).unwrap();
        symlink(Path::new("real").join(BOOK), scratch.path("link-2.json")).unwrap();

        let (mut store, loaded) = open_whole(&scratch.path("link-1.json"));
        assert_eq!(loaded, book(1));
        assert_eq!(store.path(), real);
        store.save(&book(2).emit()).unwrap();
        // By its other names it is the same book.
        for name in [scratch.path("link-2.json"), real.clone()] {
            let error = open(&name).unwrap_err();
            assert!(matches!(error, StoreError::InUse { .. }), "{error}");
        }
        drop(store);
        assert_eq!(open_whole(&real).1, book(2));
        assert!(fs::symlink_metadata(scratch.path("link-1.json")).unwrap().is_symlink());
        assert_eq!(scratch.names(), ["link-1.json", "link-2.json", "real"]);
    }

    #[test]
    fn a_link_to_a_missing_file_leads_to_where_it_will_be() {
        let scratch = Scratch::new();
        symlink("later/book.json", scratch.path("link")).unwrap();
        let (mut store, loaded) = open_whole(&scratch.path("link"));
        assert!(loaded.is_empty());
        store.save(&book(1).emit()).unwrap();
        drop(store);
        assert_eq!(open_whole(&scratch.path("later").join(BOOK)).1, book(1));
        assert!(fs::symlink_metadata(scratch.path("link")).unwrap().is_symlink());
    }

    #[test]
    fn a_circle_of_links_is_an_error() {
        let scratch = Scratch::new();
        symlink("b", scratch.path("a")).unwrap();
        symlink("a", scratch.path("b")).unwrap();
        let error = open(&scratch.path("a")).unwrap_err();
        assert!(matches!(error, StoreError::Io { .. }), "{error}");
    }
}
