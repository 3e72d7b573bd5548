//! Whether the time to check a CONFIRM of v2 tells how much of it is right, as dudect asks it (Reparaz,
//! Balasch, Verbauwhede, 2017): two classes of input in random order, and Welch's t of their times.
//!
//! ```text
//! cargo bench -p glueberry-proto --bench confirm [-- SAMPLES]
//! ```
//!
//! One class differs from the right MAC in its first byte, the other in its last. With |t| above 10 the two
//! are told apart for certain, below 4.5 nothing is seen. A comparison that stops at the first difference is
//! measured beside it: it shows what this machine can see. It judges nothing; a busy machine sees less.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "a measurement"
)]

use std::hint::black_box;
use std::time::Instant;

use glueberry_proto::testing::Confirmation;

fn main() {
    let asked = std::env::args().skip(1).find_map(|arg| arg.parse().ok());
    let samples: usize = asked.unwrap_or(1_000_000);
    let confirmation = Confirmation::new(&[1; 32], &[2; 32], &[3; 32]);
    let right = confirmation.mac();
    assert!(confirmation.verifies(&right), "the right one is accepted");
    let (mut first, mut last) = (right, right);
    first[0] ^= 0x55;
    last[31] ^= 0x55;
    let classes = [first, last];
    assert!(!classes.iter().any(|mac| confirmation.verifies(mac)), "wrong ones are not");
    println!("{samples} samples; |t| by how many of the slowest are left out");
    report("CONFIRM of v2", measure(samples, &classes, |mac| confirmation.verifies(mac)));
    report("stops at the first difference", measure(samples, &classes, |mac| is_same(&right, mac)));
}

/// A comparison as it must not be.
#[inline(never)]
fn is_same(left: &[u8; 32], right: &[u8; 32]) -> bool {
    // With the same work around it as the check has.
    black_box(Confirmation::new(left, left, left).mac());
    left.iter().zip(right).all(|(left, right)| black_box(left) == black_box(right))
}

/// Returns nanoseconds by class.
fn measure(
    samples: usize,
    classes: &[[u8; 32]; 2],
    check: impl Fn(&[u8; 32]) -> bool,
) -> [Vec<f64>; 2] {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut times = [Vec::new(), Vec::new()];
    for sample in 0..samples + WARM_UP {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let class = usize::from(random & 0x100 != 0);
        // Copied, so that both classes are read from one place.
        let input = black_box(classes[class]);
        let began = Instant::now();
        let result = check(&input);
        let time = began.elapsed();
        black_box(result);
        if sample >= WARM_UP {
            times[class].push(time.as_nanos() as f64);
        }
    }
    times
}

fn report(what: &str, times: [Vec<f64>; 2]) {
    let mut all = times.concat();
    all.sort_unstable_by(f64::total_cmp);
    let line = LEFT_OUT.map(|percent| {
        let most = all[(all.len() - 1) * (100 - percent) / 100];
        let kept = times
            .each_ref()
            .map(|class| class.iter().copied().filter(|time| *time <= most).collect::<Vec<_>>());
        format!("{percent} %: {:.1}", welch(&kept).abs())
    });
    println!("{what:32} median {:.0} ns   {}", all[all.len() / 2], line.join("   "));
}

/// Welch's t of two samples.
fn welch(classes: &[Vec<f64>; 2]) -> f64 {
    let [a, b] = classes.each_ref().map(|class| {
        let count = class.len() as f64;
        let mean = class.iter().sum::<f64>() / count;
        let variance = class.iter().map(|it| (it - mean).powi(2)).sum::<f64>() / (count - 1.0);
        (mean, variance / count)
    });
    (a.0 - b.0) / (a.1 + b.1).sqrt()
}

const WARM_UP: usize = 10_000;
const LEFT_OUT: [usize; 4] = [0, 1, 10, 50];
