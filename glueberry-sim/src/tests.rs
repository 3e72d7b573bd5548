//! What the simulator promises of itself.

use crate::export::json_lines;
use crate::generate::{MINUTE, SECOND, Size, generate};
use crate::page::page;
use crate::plan::{Disk, Mix, Plan, Step, What};
use crate::watch::watched;
use crate::world::{Outcome, World};

const MIXES: [Mix; 6] =
    [Mix::Default, Mix::Lifecycle, Mix::Traffic, Mix::Calm, Mix::Hostile, Mix::Pipe];

/// Few nodes for a short time, because these tests run unoptimised too.
fn small(seed: u64, mix: Mix) -> Plan {
    generate(seed, mix, Size { hosts: Some(5), time: Some(MINUTE) })
}

fn run(plan: Plan) -> Outcome {
    World::new(plan, false).run()
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    for mix in MIXES {
        let (once, again) = (run(small(4, mix)), run(small(4, mix)));
        assert_eq!(once, again, "{mix:?}");
        assert_ne!(once.hash, run(small(5, mix)).hash, "{mix:?}");
    }
}

#[test]
fn a_plan_that_was_stored_gives_the_same_run() {
    let plan = small(6, Mix::Hostile);
    let stored = serde_json::to_string(&plan).unwrap();
    let loaded = Plan::parse(&stored).unwrap();
    assert_eq!(loaded, plan);
    assert_eq!(run(loaded), run(plan));
}

#[test]
fn a_plan_that_cannot_be_run_is_refused() {
    type Spoil = fn(&mut Plan);
    let cases: [(&str, Spoil); 5] = [
        ("hosts", |plan| plan.hosts.truncate(1)),
        ("host that", |plan| plan.hosts.truncate(4)),
        ("stream", |plan| {
            for step in &mut plan.steps {
                if let What::Send { stream, .. } = &mut step.what {
                    *stream = 99;
                }
            }
        }),
        ("configuration", |plan| plan.limits.dial_timeout = 0),
        ("one pipe", |plan| {
            plan.net.pipe = small(1, Mix::Pipe).net.pipe;
            plan.hosts[0].is_adversary = true;
        }),
    ];
    for (word, spoil) in cases {
        let mut plan = small(1, Mix::Default);
        spoil(&mut plan);
        let text = serde_json::to_string(&plan).unwrap();
        let error = Plan::parse(&text).unwrap_err().to_string();
        assert!(error.contains(word), "{word}: {error}");
    }
    assert!(Plan::parse("{}").is_err());
}

#[test]
fn every_mixture_runs_clean() {
    for mix in MIXES {
        for seed in 0..8 {
            let outcome = run(small(seed, mix));
            assert_eq!(outcome.violation, None, "{mix:?}, seed {seed}");
            assert!(outcome.delivered > 0, "{mix:?}, seed {seed}: nothing was delivered");
        }
    }
}

/// Where nothing goes wrong, everything arrives, however the network cuts and delays it.
#[test]
fn in_a_calm_network_everything_arrives() {
    for seed in 0..12 {
        let mut plan = small(seed, Mix::Calm);
        // Time for all of it to arrive.
        plan.net.bandwidth = 0;
        let outcome = run(plan);
        assert_eq!(outcome.accepted, outcome.delivered, "seed {seed}");
    }
}

/// Which cipher seals is nothing that an application can see.
#[test]
fn real_and_fast_cryptography_give_the_same_history() {
    for seed in 0..4 {
        let [fast, real] = [false, true].map(|is_real| {
            let mut plan = small(seed, Mix::Default);
            plan.is_real = is_real;
            let outcome = run(plan);
            (outcome.inputs, outcome.pops, outcome.accepted, outcome.delivered, outcome.checked)
        });
        assert_eq!(fast, real, "seed {seed}");
    }
}

#[test]
fn a_trace_is_json_line_by_line_and_a_page_that_needs_nothing_else() {
    let mut world = World::new(small(2, Mix::Default), true);
    let outcome = world.run();
    let lines = json_lines(&world);
    let values: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(values.len() > 100);
    assert_eq!(values[0]["plan"]["seed"], 2);
    assert_eq!(values[values.len() - 1]["hash"], format!("{:032x}", outcome.hash));
    let page = page(&world, "a </script> title");
    assert!(!page.contains("http"), "the page loads something");
    assert_eq!(page.matches("</script>").count(), 1, "data must not end the script");
}

/// Runs that once broke something, made small.
#[test]
fn what_broke_once_stays_mended() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/regressions");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let plan = Plan::parse(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let mut world = World::new(plan, false);
        let outcome = watched(
            &world.pulse(),
            || world.run(),
            |violation| {
                eprintln!("{}: {violation}", path.display());
                std::process::exit(1)
            },
        );
        assert_eq!(outcome.violation, None, "{}", path.display());
        count += 1;
    }
    assert!(count > 0);
}

/// The answer to a process that was killed is no answer to the one after it.
#[test]
fn a_save_that_outlives_its_process_takes_no_other() {
    for seed in 0..8 {
        let mut plan = small(seed, Mix::Calm);
        plan.steps.clear();
        plan.limits.autoconnect = false;
        let ban = What::Ban { by: 0, of: 2, by_clock: false, lasts: 40 * SECOND };
        let crash = What::Crash { host: 0, inputs: 0, down: 20, disk: Disk::Intact };
        for (at, what) in [
            (0, What::Want { by: 0, of: 1 }),
            (10 * SECOND, ban),
            (10 * SECOND + 50, crash),
            (20 * SECOND, What::Ban { by: 0, of: 3, by_clock: false, lasts: 30 * SECOND }),
        ] {
            plan.steps.push(Step { at, what });
        }
        assert_eq!(run(plan).violation, None, "seed {seed}");
    }
}
