//! One trace over two nodes, sent to a collector of OpenTelemetry.
//!
//! ```text
//! docker run -p 4318:4318 -p 16686:16686 jaegertracing/jaeger
//! cargo run -p glueberry-examples --bin traces -- serve
//! cargo run -p glueberry-examples --bin traces -- ask MULTIADDR
//! ```
//!
//! Then http://localhost:16686 shows the question with its answer in one trace, and each session as a
//! trace of its own that links to the call of `dial`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use glueberry_examples::stopped;
use glueberry_tokio::{Handshake, Multiaddr, Node, Request, RequestLimits, TraceContext, identity};
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{Instrument, Level, Metadata, Span, info_span};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Asks a peer, or answers, and sends the spans of both to a collector.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Where the collector takes spans by OTLP over HTTP.
    #[arg(long, global = true, default_value = "http://127.0.0.1:4318/v1/traces")]
    collector: String,
    /// The file that holds this node's identity; created if it is missing.
    #[arg(long, global = true, default_value = "traces.key")]
    identity: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// Answers until Ctrl-C or SIGTERM.
    Serve {
        /// Where to listen.
        #[arg(long, default_value = "/ip4/127.0.0.1/udp/0/quic-v1")]
        listen: Multiaddr,
    },
    /// Asks a peer one question.
    Ask {
        /// The address that `serve` has printed.
        peer: Multiaddr,
    },
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let name = match cli.command {
        Command::Serve { .. } => "serve",
        Command::Ask { .. } => "ask",
    };
    let provider = provider(&cli.collector, name)?;
    let recorded = tracing_opentelemetry::layer().with_tracer(provider.tracer("traces"));
    tracing_subscriber::registry().with(recorded.with_filter(filter_fn(is_recorded))).init();
    tokio::runtime::Runtime::new()?.block_on(run(cli))?;
    // What has not been sent yet is sent now.
    provider.force_flush().map_err(|error| format!("spans were not sent: {error}"))?;
    Ok(provider.shutdown()?)
}

fn provider(collector: &str, name: &'static str) -> Result<SdkTracerProvider> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(collector)
        .build()?;
    let resource = Resource::builder().with_service_name(name).build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

/// The node's spans, and this program's. Those of the exporter itself would be exported as well, and so
/// on.
fn is_recorded(of: &Metadata<'_>) -> bool {
    let is_ours = of.target().starts_with("glueberry") || of.target() == module_path!();
    is_ours && *of.level() <= Level::DEBUG
}

async fn run(cli: Cli) -> Result<()> {
    let stopped = stopped()?;
    let mut builder = Node::builder(identity::load_or_create(&cli.identity)?)
        .streams(["questions"])
        .handshake(Handshake::accept_all());
    if let Command::Serve { listen } = &cli.command {
        builder = builder.listen(listen.clone());
    }
    let node = builder.build().await?;
    let work = async {
        match cli.command {
            Command::Serve { .. } => serve(&node).await,
            Command::Ask { peer } => ask(&node, peer).instrument(info_span!("question")).await,
        }
    };
    let result = tokio::select! {
        result = work => result,
        () = stopped => Ok(()),
    };
    node.shutdown().await;
    result
}

async fn ask(node: &Node, address: Multiaddr) -> Result<()> {
    let (requester, _) = node.requests("questions", RequestLimits::default())?;
    let peer = node.dial(address).await?;
    node.wait_established(peer).await?;
    let context = TraceContext::of(&Span::current());
    let question = TraceContext::inject(context.as_ref(), "what is the time?");
    let answer = requester.request(peer, question, Duration::from_secs(10)).await?;
    say(&format!("answer: {}", String::from_utf8_lossy(&answer)));
    Ok(())
}

async fn serve(node: &Node) -> Result<()> {
    let (_, mut incoming) = node.requests("questions", RequestLimits::default())?;
    for address in node.dial_addrs() {
        say(&format!("to ask: {address}"));
    }
    while let Some(request) = incoming.recv().await {
        tokio::spawn(async move {
            if let Err(error) = answer(request).await {
                say(&format!("not answered: {error}"));
            }
        });
    }
    Ok(())
}

async fn answer(request: Request) -> Result<()> {
    let (context, question) = TraceContext::extract(request.data.clone())?;
    let span = info_span!("answer", peer = %request.peer);
    if let Some(context) = context {
        context.continue_in(&span);
    }
    let text = format!("{} bytes were asked", question.len());
    Ok(request.respond(text).instrument(span).await?)
}

fn say(text: &str) {
    // Who reads it may have enough, such as `head`.
    if writeln!(io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}
