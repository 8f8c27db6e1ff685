//! The arguments after `prove`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};

use super::parts::{ON_DISK, SERVERS, TRANSPORTS};

/// What to prove, and how often.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(super) kills: bool,
    pub(super) power: bool,
    pub(super) faults: bool,
    pub(super) soak: bool,
    pub(super) replay: bool,
    pub(super) frames: bool,
    pub(super) count: Option<u32>,
    pub(super) store: Option<String>,
    pub(super) transport: Option<String>,
    pub(super) subscriptions: Option<u32>,
    pub(super) data: Option<PathBuf>,
    pub(super) shard: Shard,
    /// Skip parts that have passed on the same code.
    pub(super) resume: bool,
    /// Print the parts, and run nothing.
    pub(super) list: bool,
}

/// One of so many shares of the parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shard {
    /// From 1.
    nth: usize,
    of: usize,
}

impl Default for Shard {
    fn default() -> Self {
        Self { nth: 1, of: 1 }
    }
}

impl Shard {
    /// Every n-th part, so that the long ones, which are adjacent, are spread.
    pub(super) fn of<'a, T>(&self, all: &'a [T]) -> impl Iterator<Item = &'a T> + use<'a, T> {
        all.iter().skip(self.nth - 1).step_by(self.of)
    }
}

impl FromStr for Shard {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let read = || {
            let (nth, of) = text.split_once('/')?;
            Some((nth.parse().ok()?, of.parse().ok()?))
        };
        match read() {
            Some((nth, of)) if (1..=of).contains(&nth) => Ok(Self { nth, of }),
            _ => bail!("--shard needs I/N with I from 1 to N, as in 2/8; `{text}` is not"),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.nth, self.of)
    }
}

/// Parses the arguments after `prove`.
pub(crate) fn parse(words: &[&str]) -> Result<Plan> {
    let mut plan = Plan::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || {
            words.next().with_context(|| format!("{word} needs a value; see `cargo xtask --help`"))
        };
        let number = |text: &str| {
            let number = text.parse().ok().filter(|number| *number > 0);
            number.with_context(|| format!("{word} needs a whole number from 1"))
        };
        match *word {
            "kills" => plan.kills = true,
            "power" => plan.power = true,
            "faults" => plan.faults = true,
            "soak" => plan.soak = true,
            "replay" => plan.replay = true,
            "frames" => plan.frames = true,
            "all" => {
                (plan.kills, plan.power, plan.faults) = (true, true, true);
                (plan.soak, plan.replay, plan.frames) = (true, true, true);
            }
            "--count" => plan.count = Some(number(value()?)?),
            "--subscriptions" => plan.subscriptions = Some(number(value()?)?),
            "--store" => plan.store = Some((*value()?).to_owned()),
            "--transport" => plan.transport = Some((*value()?).to_owned()),
            "--data" => plan.data = Some(PathBuf::from(value()?)),
            "--shard" => plan.shard = value()?.parse()?,
            "--resume" => plan.resume = true,
            "--list" => plan.list = true,
            other => bail!("`{other}` is unknown; see `cargo xtask --help`"),
        }
    }
    check(&plan)?;
    Ok(plan)
}

/// Refuses invalid combinations.
fn check(plan: &Plan) -> Result<()> {
    let Plan { kills, power, faults, soak, replay, frames, .. } = *plan;
    if !(kills || power || faults || soak || replay || frames) {
        bail!(
            "name what to prove: kills, power, faults, soak, replay, frames or all; see `cargo xtask --help`"
        );
    }
    if let Some(store) = &plan.store {
        let is_server = SERVERS.iter().any(|(server, _)| server == store);
        ensure!(
            is_server || ON_DISK.contains(&store.as_str()),
            "there is no store `{store}`; see `cargo xtask --help`"
        );
        ensure!(
            !is_server || !(power || faults),
            "power and faults are for sled and sqlite only: a database server manages its own disk"
        );
    }
    if let Some(transport) = &plan.transport {
        ensure!(
            TRANSPORTS.contains(&transport.as_str()),
            "there is no transport `{transport}`; use one of {TRANSPORTS:?}"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_parse_in_any_order() {
        let plan = parse(&["--count", "7", "kills"]).unwrap();
        assert_eq!(plan, Plan { kills: true, count: Some(7), ..Plan::default() });
        let plan = parse(&["kills", "--store", "mariadb", "soak"]).unwrap();
        let store = Some("mariadb".into());
        assert_eq!(plan, Plan { kills: true, soak: true, store, ..Plan::default() });
        let plan = parse(&["power", "--store", "sled", "faults"]).unwrap();
        let store = Some("sled".into());
        assert_eq!(plan, Plan { power: true, faults: true, store, ..Plan::default() });
        let plan = parse(&["all", "--data", "x.jsonl", "--shard", "2/8", "--resume"]).unwrap();
        let all = [plan.kills, plan.power, plan.faults, plan.soak, plan.replay, plan.frames];
        assert_eq!((all, plan.resume), ([true; 6], true));
        assert_eq!((plan.data, plan.shard), (Some("x.jsonl".into()), Shard { nth: 2, of: 8 }));
        let plan = parse(&["frames", "--transport", "sse", "--subscriptions", "400"]).unwrap();
        let transport = Some("sse".into());
        let frames = Plan { frames: true, transport, ..Plan::default() };
        assert_eq!(plan, Plan { subscriptions: Some(400), ..frames });
    }

    #[test]
    fn invalid_arguments_are_refused() {
        for bad in [
            &[][..],
            &["--count", "7"],
            &["kills", "--count"],
            &["kills", "--count", "0"],
            &["kill"],
            &["kills", "--store", "redis"],
            &["all", "--store", "postgres"],
            &["power", "--store", "mariadb"],
            &["frames", "--transport", "pigeon"],
            &["frames", "--subscriptions", "0"],
            &["kills", "--shard", "0/2"],
            &["kills", "--shard", "3/2"],
            &["kills", "--shard", "1"],
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn shards_cover_everything_once() {
        let all: Vec<u32> = (0..10).collect();
        let mut together: Vec<u32> =
            (1..=3).flat_map(|nth| Shard { nth, of: 3 }.of(&all).copied()).collect();
        together.sort_unstable();
        assert_eq!(together, all);
        assert_eq!(Shard { nth: 5, of: 8 }.of(&all[..3]).count(), 0);
    }
}
