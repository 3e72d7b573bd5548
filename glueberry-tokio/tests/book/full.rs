//! Disks without room.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use glueberry_tokio::store::StoreError;

use crate::support::{
    BOOK, CHILD_ARGUMENTS, LOCK, Scratch, TEMPORARY, book, child, open_whole, path_of_child,
};

/// The child saves what has room, what hasn't, and again what has: where the system lets no file
/// grow beyond a limit, and, if this user may mount one, on a file system that is full.
#[test]
fn a_full_disk_costs_the_save_and_not_the_book() {
    if let Some(path) = path_of_child() {
        return fill(&path);
    }
    // More than 8 blocks, be they of 512 or of 1024 bytes, and more than the 32 KiB below.
    assert!(book(200).emit().len() > 32 * 1024);
    assert!(book(2).emit().len() < 8 * 512);
    let scratch = Scratch::new();
    let path = scratch.path(BOOK);
    // Without the trap, the system would kill the process instead of refusing.
    let limited = ["sh", "-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\""];
    let output = child_behind(&limited, &path).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(open_whole(&path).1, book(2));
    assert_eq!(scratch.names(), [BOOK, LOCK]);

    // Mounted for the child alone, and gone with it.
    let folder = scratch.path("full");
    fs::create_dir(&folder).unwrap();
    let mount = format!("mount -t tmpfs -o size=32k full {:?} || exit {NOT_PERMITTED}", &folder);
    let script = format!("{mount}; exec \"$0\" \"$@\"");
    let output = child_behind(&["unshare", "-rm", "sh", "-c", &script], &folder.join(BOOK));
    match output.map(|output| (output.status.code(), output)) {
        Ok((Some(0), _)) => assert_eq!(fs::read_dir(&folder).unwrap().count(), 0),
        Ok((Some(101), output)) => panic!("{}", String::from_utf8_lossy(&output.stderr)),
        refused => println!("no file system to fill here: {refused:?}"),
    }
}

fn fill(path: &Path) {
    let (mut store, _) = open_whole(path);
    store.save(&book(1).emit()).unwrap();
    let error = store.save(&book(200).emit()).unwrap_err();
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error:?}");
    assert_eq!(fs::read(path).unwrap(), book(1).emit());
    assert!(!path.with_file_name(TEMPORARY).exists());
    store.save(&book(2).emit()).unwrap();
    drop(store);
    assert_eq!(open_whole(path).1, book(2));
}

/// Runs the child through another program.
fn child_behind(program: &[&str], path: &Path) -> std::io::Result<Output> {
    let test = "full::a_full_disk_costs_the_save_and_not_the_book";
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).arg(env::current_exe()?).args(CHILD_ARGUMENTS).arg(test);
    command.envs(child(test, path).get_envs().filter_map(|(key, value)| Some((key, value?))));
    command.output()
}

/// Exit code of a script that may not mount; no test ends with it.
const NOT_PERMITTED: i32 = 77;
