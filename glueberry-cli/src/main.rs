//! The command `glueberry`: keys, peers, round trips, throughput, diagnosis, address books and the
//! simulator.
//!
//! Every subcommand prints for people, or with `--json` one JSON value per line for programs. It
//! exits with 0 if all went well, 1 if not, and 2 if the arguments are wrong.

mod bench;
mod book;
mod cli;
mod doctor;
mod http;
mod interrupt;
mod key;
mod network;
mod output;
mod shell;
mod top;

use std::process::ExitCode;

use clap::Parser;

use self::cli::{Cli, Command};
use self::interrupt::Interrupt;
use self::output::{Failure, Output};

fn main() -> ExitCode {
    let Cli { command, json } = Cli::parse();
    let output = Output::new(json);
    // The simulator prints by itself.
    if let Command::Sim { arguments } = command {
        let name = std::ffi::OsString::from("glueberry sim");
        return glueberry_sim::main_from([name].into_iter().chain(arguments));
    }
    match run(command, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failed(&failure);
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command, output: Output) -> Result<(), Failure> {
    match command {
        Command::Key { path } => key::create(&path, output),
        Command::Id { of } => key::show(&of, output),
        Command::Book(book) => book::run(book, output),
        Command::Completions { shell } => shell::completions(shell),
        Command::Man => shell::manual(),
        Command::Sim { .. } => Ok(()),
        Command::Listen(listen) => {
            wait(async |interrupt| network::listen(listen, interrupt, output).await)
        }
        Command::Dial(dial) => wait(async |interrupt| network::dial(dial, interrupt, output).await),
        Command::Ping(ping) => wait(async |interrupt| network::ping(ping, interrupt, output).await),
        Command::Bench(bench) => wait(async |interrupt| bench::run(bench, interrupt, output).await),
        Command::Doctor(doctor) => {
            wait(async |interrupt| doctor::run(doctor, interrupt, output).await)
        }
        Command::Top(top) => wait(async |interrupt| top::run(top, interrupt, output).await),
    }
}

/// Runs a command that uses the network, until it is done or interrupted.
fn wait(command: impl AsyncFnOnce(&mut Interrupt) -> Result<(), Failure>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async { command(&mut Interrupt::new()).await })
}
