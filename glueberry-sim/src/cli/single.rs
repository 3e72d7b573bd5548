//! Commands about one run.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use super::{CliError, Source, print_text};
use crate::export::json_lines;
use crate::page::page;
use crate::plan::Plan;
use crate::report::latest;
use crate::shrink::shrink;
use crate::watch::watched;
use crate::world::World;

pub(super) fn replay(source: &Source) -> Result<ExitCode, CliError> {
    let mut world = World::new(source.plan()?, false);
    let outcome = watched(
        &world.pulse(),
        || world.run(),
        |violation| {
            print_text(&format!("{violation}\n"));
            std::process::exit(1)
        },
    );
    let code = match &outcome.violation {
        Some(violation) => {
            print_text(&format!("{violation}\n{}", latest(&world)));
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    };
    print_text(&format!(
        "{} core events in {} simulated seconds, trace hash {:032x}\n",
        outcome.inputs,
        outcome.time / 1_000_000,
        outcome.hash
    ));
    Ok(code)
}

pub(super) fn shrink_to(source: &Source, out: &Path, patience: u64) -> Result<ExitCode, CliError> {
    let plan = source.plan()?;
    let before = World::new(plan.clone(), false).run();
    let shrunk = shrink(&plan, Duration::from_secs(patience)).ok_or(CliError::NothingToShrink)?;
    let text = serde_json::to_string_pretty(&shrunk.plan)
        .map_err(|error| CliError::Plan { path: out.display().to_string(), error })?;
    write(out, &text)?;
    print_text(&format!(
        "{}\n{} steps became {}, {} core events became {}, in {} runs\nrepeat it with: cargo run \
         --release -p glueberry-sim -- replay {}\n",
        shrunk.violation,
        plan.steps.len(),
        shrunk.plan.steps.len(),
        before.inputs,
        shrunk.inputs,
        shrunk.runs,
        out.display()
    ));
    Ok(ExitCode::SUCCESS)
}

pub(super) fn trace(
    source: &Source,
    jsonl: Option<&Path>,
    html: Option<&Path>,
) -> Result<ExitCode, CliError> {
    let plan = source.plan()?;
    let title = format!("seed {}, {:?}", plan.seed, plan.profile);
    let mut world = World::new(plan, true);
    let outcome = world.run();
    if let Some(path) = html {
        write(path, &page(&world, &title))?;
    }
    match jsonl {
        Some(path) => write(path, &json_lines(&world))?,
        None if html.is_none() => print_text(&json_lines(&world)),
        None => {}
    }
    let is_clean = outcome.violation.is_none();
    Ok(if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Source {
    fn plan(&self) -> Result<Plan, CliError> {
        let Some(path) = &self.plan else {
            return Ok(self.shape.plan(self.seed));
        };
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| CliError::File { path: name.clone(), error })?;
        Plan::parse(&text).map_err(|error| CliError::Plan { path: name, error })
    }
}

fn write(path: &Path, text: &str) -> Result<(), CliError> {
    std::fs::write(path, text)
        .map_err(|error| CliError::File { path: path.display().to_string(), error })
}
