//! The rules of the crate that concern a machine with messages and time: C2, C7, C8, C10.

use proptest::prelude::*;

use super::*;

/// What happens at a time, in microseconds; `None` is a timeout.
type Input = (u64, Option<Vec<u8>>);

fn messages() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => Just(vec![1]),
        4 => Just(pub_key_of(PEER)),
        2 => Just(vec![3]),
        1 => Just(pub_key_of(STRANGER)),
        1 => Just(b"\x01\x001.9.0".to_vec()),
        1 => Just(b"\x01\x002.0.0".to_vec()),
        1 => (0..5_u8, prop::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(kind, rest)| [&[kind], &rest[..]].concat()),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ]
}

fn inputs() -> impl Strategy<Value = Vec<Input>> {
    let at = 0..40_000_000_u64;
    prop::collection::vec((at, prop::option::weighted(0.7, messages())), 0..30)
}

fn ascending(mut inputs: Vec<Input>) -> Vec<Input> {
    inputs.sort_by_key(|(at, _)| *at);
    inputs
}

fn give(greeting: &mut Greeting, at: u64, message: Option<&[u8]>) {
    let now = Instant::from_micros(at);
    match message {
        Some(message) => greeting.handle_message(now, message),
        None => greeting.handle_timeout(now),
    }
}

/// What comes of inputs, one by one, and when to be woken after each.
fn outcome(
    inputs: &[Input],
    mut before: impl FnMut(&mut Greeting, u64) -> u64,
) -> Vec<(Vec<Output>, Option<Instant>)> {
    let mut greeting = greeting(Some("1.2.9"));
    let steps = inputs.iter().map(|(at, message)| {
        let at = before(&mut greeting, *at);
        give(&mut greeting, at, message.as_deref());
        (greeting.drain(), greeting.poll_timeout())
    });
    steps.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn c2_one_end_and_nothing_after_it(inputs in inputs()) {
        let mut greeting = greeting(Some("1.2.9"));
        let mut ended = false;
        for (at, message) in ascending(inputs) {
            give(&mut greeting, at, message.as_deref());
            for output in greeting.drain() {
                prop_assert!(!ended, "{:?} after the end", output);
                ended = matches!(output, Output::Done { .. } | Output::Reject(_));
            }
            prop_assert_eq!(greeting.is_over(), ended);
            prop_assert_eq!(greeting.poll_timeout().is_none(), ended);
        }
    }

    #[test]
    fn c7_what_is_due_comes_first_and_time_never_goes_back(inputs in inputs()) {
        let inputs = ascending(inputs);
        let exact = outcome(&inputs, |_, at| at);
        let earlier = outcome(&inputs, |greeting, at| {
            greeting.handle_timeout(Instant::from_micros(at));
            at / 3
        });
        prop_assert_eq!(exact, earlier);
    }

    #[test]
    fn c8_the_timeout_lies_ahead_and_spurious_ones_are_harmless(inputs in inputs()) {
        let inputs = ascending(inputs);
        let exact = outcome(&inputs, |_, at| at);
        for ((at, _), (_, timeout)) in inputs.iter().zip(&exact) {
            prop_assert!(timeout.is_none_or(|timeout| timeout > Instant::from_micros(*at)));
        }
        let spurious = outcome(&inputs, |greeting, at| {
            let due = greeting.poll_timeout();
            if due.is_none_or(|due| due > Instant::from_micros(at)) {
                for early in [0, at / 2, at] {
                    greeting.handle_timeout(Instant::from_micros(early));
                }
            }
            at
        });
        prop_assert_eq!(exact, spurious);
    }

    /// However long its outputs are not taken.
    #[test]
    fn c10_outputs_that_wait_are_few(inputs in inputs(), takes in 0..4_usize) {
        let mut greeting = greeting(None);
        for _ in 0..takes {
            greeting.poll_output();
        }
        greeting.config.max_retries = u32::MAX;
        for (at, message) in ascending(inputs) {
            give(&mut greeting, at, message.as_deref());
            prop_assert!(greeting.outputs.len() <= 8);
        }
    }
}
