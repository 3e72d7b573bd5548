//! The program `traces`, and what a collector gets of it: a receiver of OTLP over HTTP that reads the
//! protobuf with OpenTelemetry's own definitions.

use std::collections::{BTreeMap, BTreeSet};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::running::{Folder, Running, output};

/// A span, and the service that has sent it.
type Received = (String, Span);

/// Takes what exporters send, until it is dropped.
async fn collector() -> (String, mpsc::Receiver<Vec<Received>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let (sender, receiver) = mpsc::channel(1000);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(requests(stream, sender.clone()));
        }
    });
    (url, receiver)
}

/// Answers the requests of one connection.
async fn requests(stream: TcpStream, received: mpsc::Sender<Vec<Received>>) {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut length, mut line) = (0, String::new());
        while line != "\r\n" {
            line.clear();
            if stream.read_line(&mut line).await.unwrap() == 0 {
                return;
            }
            let header = line.to_ascii_lowercase();
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        received.send(spans(&body)).await.unwrap();
        // An empty answer is one that says that all is well.
        let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\n\
                       content-length: 0\r\n\r\n";
        stream.get_mut().write_all(answer).await.unwrap();
    }
}

fn spans(body: &[u8]) -> Vec<Received> {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let mut all = Vec::new();
    for of_resource in request.resource_spans {
        let service = text(&of_resource.resource.unwrap().attributes, "service.name").unwrap();
        for scope in of_resource.scope_spans {
            all.extend(scope.spans.into_iter().map(|span| (service.clone(), span)));
        }
    }
    all
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|it| it.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        other => panic!("{key}: {other:?}"),
    }
}

#[cfg(unix)]
#[tokio::test]
async fn one_trace_goes_over_two_nodes_and_each_session_is_one() {
    let (folder, (url, mut receiver)) = (Folder::new("traces"), collector().await);
    let serve = ["serve", "--identity", "serve.key", "--collector", &url];
    let mut server = Running::start("traces", &folder.0, &serve);
    let address = server.wait_for("to ask: ").await;
    let ask = ["ask", &address, "--identity", "ask.key", "--collector", &url];
    let (is_good, printed) = output("traces", &folder.0, &ask).await;
    assert!(is_good && printed.contains("answer: "), "{printed}");
    assert!(server.signal("-TERM").await);

    // Both have sent everything before their end.
    let mut all = Vec::new();
    while let Ok(spans) = receiver.try_recv() {
        all.extend(spans);
    }
    let named = |service: &str, name: &str| {
        let is_it = |it: &&Received| it.0 == service && it.1.name == name;
        let found: Vec<&Received> = all.iter().filter(is_it).collect();
        assert_eq!(found.len(), 1, "{service} {name}: {all:#?}");
        &found[0].1
    };
    // The question, the call within it, and the answer on the other node are one trace.
    let (question, dial) = (named("ask", "question"), named("ask", "dial"));
    let answer = named("serve", "answer");
    for child in [dial, answer] {
        assert_eq!(child.trace_id, question.trace_id, "{child:?}");
        assert_eq!(child.parent_span_id, question.span_id, "{child:?}");
    }
    // A session is a trace of its own on each side, and links to the call that it follows from.
    let session = named("ask", "connection");
    assert!(session.parent_span_id.is_empty() && session.trace_id != question.trace_id);
    let linked: Vec<_> = session.links.iter().map(|it| &it.span_id).collect();
    assert_eq!(linked, [&dial.span_id]);
    assert!(named("serve", "connection").links.is_empty());
    let expected = ["connect", "handshake", "stream"];
    for (service, children) in [("ask", &expected[..]), ("serve", &expected[1..])] {
        let session = named(service, "connection");
        for name in children {
            let child = named(service, name);
            assert_eq!(child.trace_id, session.trace_id, "{service} {name}");
            assert_eq!(child.parent_span_id, session.span_id, "{service} {name}");
        }
        let told = session.events.iter().filter(|it| it.name == "state changed").count();
        assert_eq!(told, children.len().max(2) + 1, "{service}: {:?}", session.events);
    }
    every_span_says_which_node_it_is_of(&all, &address);
}

fn every_span_says_which_node_it_is_of(all: &[Received], address: &str) {
    let mut nodes: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (service, span) in all {
        if !["question", "answer"].contains(&&*span.name) {
            let node = text(&span.attributes, "node").unwrap_or_else(|| panic!("{span:?}"));
            nodes.entry(service).or_default().insert(node);
        }
    }
    assert!(nodes.values().all(|of_service| of_service.len() == 1), "{nodes:?}");
    assert!(nodes["serve"].iter().all(|node| address.ends_with(node)), "{nodes:?}");
    assert_ne!(nodes["serve"], nodes["ask"]);
}
