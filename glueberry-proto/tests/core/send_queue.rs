//! The queue of one stream against a model that counts from scratch each time.

use std::collections::VecDeque;

use bytes::Bytes;
use glueberry_proto::{Config, SendError, SendLimits, SendQueue};
use proptest::prelude::*;

/// Something that is done to a queue.
#[derive(Clone, Debug)]
enum Op {
    Push(usize),
    PushMany(Vec<usize>),
    Pop,
    Take(usize),
    Reopened,
    Drain,
}

/// The rule as it is documented, over a plain list.
struct Model {
    limits: SendLimits,
    messages: Vec<Bytes>,
    is_full: bool,
}

impl Model {
    fn bytes(&self) -> usize {
        self.messages.iter().map(Bytes::len).sum()
    }

    fn push(&mut self, message: Bytes) -> Result<(), SendError> {
        let (size, limit) = (message.len(), self.limits.max_message_size);
        if size > limit {
            return Err(SendError::TooLarge { size, limit });
        }
        if self.is_full {
            return Err(SendError::Backpressure);
        }
        self.messages.push(message);
        self.is_full =
            self.messages.len() >= self.limits.high || self.bytes() >= self.limits.high_bytes;
        Ok(())
    }

    fn take(&mut self, budget: usize) -> Vec<Bytes> {
        let (mut taken, mut cost) = (Vec::new(), 0);
        while cost < budget && !self.messages.is_empty() {
            let message = self.messages.remove(0);
            // Frame and record add 32 bytes.
            cost += message.len() + 32;
            taken.push(message);
        }
        taken
    }

    fn reopened(&mut self) -> bool {
        let is_low =
            self.messages.len() <= self.limits.low && self.bytes() <= self.limits.low_bytes;
        let was_full = self.is_full;
        self.is_full = was_full && !is_low;
        was_full && is_low
    }
}

fn limits() -> SendLimits {
    let mut config = Config::default();
    (config.high_watermark, config.low_watermark) = (8, 3);
    (config.high_watermark_bytes, config.low_watermark_bytes) = (400, 100);
    config.max_message_size = 500;
    SendLimits::from(&config)
}

fn op() -> impl Strategy<Value = Op> {
    let size = prop_oneof![3 => 0..60_usize, 1 => 60..520_usize, 1 => Just(400)];
    prop_oneof![
        8 => size.clone().prop_map(Op::Push),
        2 => prop::collection::vec(size, 0..6).prop_map(Op::PushMany),
        2 => Just(Op::Pop),
        2 => prop_oneof![Just(0), 1..300_usize, Just(usize::MAX)].prop_map(Op::Take),
        3 => Just(Op::Reopened),
        1 => Just(Op::Drain),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_queue_does_what_its_documentation_says(ops in prop::collection::vec(op(), 0..200)) {
        let mut model = Model { limits: limits(), messages: Vec::new(), is_full: false };
        let mut queue = SendQueue::new(limits());
        for (number, op) in ops.into_iter().enumerate() {
            match op {
                Op::Push(size) => {
                    let message = Bytes::from(vec![u8::try_from(number).unwrap(); size]);
                    prop_assert_eq!(queue.push(message.clone()), model.push(message));
                }
                Op::PushMany(sizes) => {
                    let message = |size| Bytes::from(vec![u8::try_from(number).unwrap(); size]);
                    let mut batch: VecDeque<Bytes> = sizes.into_iter().map(message).collect();
                    let mut refused = batch.clone();
                    let mut expected = Ok(());
                    while let (Ok(()), Some(message)) = (expected, refused.front()) {
                        expected = model.push(message.clone());
                        if expected.is_ok() {
                            refused.pop_front();
                        }
                    }
                    prop_assert_eq!(queue.push_many(&mut batch), expected);
                    prop_assert_eq!(batch, refused);
                }
                Op::Pop => {
                    let oldest = (!model.messages.is_empty()).then(|| model.messages.remove(0));
                    prop_assert_eq!(queue.pop(), oldest);
                }
                Op::Take(budget) => {
                    let mut taken = VecDeque::new();
                    queue.take(budget, &mut taken);
                    prop_assert_eq!(Vec::from(taken), model.take(budget));
                }
                Op::Reopened => prop_assert_eq!(queue.reopened(), model.reopened()),
                Op::Drain => {
                    let all: Vec<Bytes> = queue.drain().collect();
                    prop_assert_eq!(all, std::mem::take(&mut model.messages));
                    model.is_full = false;
                }
            }
            prop_assert_eq!(queue.len(), model.messages.len());
            prop_assert_eq!(queue.bytes(), model.bytes());
            prop_assert_eq!(queue.is_empty(), model.messages.is_empty());
            prop_assert_eq!(queue.is_full(), model.is_full);
        }
    }
}

#[test]
fn the_message_that_reaches_a_watermark_is_accepted_and_the_next_refused() {
    for sizes in [&[399, 1][..], &[399, 500], &[400], &[500], &[1; 8]] {
        let mut queue = SendQueue::new(limits());
        for size in sizes {
            assert_eq!(queue.push(Bytes::from(vec![0; *size])), Ok(()), "{sizes:?}");
        }
        assert_eq!(queue.push(Bytes::new()), Err(SendError::Backpressure), "{sizes:?}");
        assert!(!queue.reopened());
        queue.take(usize::MAX, &mut VecDeque::new());
        assert!(queue.reopened());
        assert!(!queue.reopened(), "it is told once");
        assert_eq!(queue.push(Bytes::new()), Ok(()));
    }
}
