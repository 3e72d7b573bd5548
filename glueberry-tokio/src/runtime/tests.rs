//! The same tests on every runtime that is compiled in.

use std::{
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures_util::{
    future::{Either, select},
    task::noop_waker_ref,
};

use super::*;

/// Runs one scenario on every runtime.
macro_rules! on_every_runtime {
    ($($scenario:ident),* $(,)?) => {$(
        mod $scenario {
            #[cfg(feature = "tokio")]
            #[test]
            fn on_tokio() {
                $crate::runtime::tests::on_tokio(super::$scenario);
            }

            #[cfg(feature = "smol")]
            #[test]
            fn on_smol() {
                let runtime = std::sync::Arc::new($crate::runtime::AnyRuntime::smol());
                smol::block_on($crate::runtime::tests::limited(runtime, super::$scenario));
            }

            #[cfg(feature = "async-std")]
            #[test]
            fn on_async_std() {
                let runtime = std::sync::Arc::new($crate::runtime::AnyRuntime::async_std());
                let scenario = $crate::runtime::tests::limited(runtime, super::$scenario);
                async_std::task::block_on(scenario);
            }

            /// No executor at all.
            #[cfg(feature = "async-io")]
            #[test]
            fn on_threads() {
                let runtime = $crate::runtime::AnyRuntime::new("threads", |task| {
                    std::thread::spawn(|| async_io::block_on(task));
                });
                let runtime = std::sync::Arc::new(runtime);
                async_io::block_on($crate::runtime::tests::limited(runtime, super::$scenario));
            }
        }
    )*};
}
#[cfg(feature = "quic")]
pub(crate) use on_every_runtime;

#[cfg(feature = "tokio")]
pub(crate) fn on_tokio<F: Future<Output = ()>>(scenario: impl FnOnce(Arc<dyn Runtime>) -> F) {
    let tokio =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let runtime = {
        let _inside = tokio.enter();
        TokioRuntime::current().unwrap()
    };
    tokio.block_on(limited(Arc::new(runtime), scenario));
}

pub(crate) async fn limited<F: Future<Output = ()>>(
    runtime: Arc<dyn Runtime>,
    scenario: impl FnOnce(Arc<dyn Runtime>) -> F,
) {
    let limit = runtime.sleep_until(runtime.now() + Duration::from_secs(30));
    match select(pin!(scenario(runtime)), limit).await {
        Either::Left(_) => {}
        Either::Right(_) => panic!("takes too long"),
    }
}

on_every_runtime!(tasks_run, timer_keeps_its_word, sleep_lasts);

async fn tasks_run(runtime: Arc<dyn Runtime>) {
    let done = Arc::new(AtomicUsize::new(0));
    for _ in 0..10 {
        let (runtime, done) = (Arc::clone(&runtime), Arc::clone(&done));
        runtime.clone().spawn(Box::pin(async move {
            runtime.sleep_until(runtime.now() + Duration::from_millis(1)).await;
            done.fetch_add(1, Ordering::SeqCst);
        }));
    }
    while done.load(Ordering::SeqCst) < 10 {
        runtime.sleep_until(runtime.now() + Duration::from_millis(1)).await;
    }
}

async fn timer_keeps_its_word(runtime: Arc<dyn Runtime>) {
    let mut timer = runtime.timer();
    let mut cx = Context::from_waker(noop_waker_ref());
    assert!(timer.poll(&mut cx).is_pending(), "not armed");

    timer.reset(Some(runtime.now()));
    elapsed(&mut *timer).await;
    assert!(timer.poll(&mut cx).is_ready(), "stays ready");
    timer.reset(None);
    assert!(timer.poll(&mut cx).is_pending(), "disarmed");

    let hour = runtime.now() + Duration::from_secs(3600);
    timer.reset(Some(hour));
    assert!(timer.poll(&mut cx).is_pending());
    let soon = runtime.now() + Duration::from_millis(20);
    timer.reset(Some(soon));
    elapsed(&mut *timer).await;
    assert!(runtime.now() >= soon);
    timer.reset(Some(hour));
    assert!(timer.poll(&mut cx).is_pending(), "armed again");
}

async fn elapsed(timer: &mut dyn Timer) {
    std::future::poll_fn(|cx| timer.poll(cx)).await;
}

async fn sleep_lasts(runtime: Arc<dyn Runtime>) {
    let deadline = runtime.now() + Duration::from_millis(15);
    runtime.sleep_until(deadline).await;
    assert!(runtime.now() >= deadline);
}

#[cfg(feature = "tokio")]
#[test]
fn tokio_is_the_default_inside_tokio() {
    on_tokio(|_| async {
        let name = format!("{:?}", default_runtime().unwrap());
        assert!(name.starts_with("TokioRuntime"), "{name}");
    });
}

#[test]
fn default_outside_tokio() {
    let name = default_runtime().map(|runtime| format!("{runtime:?}"));
    let expected = if cfg!(feature = "smol") {
        Some("AnyRuntime(\"smol\")")
    } else if cfg!(feature = "async-std") {
        Some("AnyRuntime(\"async-std\")")
    } else {
        None
    };
    assert_eq!(name.as_deref(), expected);
}

/// A handle made inside keeps working outside.
#[cfg(all(feature = "tokio", feature = "async-io"))]
#[test]
fn tokio_from_outside_of_tokio() {
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let runtime: Arc<dyn Runtime> = {
        let _inside = tokio.enter();
        Arc::new(TokioRuntime::current().unwrap())
    };
    assert!(TokioRuntime::current().is_none());
    async_io::block_on(async {
        limited(Arc::clone(&runtime), tasks_run).await;
        limited(Arc::clone(&runtime), timer_keeps_its_word).await;
    });
}
