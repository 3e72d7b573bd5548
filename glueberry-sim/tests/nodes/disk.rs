//! What a disk keeps of a program that is killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use glueberry_sim::nodes::{AsyncSimulation, Host, ProgramError, Setup};

/// Counts its lives in a file, and is killed once behind that.
async fn counts(host: Host, is_synced: bool, lost: Arc<AtomicU64>) -> Result<(), ProgramError> {
    let disk = host.disk();
    let Some(stored) = disk.read("lives").await else {
        if host.restarts() > 0 {
            lost.fetch_add(1, Ordering::SeqCst);
            return Ok(());
        }
        disk.write("lives", "first").await;
        if is_synced {
            disk.sync().await;
        }
        host.point("written").await;
        return Err("it was to be killed there".into());
    };
    if stored != b"first" {
        lost.fetch_add(1, Ordering::SeqCst);
    }
    Ok(())
}

/// Returns how many of 30 runs have lost the file or a part of it.
fn lost(is_synced: bool) -> u64 {
    let lost = Arc::new(AtomicU64::new(0));
    let simulation = {
        let lost = lost.clone();
        AsyncSimulation::new(move |setup: &mut Setup| {
            let lost = lost.clone();
            setup.client("counter", move |host| counts(host, is_synced, lost.clone()));
            setup.script(|control| async move {
                control.kill_at("counter", "written")?;
                while control.is_up("counter")? {
                    control.sleep(Duration::from_millis(10)).await;
                }
                control.start("counter")?;
                Ok(())
            });
        })
    };
    simulation.run(0..30).unwrap_or_else(|failed| panic!("{failed}"));
    lost.load(Ordering::SeqCst)
}

#[test]
fn what_was_synced_is_there_after_a_kill() {
    assert_eq!(lost(true), 0);
}

#[test]
fn what_was_not_synced_may_be_lost_or_torn() {
    let lost = lost(false);
    assert!((5..30).contains(&lost), "{lost} of 30");
}
