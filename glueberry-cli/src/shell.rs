//! What a shell and `man` need.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::output::{Failure, print_bytes};

pub(crate) fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "glueberry", &mut script);
    print_bytes(&script);
    Ok(())
}

/// Prints the page of the command, with those of its subcommands behind it.
pub(crate) fn manual() -> Result<(), Failure> {
    let mut page = Vec::new();
    let mut command = Cli::command();
    command.build();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    for subcommand in command.get_subcommands().filter(|it| it.get_name() != "help") {
        let name = format!("glueberry-{}", subcommand.get_name());
        let subcommand = subcommand.clone().display_name(name);
        let man = clap_mangen::Man::new(subcommand);
        man.render_synopsis_section(&mut page)?;
        man.render_description_section(&mut page)?;
        man.render_options_section(&mut page)?;
    }
    print_bytes(&page);
    Ok(())
}
