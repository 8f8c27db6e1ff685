//! `cargo xtask prove`: the proofs that take long, with a count.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use im_test_databases::Kind;

use crate::databases;
use crate::run::{Steps, cargo, run};

/// What to prove, and how thoroughly.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    kills: bool,
    power: bool,
    faults: bool,
    soak: bool,
    count: Option<u32>,
    store: Option<String>,
    data: Option<PathBuf>,
}

/// Stores in a folder.
const ON_DISK: [&str; 2] = ["sled", "sqlite"];

/// Stores on a server, which is killed with the process that writes to it.
const SERVERS: [(&str, Kind); 2] = [("postgres", Kind::Postgres), ("mariadb", Kind::MariaDb)];

const KILLS: u32 = 1000;
const CUTS: u32 = 1000;
const ROUNDS: u32 = 10;

/// Reads the words after `prove`.
pub(crate) fn parse(words: &[&str]) -> Result<Plan> {
    let mut plan = Plan::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || {
            words.next().with_context(|| format!("{word} needs a value; see `cargo xtask --help`"))
        };
        match *word {
            "kills" => plan.kills = true,
            "power" => plan.power = true,
            "faults" => plan.faults = true,
            "soak" => plan.soak = true,
            "all" => {
                plan = Plan { kills: true, power: true, faults: true, soak: true, ..plan };
            }
            "--count" => {
                let count = value()?.parse().ok().filter(|count| *count > 0);
                plan.count = Some(count.context("--count needs a whole number from 1")?);
            }
            "--store" => plan.store = Some((*value()?).to_owned()),
            "--data" => plan.data = Some(PathBuf::from(value()?)),
            other => bail!("`{other}` is not known; see `cargo xtask --help`"),
        }
    }
    if !(plan.kills || plan.power || plan.faults || plan.soak) {
        bail!("say what to prove: kills, power, faults, soak or all; see `cargo xtask --help`");
    }
    if let Some(store) = &plan.store {
        let is_server = SERVERS.iter().any(|(server, _)| server == store);
        ensure!(
            is_server || ON_DISK.contains(&store.as_str()),
            "there is no store `{store}`; see `cargo xtask --help`"
        );
        ensure!(
            !is_server || !(plan.power || plan.faults),
            "power and faults are for sled and sqlite: a database server looks after its own disk"
        );
    }
    Ok(plan)
}

/// Runs what the plan names.
pub(crate) fn all(plan: &Plan) -> Result<()> {
    let mut steps = Steps::new();
    let advice = "the output names the seed and the violation; keep the folder that it names";
    if plan.kills {
        kills(plan, &mut steps, advice)?;
    }
    if plan.power {
        let count = plan.count.unwrap_or(CUTS).to_string();
        steps.step(&format!("{count} power cuts"), advice, || {
            run(&mut on_stores(plan, "power", "IM_PROVE_POWER", &count))
        })?;
    }
    if plan.faults {
        let count = plan.count.map_or_else(|| "all".to_owned(), |count| count.to_string());
        steps.step(&format!("{count} faults of the disk"), advice, || {
            run(&mut on_stores(plan, "faults", "IM_PROVE_FAULTS", &count))
        })?;
    }
    if plan.soak {
        soak(plan, &mut steps)?;
    }
    steps.summary();
    Ok(())
}

/// Kills whatever writes to each store, one store after the other: two at once would be slower, and nothing else.
fn kills(plan: &Plan, steps: &mut Steps, advice: &str) -> Result<()> {
    let count = plan.count.unwrap_or(KILLS).to_string();
    let servers = SERVERS.map(|(server, _)| server);
    for store in ON_DISK.into_iter().chain(servers) {
        if plan.store.as_ref().is_some_and(|chosen| chosen != store) {
            continue;
        }
        let one = Plan { store: Some(store.to_owned()), ..plan.clone() };
        steps.step(&format!("{count} times kill -9 while writing to {store}"), advice, || {
            let server = SERVERS.iter().find(|(server, _)| *server == store);
            let mut test = "kills";
            if let Some((_, kind)) = server {
                databases::install_if_missing(*kind)?;
                test = "database_kills";
            }
            let mut test = on_stores(&one, test, "IM_PROVE_KILLS", &count);
            // A proof that skips shows nothing.
            run(test.env("IM_TEST_REQUIRE", "all"))
        })?;
    }
    Ok(())
}

/// The command that runs a test of stores so many times, on one store or on all.
fn on_stores(plan: &Plan, test: &str, variable: &str, count: &str) -> Command {
    let words = ["test", "--release", "--package", "im-tests", "--test", test, "--", "--nocapture"];
    let mut command = cargo(words);
    command.env(variable, count);
    if let Some(store) = &plan.store {
        command.env("IM_PROVE_STORE", store);
    }
    command
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
            let store = ON_DISK[round as usize % ON_DISK.len()];
            replay.args(["--clients", "50", "--cuts", "40", "--kills", "4", "--store", store]);
            replay.args(["--transport", "mix"]);
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
        assert_eq!(plan, Plan { kills: true, count: Some(7), ..Plan::default() });
        let plan = parse(&["kills", "--store", "mariadb", "soak"]).unwrap();
        let store = Some("mariadb".into());
        assert_eq!(plan, Plan { kills: true, soak: true, store, ..Plan::default() });
        let plan = parse(&["power", "--store", "sled", "faults"]).unwrap();
        let store = Some("sled".into());
        assert_eq!(plan, Plan { power: true, faults: true, store, ..Plan::default() });
        let plan = parse(&["all", "--data", "x.jsonl"]).unwrap();
        let data = Some("x.jsonl".into());
        let all = Plan { kills: true, power: true, faults: true, soak: true, ..Plan::default() };
        assert_eq!(plan, Plan { data, ..all });
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in [
            &[][..],
            &["--count", "7"],
            &["kills", "--count"],
            &["kills", "--count", "0"],
            &["kill"],
            &["kills", "--store", "redis"],
            &["all", "--store", "postgres"],
            &["power", "--store", "mariadb"],
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
