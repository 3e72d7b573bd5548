//! Sealing and opening per size and implementation, and what a key costs.

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use glueberry_proto::compat::KeyCache;
use glueberry_proto::crypto::{Aead, Identity, PublicKey, RustCrypto, SharedKey};

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    for (name, aead) in implementations() {
        seal(&mut criterion, name, &*aead);
        open(&mut criterion, name, &*aead);
    }
    keys(&mut criterion);
    criterion.final_summary();
}

fn seal(criterion: &mut Criterion, name: &str, aead: &dyn Aead) {
    let key = aead.key(&shared_key());
    let mut group = criterion.benchmark_group(format!("seal/{name}"));
    for size in SIZES {
        group.throughput(Throughput::Bytes(size));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            let mut text = vec![7; usize::try_from(size).expect("at most 1 MiB")];
            bencher.iter(|| key.seal(&NONCE, b"", black_box(&mut text)));
        });
    }
}

fn open(criterion: &mut Criterion, name: &str, aead: &dyn Aead) {
    let key = aead.key(&shared_key());
    let mut group = criterion.benchmark_group(format!("open/{name}"));
    for size in SIZES {
        group.throughput(Throughput::Bytes(size));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            let mut sealed = vec![7; usize::try_from(size).expect("at most 1 MiB")];
            let tag = key.seal(&NONCE, b"", &mut sealed);
            // Opening works in place, so each round needs a ciphertext of its own. They are made
            // outside of what is measured, few enough at a time to stay in the cache.
            let batch = BatchSize::NumIterations((IN_CACHE / size).max(1));
            bencher.iter_batched_ref(
                || sealed.clone(),
                |text| key.open(&NONCE, b"", text, &tag).expect("nothing was altered"),
                batch,
            );
        });
    }
}

fn keys(criterion: &mut Criterion) {
    let local = Arc::new(Identity::from_seed(&[1; 32]));
    let peer = Identity::from_seed(&[2; 32]).public_key();
    let mut group = criterion.benchmark_group("key");
    group.bench_function("agree_v1", |bencher| bencher.iter(|| local.agree_v1(black_box(&peer))));
    group.bench_function("agree_v1 cached", |bencher| {
        let mut cache = KeyCache::new(Arc::clone(&local), NonZeroUsize::MIN);
        bencher.iter(|| cache.shared_key(black_box(&peer)).is_ok());
    });
    group.bench_function("check public key", |bencher| {
        bencher.iter(|| PublicKey::from_bytes(black_box(peer.as_bytes())));
    });
    group.bench_function("identity from seed", |bencher| {
        bencher.iter(|| Identity::from_seed(black_box(&[1; 32])));
    });
    for (name, aead) in implementations() {
        let key = shared_key();
        group.bench_function(format!("prepare for {name}"), |bencher| {
            bencher.iter(|| aead.key(black_box(&key)));
        });
    }
}

fn implementations() -> Vec<(&'static str, Arc<dyn Aead>)> {
    vec![
        ("rust-crypto", Arc::new(RustCrypto::default())),
        #[cfg(feature = "aws-lc-rs")]
        ("aws-lc", Arc::new(glueberry_proto::crypto::AwsLc::default())),
    ]
}

fn shared_key() -> SharedKey {
    SharedKey::from_bytes(&[3; 32]).expect("32 bytes")
}

const SIZES: [u64; 6] = [64, 256, 1 << 10, 16 << 10, 64 << 10, 1 << 20];
const IN_CACHE: u64 = 256 << 10;
const NONCE: [u8; 12] = [9; 12];
