use std::task::Waker;

use glueberry_proto::Instant;
use tracing::Span;

use std::time::SystemTime;

use glueberry_proto::StreamName;

use super::*;
use crate::metrics::NoMetrics;

fn hub(capacity: usize) -> EventHub {
    EventHub::new(capacity, Arc::new(NoMetrics), Arc::default())
}

/// Publishes an event as the node's task does.
fn publish(hub: &EventHub, event: &Event) {
    match event.clone() {
        Event::State(changed) => {
            let (connection, _span) = (Span::none(), Span::none());
            hub.publish_change(Entered { changed, since: Instant::ZERO, connection, _span });
        }
        event => hub.publish(&event),
    }
}

fn change(peer: PeerId, state: ConnectionState) -> Event {
    Event::State(StateChanged {
        peer,
        state,
        direction: None,
        session: None,
        reason: None,
        at: SystemTime::UNIX_EPOCH,
    })
}

fn next(events: &Events) -> Option<Event> {
    match events.poll_event(&Context::from_waker(Waker::noop())) {
        Poll::Ready(event) => event,
        Poll::Pending => None,
    }
}

#[test]
fn a_slow_subscriber_is_told_how_many_it_missed_and_where_peers_stand() {
    use ConnectionState::{Connected, Connecting, Disconnected, Established};
    let hub = hub(2);
    let (slow, quick) =
        (hub.subscribe(EventFilter::default()), hub.subscribe(EventFilter::default()));
    let (a, b, c) = (PeerId::random(), PeerId::random(), PeerId::random());
    let told = [
        change(a, Connecting),
        change(b, Connecting),
        change(a, Connected),
        change(c, Connecting),
        change(b, Disconnected),
        change(a, Established),
    ];
    for event in &told {
        publish(&hub, event);
        assert_eq!(next(&quick).as_ref(), Some(event));
    }
    assert_eq!([next(&slow), next(&slow)], [Some(told[0].clone()), Some(told[1].clone())]);
    assert_eq!(next(&slow), Some(Event::Lagged { missed: 4 }));
    let Some(Event::Snapshot(states)) = next(&slow) else { panic!("no snapshot") };
    let mut stands: Vec<_> = states.iter().map(|changed| (changed.peer, changed.state)).collect();
    let mut expected = vec![(a, Established), (c, Connecting)];
    stands.sort_unstable();
    expected.sort_unstable();
    assert_eq!(stands, expected);
    // From here on nothing is missing.
    publish(&hub, &change(c, Connected));
    assert_eq!(next(&slow), Some(change(c, Connected)));
    assert_eq!(next(&slow), None);
}

#[test]
fn filters_let_through_what_they_name() {
    use ConnectionState::{Connected, Established};
    let hub = hub(10);
    let (a, b) = (PeerId::random(), PeerId::random());
    let of_peer = hub.subscribe(EventFilter { peers: vec![a], states: Vec::new() });
    let of_state = hub.subscribe(EventFilter { peers: Vec::new(), states: vec![Established] });
    let of_both = hub.subscribe(EventFilter { peers: vec![a], states: vec![Established] });
    let stream = StreamName::new("chat").unwrap();
    let refused = |peer| Event::StreamRefused { peer, stream: stream.clone(), unsent: 1 };
    for peer in [a, b] {
        for event in [change(peer, Connected), change(peer, Established), refused(peer)] {
            publish(&hub, &event);
        }
    }
    let all = |events: &Events| std::iter::from_fn(|| next(events)).collect::<Vec<_>>();
    assert_eq!(all(&of_peer), [change(a, Connected), change(a, Established), refused(a)]);
    assert_eq!(all(&of_state), [change(a, Established), change(b, Established)]);
    assert_eq!(all(&of_both), [change(a, Established)]);
}

#[test]
fn a_subscription_ends_with_the_node_and_dropping_it_unsubscribes() {
    let hub = hub(10);
    let events = hub.subscribe(EventFilter::default());
    drop(hub.subscribe(EventFilter::default()));
    publish(&hub, &change(PeerId::random(), ConnectionState::Connected));
    assert_eq!(lock(&hub.subscribers).all.len(), 1);
    hub.close();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(events.poll_event(&cx), Poll::Ready(Some(_))));
    assert_eq!(events.poll_event(&cx), Poll::Ready(None));
    let late = hub.subscribe(EventFilter::default());
    assert_eq!(late.poll_event(&cx), Poll::Ready(None));
    cx = Context::from_waker(Waker::noop());
    assert_eq!(late.poll_event(&cx), Poll::Ready(None));
}

/// Also while nothing is published, and once the node has stopped.
#[test]
fn subscriptions_that_are_over_leave_nothing() {
    let hub = hub(2);
    let mut kept: Vec<Events> = (0..20).map(|_| hub.subscribe(EventFilter::default())).collect();
    let count = || lock(&hub.subscribers).all.len();
    for _ in 0..1_000 {
        drop(hub.subscribe(EventFilter::default()));
    }
    assert_eq!(count(), kept.len());
    kept.truncate(10);
    assert_eq!(count(), kept.len());
    hub.close();
    for _ in 0..1_000 {
        drop(hub.subscribe(EventFilter::default()));
    }
    assert_eq!(count(), 0);
}
