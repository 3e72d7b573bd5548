//! How failures are told.

use std::future::pending;
use std::time::Duration;

use glueberry_sim::nodes::{AsyncSimulation, Cause, FailedRun, Setup};

fn fails(setup: impl Fn(&mut Setup) + 'static) -> Box<FailedRun> {
    let simulation = AsyncSimulation::new(setup).limit(Duration::from_secs(10));
    simulation.run(7..8).expect_err("it was to fail")
}

#[test]
fn an_error_of_a_program_is_told_with_its_host_time_and_log() {
    let failed = fails(|setup| {
        setup.client("one", |host| async move {
            host.sleep(Duration::from_secs(3)).await;
            host.log("about to fail");
            Err("it is not as it should be".into())
        });
    });
    let Cause::Program(error) = &failed.cause else { panic!("{failed}") };
    assert_eq!(error.to_string(), "it is not as it should be");
    assert_eq!((failed.seed, failed.host.as_deref()), (7, Some("one")));
    assert_eq!(failed.at, Duration::from_secs(3));
    assert!(failed.latest.iter().any(|line| line.ends_with("one: about to fail")), "{failed}");
    assert!(failed.to_string().ends_with("`run(7..8)` repeats this"), "{failed}");
}

#[test]
fn a_panic_is_told_and_ends_only_the_run() {
    let failed = fails(|setup| setup.client("one", |_| async { panic!("of its own") }));
    let Cause::Panicked(text) = &failed.cause else { panic!("{failed}") };
    assert_eq!((text.as_str(), failed.host.as_deref()), ("of its own", Some("one")));
}

#[test]
fn clients_that_do_not_end_are_named() {
    let failed = fails(|setup| {
        setup.host("server", |_| async { Ok(()) });
        setup.client("one", |_| async { Ok(()) });
        setup.client("two", |_| async { pending().await });
    });
    assert!(matches!(&failed.cause, Cause::Unfinished(names) if names[..] == ["two"]), "{failed}");
    assert_eq!(failed.at, Duration::from_secs(10));
}

#[test]
fn turns_without_end_are_found() {
    let failed = fails(|setup| {
        setup.client("one", |host| async move {
            loop {
                let (told, mut hears) = tokio::sync::mpsc::channel::<()>(1);
                host.spawn(async move {
                    told.send(()).await.ok();
                });
                hears.recv().await;
            }
        });
    });
    assert!(matches!(failed.cause, Cause::Livelock), "{failed}");
}

#[test]
fn a_check_that_does_not_hold_ends_the_run_when_it_breaks() {
    let failed = fails(|setup| {
        let sum = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        let seen = sum.clone();
        setup.always(move || match seen.load(std::sync::atomic::Ordering::SeqCst) {
            3 => Err("it is three".to_owned()),
            _ => Ok(()),
        });
        setup.client("one", move |host| {
            let sum = sum.clone();
            async move {
                for _ in 0..5 {
                    host.sleep(Duration::from_secs(1)).await;
                    sum.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                }
                Ok(())
            }
        });
    });
    assert!(matches!(&failed.cause, Cause::Broken(what) if what == "it is three"), "{failed}");
    assert_eq!(failed.at, Duration::from_secs(3));
}

#[test]
fn a_setup_that_can_not_run_says_why() {
    let failed = fails(|_| {});
    assert!(failed.to_string().contains("there is no client"), "{failed}");
    let failed = fails(|setup| {
        setup.client("one", |_| async { Ok(()) });
        setup.client("one", |_| async { Ok(()) });
    });
    assert!(failed.to_string().contains("two hosts \"one\""), "{failed}");
}

#[test]
fn a_program_that_looks_past_the_simulation_is_found() {
    let simulation = AsyncSimulation::new(|setup| {
        setup.client("one", |host| async move {
            // What nobody can repeat.
            let drawn = std::collections::hash_map::RandomState::new();
            host.log(format!("{}", std::hash::BuildHasher::hash_one(&drawn, 1)));
            Ok(())
        });
    });
    let failed = simulation.repeats(0..1).expect_err("it differs");
    assert!(matches!(failed.cause, Cause::Differs), "{failed}");
}
