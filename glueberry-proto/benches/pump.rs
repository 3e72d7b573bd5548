//! The core alone: messages from one session into another, through memory, in one thread.

mod support;

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use glueberry_proto::Profile;
use glueberry_proto::testing::pair::{A, B};
use support::{established, node, stream};

fn pump(c: &mut Criterion) {
    let mut group = c.benchmark_group("pump");
    group.sample_size(20).measurement_time(Duration::from_secs(2));
    let sizes = [64_usize, 1 << 10, 64 << 10, 1 << 20];
    let profiles = [Profile::V1, Profile::V2];
    for (profile, size) in profiles.into_iter().flat_map(|it| sizes.map(|size| (it, size))) {
        let mut pair = established([1, 2].map(|side| node(profile, 1, side)));
        let message = Bytes::from(vec![7; size]);
        let batch = ((256 << 10) / size).clamp(1, 500);
        group.throughput(Throughput::Bytes(u64::try_from(size * batch).unwrap_or(u64::MAX)));
        let name = BenchmarkId::from_parameter(format!("{profile:?} {batch} x {size}"));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let (now, session) = (pair.now, pair.session(A));
                for _ in 0..batch {
                    session.send(now, &stream(), message.clone()).expect("there is room");
                }
                pair.run();
                let (mut received, session) = (0, pair.session(B));
                while let Some(message) = session.poll_message(&stream()) {
                    black_box(message);
                    received += 1;
                }
                assert_eq!(received, batch);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, pump);
criterion_main!(benches);
