//! A name server, for tests.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig};
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::TXT;
use hickory_resolver::proto::rr::{Record, RecordType};

use super::*;
use crate::runtime::{ResolvingTxt, Runtime, Task, Timer, resolve};

/// A name server on the loopback: what it answers for which name, and what it was asked.
pub(crate) struct NameServer {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl NameServer {
    /// Serves the TXT records that `records` has for a name, until the test's process ends.
    pub(crate) fn start(records: impl Fn(&str) -> Vec<String> + Send + Sync + 'static) -> Self {
        // TCP for what is too long for a datagram, on the port that UDP has got.
        let (udp, tcp) = std::iter::repeat_with(|| {
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let tcp = TcpListener::bind(udp.local_addr().unwrap());
            Some((udp, tcp.ok()?))
        })
        .find_map(|both| both)
        .unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let server = Self { address: udp.local_addr().unwrap(), asked: asked.clone() };
        let records = Arc::new(records);
        let of_udp = records.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = udp.recv_from(&mut buffer) {
                let (name, answer) = answer(&buffer[..length], &*of_udp);
                asked.lock().unwrap().push(name);
                let whole = answer.to_vec().unwrap();
                let fits = whole.len() <= 512;
                let sent = if fits { whole } else { answer.truncate().to_vec().unwrap() };
                udp.send_to(&sent, from).unwrap();
            }
        });
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = tcp.accept() {
                let mut length = [0; 2];
                stream.read_exact(&mut length).unwrap();
                let mut query = vec![0; u16::from_be_bytes(length).into()];
                stream.read_exact(&mut query).unwrap();
                let answer = answer(&query, &*records).1.to_vec().unwrap();
                let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
                stream.write_all(&[&length, &answer[..]].concat()).unwrap();
            }
        });
        server
    }

    /// Returns a runtime that asks this server, and is another in all else.
    pub(crate) fn beside(&self, runtime: &Arc<dyn Runtime>) -> Arc<dyn Runtime> {
        Arc::new(Asking { server: self.address, runtime: runtime.clone() })
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

#[test]
fn the_strings_of_a_record_are_one_text() {
    assert_eq!(
        text(&[(*b"dnsaddr=/dns4/exam").into(), (*b"ple.org").into()]),
        "dnsaddr=/dns4/example.org"
    );
}

/// Returns what a query asks for, and the answer.
fn answer(query: &[u8], records: &dyn Fn(&str) -> Vec<String>) -> (String, Message) {
    let query = Message::from_vec(query).unwrap();
    let question = query.queries[0].clone();
    assert_eq!(question.query_type(), RecordType::TXT);
    let name = question.name().to_string().trim_end_matches('.').to_owned();
    let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
    let texts = records(&name);
    if texts.is_empty() {
        answer.metadata.response_code = ResponseCode::NXDomain;
    }
    for text in texts {
        // As name servers do with what is longer than one string may be.
        let data = RData::TXT(TXT::from_bytes(text.as_bytes().chunks(255).collect()));
        answer.add_answer(Record::from_rdata(question.name().clone(), 1, data));
    }
    answer.add_query(question);
    (name, answer)
}

#[derive(Debug)]
struct Asking {
    server: SocketAddr,
    runtime: Arc<dyn Runtime>,
}

impl Runtime for Asking {
    fn spawn(&self, task: Task) {
        self.runtime.spawn(task);
    }

    fn timer(&self) -> Box<dyn Timer> {
        self.runtime.timer()
    }

    fn quinn(&self) -> Option<Arc<dyn quinn::Runtime>> {
        self.runtime.quinn()
    }

    fn resolve_txt(&self, name: &str) -> ResolvingTxt {
        let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
        connections.iter_mut().for_each(|it| it.port = self.server.port());
        let server = NameServerConfig::new(self.server.ip(), true, connections);
        let (name, servers) = (name.to_owned(), vec![server]);
        resolve::in_thread(move || {
            blocking(&name, Some(ResolverConfig::from_parts(None, Vec::new(), servers)))
        })
    }
}
