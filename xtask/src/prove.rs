//! `cargo xtask prove`: the proofs that take long, with a count.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::run::{Steps, cargo, run};

/// What to prove, and how thoroughly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    kills: bool,
    soak: bool,
    count: Option<u32>,
    data: Option<PathBuf>,
}

const KILLS: u32 = 1000;
const ROUNDS: u32 = 10;

/// Reads the words after `prove`.
pub(crate) fn parse(words: &[&str]) -> Result<Plan> {
    let mut plan = Plan { kills: false, soak: false, count: None, data: None };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || {
            words.next().with_context(|| format!("{word} needs a value; see `cargo xtask --help`"))
        };
        match *word {
            "kills" => plan.kills = true,
            "soak" => plan.soak = true,
            "all" => (plan.kills, plan.soak) = (true, true),
            "--count" => {
                let count = value()?.parse().ok().filter(|count| *count > 0);
                plan.count = Some(count.context("--count needs a whole number from 1")?);
            }
            "--data" => plan.data = Some(PathBuf::from(value()?)),
            other => bail!("`{other}` is not known; see `cargo xtask --help`"),
        }
    }
    if !plan.kills && !plan.soak {
        bail!("say what to prove: kills, soak or all; see `cargo xtask --help`");
    }
    Ok(plan)
}

/// Runs what the plan names.
pub(crate) fn all(plan: &Plan) -> Result<()> {
    let mut steps = Steps::new();
    if plan.kills {
        let count = plan.count.unwrap_or(KILLS);
        let advice =
            "the output names the seed and the violation; keep the data folder that it names";
        steps.step(&format!("{count} times kill -9 while writing"), advice, || {
            let test = [
                "test",
                "--release",
                "--package",
                "im-tests",
                "--test",
                "kills",
                "--",
                "--nocapture",
            ];
            run(cargo(test).env("IM_PROVE_KILLS", count.to_string()))
        })?;
    }
    if plan.soak {
        soak(plan, &mut steps)?;
    }
    steps.summary();
    Ok(())
}

/// Replays the chat log again and again, with cuts and kills, each round with other choices and into a store of its own.
fn soak(plan: &Plan, steps: &mut Steps) -> Result<()> {
    // The bench brings a sample of its own.
    let data =
        plan.data.as_ref().map(std::path::absolute).transpose().context("--data names no path")?;
    steps.step("build the bench", "fix what the compiler says", || {
        run(&mut cargo(["build", "--release", "--package", "im-bench"]))
    })?;
    let rounds = plan.count.unwrap_or(ROUNDS);
    for round in 1..=rounds {
        let advice = "the report above names what was broken, by rule and place";
        steps.step(&format!("soak, round {round} of {rounds}"), advice, || {
            let mut replay =
                cargo(["run", "--quiet", "--release", "--package", "im-bench", "--", "replay"]);
            replay.args(["--clients", "50", "--cuts", "40", "--kills", "4", "--store", "sled"]);
            replay.args(["--seed", &round.to_string()]);
            if let Some(data) = &data {
                replay.arg("--data").arg(data);
            }
            run(&mut replay)
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_and_how_often_may_stand_in_any_order() {
        let plan = parse(&["--count", "7", "kills"]).unwrap();
        assert_eq!(plan, Plan { kills: true, soak: false, count: Some(7), data: None });
        let plan = parse(&["all", "--data", "x.jsonl"]).unwrap();
        assert_eq!(
            plan,
            Plan { kills: true, soak: true, count: None, data: Some("x.jsonl".into()) }
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in [
            &[][..],
            &["--count", "7"],
            &["kills", "--count"],
            &["kills", "--count", "0"],
            &["kill"],
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
