//! `cargo xtask prove`: the long proofs, in parts of minutes each, so that they can be divided and
//! resumed.
//!
//! | module | what it holds |
//! |---|---|
//! | `plan` | the arguments after `prove` |
//! | `parts` | what each proof consists of |
//! | `passed` | which parts have passed, on which code |

mod parts;
mod passed;
mod plan;

use anyhow::{Context, Result};

use self::parts::{Part, all_parts};
use self::passed::Passed;
pub(crate) use self::plan::{Plan, parse};
use crate::databases;
use crate::run::{Steps, cargo, run};

/// Runs the parts of the plan.
pub(crate) fn all(plan: &Plan) -> Result<()> {
    let mut plan = plan.clone();
    // Programs run in the workspace's folder.
    plan.data =
        plan.data.as_ref().map(std::path::absolute).transpose().context("--data is not a path")?;
    let passed = Passed::open()?;
    let all = all_parts(&plan);
    let count = all.len();
    let mine: Vec<&Part> = plan.shard.of(&all).collect();
    if plan.list {
        for part in mine {
            println!("{}  {}", if passed.has(&part.name) { "passed" } else { "      " }, part.name);
        }
        return Ok(());
    }
    let skips = |part: &&Part| plan.resume && passed.has(&part.name);
    let (done, mine): (Vec<&Part>, Vec<&Part>) = mine.into_iter().partition(skips);
    eprintln!(
        "shard {} of {count} parts: {} to run, {} passed before",
        plan.shard,
        mine.len(),
        done.len()
    );
    let mut steps = Steps::new();
    if mine.iter().any(|part| part.needs_bench) {
        steps.step("build the bench", "fix the compiler's errors", || {
            run(&mut cargo(["build", "--release", "--package", "im-bench"]))
        })?;
    }
    for part in mine {
        steps.step(&part.name, part.advice, || {
            if let Some(kind) = part.database {
                databases::install_if_missing(kind)?;
            }
            run(&mut part.command())
        })?;
        passed.add(&part.name)?;
    }
    steps.summary();
    Ok(())
}
