//! What a script plays on: the victim, an honest peer that talks all the time, and its measure.

use std::fmt;
use std::pin::pin;
use std::time::{Duration, Instant};

use glueberry_tokio::identity::Keypair;
use glueberry_tokio::{Config, Node};
use tokio::sync::Mutex;

use super::attacker::Attacker;
use super::host::{Honest, Victim};
use super::{Script, within};
use crate::fabric::Fabric;

/// One run of one script over one fabric.
pub(super) struct Stage {
    pub(super) fabric: Fabric,
    pub(super) victim: Victim,
    /// Where attackers over QUIC send from.
    pub(super) endpoint: quinn::Endpoint,
    honest: Honest,
    measured: Mutex<Measured>,
}

/// What was seen in windows of time with the attack and without.
#[derive(Debug, Default)]
struct Measured {
    quiet: Vec<f64>,
    attacked: Vec<f64>,
    most_held: usize,
}

/// A row of the table.
#[derive(Debug)]
pub(super) struct Row {
    /// What the victim has reported.
    pub(super) reason: String,
    /// Messages a second before and between attacks.
    quiet: f64,
    /// Messages a second under attack.
    attacked: f64,
    longest_silence: Duration,
    connect: Duration,
    held: usize,
}

impl Stage {
    pub(super) async fn play(script: Script, fabric: Fabric) -> Row {
        let victim = Victim::start(fabric).await;
        let (honest, _) = Honest::connect(fabric, &victim).await;
        let any = "127.0.0.1:0".parse().expect("an address");
        let stage = Self {
            fabric,
            victim,
            endpoint: quinn::Endpoint::client(any).expect("a socket"),
            honest,
            measured: Mutex::default(),
        };
        stage.run(script).await
    }

    async fn run(&self, script: Script) -> Row {
        let before = self.held().await;
        let mut longest_silence = Duration::ZERO;
        self.measure(false, tokio::time::sleep(4 * WINDOW)).await;
        for turn in 0..4 * script.turns {
            self.measure(false, tokio::time::sleep(WINDOW)).await;
            self.honest.longest_silence();
            self.measure(true, async {
                let began = Instant::now();
                while began.elapsed() < WINDOW {
                    (script.round)(self).await;
                }
            })
            .await;
            longest_silence = longest_silence.max(self.honest.longest_silence());
            // On a busy machine more of them tell more.
            if turn + 1 >= script.turns && self.share().await >= LEAST_SHARE {
                break;
            }
        }
        // One more, in which another honest peer comes.
        self.honest.longest_silence();
        let newcomer = Honest::connect(self.fabric, &self.victim);
        let last = async { tokio::join!((script.round)(self), newcomer) };
        let (reason, (newcomer, connect)) = self.measure(true, last).await;
        longest_silence = longest_silence.max(self.honest.longest_silence());
        assert!(connect < CONNECT_LIMIT, "a newcomer needed {connect:?}");
        newcomer.leave().await;
        self.honest.finish().await;
        self.freed(before).await;
        let measured = self.measured.lock().await;
        let (quiet, attacked) = (median(&measured.quiet), median(&measured.attacked));
        assert!(
            attacked >= LEAST_SHARE * quiet,
            "honest messages: {quiet:.0} a second, {attacked:.0} under attack, of {measured:?}"
        );
        Row { reason, quiet, attacked, longest_silence, connect, held: measured.most_held }
    }

    async fn share(&self) -> f64 {
        let measured = self.measured.lock().await;
        median(&measured.attacked) / median(&measured.quiet)
    }

    /// Counts the honest peer's messages, window by window, while something goes on.
    async fn measure<T>(&self, is_attacked: bool, during: impl Future<Output = T>) -> T {
        let mut during = pin!(during);
        let mut output = None;
        loop {
            let (from, began) = (self.honest.echoed(), Instant::now());
            let window = tokio::time::sleep(WINDOW);
            tokio::pin!(window);
            loop {
                tokio::select! {
                    done = &mut during, if output.is_none() => output = Some(done),
                    () = &mut window => break,
                }
            }
            let count = u32::try_from(self.honest.echoed() - from).expect("a few");
            let rate = f64::from(count) / began.elapsed().as_secs_f64();
            let held = self.held().await;
            let mut measured = self.measured.lock().await;
            if is_attacked {
                measured.attacked.push(rate);
                measured.most_held = measured.most_held.max(held);
                let limit = Config::default().core.memory_limits().node;
                assert!(held <= limit, "{held} bytes are held, {limit} are allowed");
            } else {
                measured.quiet.push(rate);
            }
            if let Some(output) = output {
                return output;
            }
        }
    }

    /// Waits until what attackers made the victim hold is given back.
    async fn freed(&self, before: usize) {
        within("what attackers made the victim hold is given back", async {
            while self.held().await > before + MARGIN {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    /// Returns the bytes that peers make the victim hold.
    pub(super) async fn held(&self) -> usize {
        self.node().debug_state().await.expect("it runs").held_bytes
    }

    pub(super) const fn node(&self) -> &Node {
        self.victim.node()
    }

    /// Connects an attacker of a new identity.
    pub(super) async fn attacker(&self) -> Attacker<'_> {
        let attacker = self.attacker_with(Keypair::generate_ed25519());
        within("an attacker connects", attacker).await.expect("an attacker connects")
    }

    /// Connects an attacker of this identity.
    pub(super) async fn attacker_with(&self, keys: Keypair) -> std::io::Result<Attacker<'_>> {
        Attacker::dial(self, keys).await
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

impl Row {
    /// What stands above the columns.
    pub(super) const HEADER: &str =
        "   quiet  attack  share  silence  connect     held  reported by the victim";
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>6.0}/s {:>5.0}/s {:>5.0}% {:>5} ms {:>5} ms {:>4} KiB  {}",
            self.quiet,
            self.attacked,
            100.0 * self.attacked / self.quiet,
            self.longest_silence.as_millis(),
            self.connect.as_millis(),
            self.held >> 10,
            self.reason,
        )
    }
}

/// How long messages are counted for one sample.
const WINDOW: Duration = Duration::from_millis(200);
/// What must be left of the honest peer's rate under attack.
const LEAST_SHARE: f64 = 0.8;
/// What a newcomer may need, on a busy machine.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// What one more honest peer may make the victim hold: windows of a few substreams.
const MARGIN: usize = 2 << 20;
