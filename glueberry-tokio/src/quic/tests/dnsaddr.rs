//! `/dnsaddr`, with a name server of the test's own.

use futures_util::future::join;
use glueberry_proto::{Address, DialError as CoreDialError};

use super::*;
use crate::address::AddressProblem;
use crate::quic::dial::dial_any;
use crate::quic::name::Target;
use crate::runtime::txt::tests::NameServer;

on_every_runtime!(
    a_list_leads_to_its_peer,
    a_list_leads_to_others,
    lists_that_lead_to_each_other_come_to_an_end,
    a_list_without_the_peer_is_told,
    long_lists_are_cut,
);

async fn dial(
    runtime: &Arc<dyn Runtime>,
    server: &NameServer,
    peer: PeerId,
    address: &str,
) -> Result<(quinn::Connection, Address), CoreDialError> {
    let (dialler, runtime) = (Node::dialling(runtime), server.beside(runtime));
    dial_any(&dialler.endpoint, &*runtime, peer, &[Address::new(address)]).await
}

fn socket_of(node: &Node) -> String {
    format!("/ip4/127.0.0.1/udp/{}/quic-v1", node.address().port())
}

async fn a_list_leads_to_its_peer(runtime: Arc<dyn Runtime>) {
    let listener = Node::listening(&runtime);
    let (peer, other) = (listener.peer, Node::dialling(&runtime).peer);
    let (socket, port) = (socket_of(&listener), listener.address().port());
    let server = NameServer::start(move |_| {
        vec![
            "v=spf1 -all".to_owned(),
            "dnsaddr=no address".to_owned(),
            // Nobody answers there: the others do not wait for it.
            format!("dnsaddr=/ip4/127.0.0.1/udp/9/quic-v1/p2p/{peer}"),
            format!("dnsaddr=/ip4/0.0.0.0/udp/{port}/quic-v1/p2p/{peer}"),
            format!("dnsaddr=/ip4/127.0.0.1/tcp/{port}/p2p/{peer}"),
            format!("dnsaddr={socket}/p2p/{other}"),
            format!("dnsaddr={socket}"),
            format!("dnsaddr={socket}/p2p/{peer}"),
        ]
    });
    for address in ["/dnsaddr/example.org".to_owned(), format!("/dnsaddr/example.org/p2p/{peer}")] {
        let dialled = dial(&runtime, &server, peer, &address);
        let (dialled, accepted) = join(dialled, listener.accept()).await;
        assert_eq!(dialled.unwrap().1, Address::new(&address), "it is the name that is remembered");
        accepted.unwrap();
    }
    assert_eq!(server.asked(), ["_dnsaddr.example.org"; 2]);
}

async fn a_list_leads_to_others(runtime: Arc<dyn Runtime>) {
    let listener = Node::listening(&runtime);
    let (peer, socket) = (listener.peer, socket_of(&listener));
    let server = NameServer::start(move |name| {
        let next = match name {
            "_dnsaddr.a.org" => format!("/dnsaddr/b.org/p2p/{peer}"),
            "_dnsaddr.b.org" => format!("/dnsaddr/c.org/p2p/{peer}"),
            _ => format!("{socket}/p2p/{peer}"),
        };
        vec![format!("dnsaddr={next}")]
    });
    let dialled = dial(&runtime, &server, peer, "/dnsaddr/a.org");
    let (dialled, accepted) = join(dialled, listener.accept()).await;
    dialled.unwrap();
    accepted.unwrap();
    assert_eq!(server.asked(), ["_dnsaddr.a.org", "_dnsaddr.b.org", "_dnsaddr.c.org"]);
}

async fn lists_that_lead_to_each_other_come_to_an_end(runtime: Arc<dyn Runtime>) {
    let peer = Node::dialling(&runtime).peer;
    // A list that leads to itself by sixteen names, each of which does, too.
    let server = NameServer::start(move |_| {
        (0..16).map(|n| format!("dnsaddr=/dnsaddr/{n}.org/p2p/{peer}")).collect()
    });
    let error = dial(&runtime, &server, peer, "/dnsaddr/0.org").await.unwrap_err();
    assert!(error.to_string().contains("leads to too many addresses"), "{error}");
    assert!(server.asked().len() <= 65, "{} look-ups", server.asked().len());
    // And one that is a chain.
    let server = NameServer::start(move |name| {
        vec![format!("dnsaddr=/dnsaddr/{}/p2p/{peer}", name.replace("_dnsaddr.", "a."))]
    });
    let error = dial(&runtime, &server, peer, "/dnsaddr/a.org").await.unwrap_err();
    assert!(error.to_string().contains("lead to each other"), "{error}");
    assert_eq!(server.asked().len(), 5);
}

async fn a_list_without_the_peer_is_told(runtime: Arc<dyn Runtime>) {
    let (peer, other) = (Node::dialling(&runtime).peer, Node::dialling(&runtime).peer);
    let server = NameServer::start(move |name| match name {
        "_dnsaddr.example.org" => {
            vec![format!("dnsaddr=/ip4/127.0.0.1/udp/9/quic-v1/p2p/{other}")]
        }
        _ => Vec::new(),
    });
    let error = dial(&runtime, &server, peer, "/dnsaddr/example.org").await.unwrap_err();
    assert!(
        error.to_string().contains("name example.org: no TXT record has an address"),
        "{error}"
    );
    let error = dial(&runtime, &server, peer, "/dnsaddr/nowhere.org").await.unwrap_err();
    assert!(error.to_string().contains("name nowhere.org: "), "{error}");
}

async fn long_lists_are_cut(runtime: Arc<dyn Runtime>) {
    let listener = Node::listening(&runtime);
    let (peer, socket) = (listener.peer, socket_of(&listener));
    // The seventeenth would be the one.
    let server = NameServer::start(move |_| {
        let records = (0..16).map(|n| format!("dnsaddr=/dnsaddr/nowhere{n}.org/p2p/{peer}"));
        records.chain([format!("dnsaddr={socket}/p2p/{peer}")]).collect()
    });
    let address: Multiaddr = "/dnsaddr/example.org".parse().unwrap();
    let Target::Dnsaddr(list) = Target::try_from(&address).unwrap() else { panic!() };
    let found = Target::listed(&list, &*server.beside(&runtime), peer).await.unwrap();
    assert_eq!(found.len(), 16);
    assert!(found.iter().all(|target| matches!(target, Target::Dnsaddr(_))), "{found:?}");
}

#[test]
fn what_follows_the_name_is_checked() {
    let problem = |text: &str| Target::parse(text).unwrap_err();
    assert_eq!(problem("/dnsaddr/a.b/udp/1/quic-v1"), AddressProblem::AfterDnsaddr("udp"));
    let peer = Keypair::generate_ed25519().public().to_peer_id();
    let relayed = format!("/dnsaddr/a.b/p2p/{peer}/p2p-circuit");
    assert_eq!(problem(&relayed), AddressProblem::AfterDnsaddr("p2p-circuit"));
    assert!(Target::parse(&format!("/dnsaddr/a.b/p2p/{peer}")).is_ok());
}
