//! The parts of each proof; each part is independent and takes less than an hour.

use std::process::Command;

use im_test_databases::Kind;

use super::plan::Plan;
use crate::run::cargo;

/// Stores on the local disk.
pub(super) const ON_DISK: [&str; 2] = ["sled", "sqlite"];

/// Stores on a database server, which is killed with the process that writes to it.
pub(super) const SERVERS: [(&str, Kind); 2] =
    [("postgres", Kind::Postgres), ("mariadb", Kind::MariaDb)];

/// Transports of replays and frames. Frames have no mix: it needs clients that change the
/// transport.
pub(super) const TRANSPORTS: [&str; 5] = ["ws", "sse", "long", "short", "mix"];

const KILLS: u32 = 1000;
const CUTS: u32 = 1000;
const ROUNDS: u32 = 10;
const SUBSCRIPTIONS: u32 = 10_000;

/// Kills or power cuts in one part.
const AT_ONCE: u32 = 100;

/// The replays of a proof: store, transport, seeds.
const REPLAYS: [(&str, &str, u32); 7] = [
    ("sqlite", "short", 3),
    ("sqlite", "mix", 3),
    ("sqlite", "ws", 1),
    ("sqlite", "sse", 1),
    ("sqlite", "long", 1),
    ("sled", "mix", 1),
    ("sled", "short", 1),
];

/// The generated log for replays beside a real one.
const SYNTHETIC: [&str; 4] = ["--synthetic", "100000", "--rooms", "200"];

/// One part of a proof.
#[derive(Debug)]
pub(super) struct Part {
    /// The same for the same part in every run.
    pub(super) name: String,
    pub(super) advice: &'static str,
    pub(super) needs_bench: bool,
    /// The database server whose programs the part needs.
    pub(super) database: Option<Kind>,
    words: Vec<String>,
    env: Vec<(&'static str, String)>,
}

impl Part {
    /// The command that runs the part.
    pub(super) fn command(&self) -> Command {
        let mut command = cargo(&self.words);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// A test of one store, with this count.
    fn on_store(
        test: &str,
        store: &str,
        variable: &'static str,
        count: &str,
        name: String,
    ) -> Self {
        let words =
            ["test", "--release", "--package", "im-tests", "--test", test, "--", "--nocapture"];
        Self {
            name,
            advice: "the output contains the seed and the violation; keep the folder that it names",
            needs_bench: false,
            database: None,
            words: words.map(str::to_owned).to_vec(),
            env: vec![(variable, count.to_owned()), ("IM_PROVE_STORE", store.to_owned())],
        }
    }

    /// A scenario of the bench.
    fn of_bench(name: String, words: &[&str]) -> Self {
        let run = ["run", "--quiet", "--release", "--package", "im-bench", "--"];
        Self {
            name,
            advice: "the report above contains the seed and the broken rules with their positions",
            needs_bench: true,
            database: None,
            words: run.iter().chain(words).map(|word| (*word).to_owned()).collect(),
            env: Vec::new(),
        }
    }
}

/// All parts of the plan, in a fixed order.
pub(super) fn all_parts(plan: &Plan) -> Vec<Part> {
    let mut parts = Vec::new();
    if plan.kills {
        kills(plan, &mut parts);
    }
    if plan.power {
        in_parts(plan, plan.count.unwrap_or(CUTS), |store, count, what| {
            let name = format!("power: {count} power cuts of {store}{what}");
            parts.push(Part::on_store("power", store, "IM_PROVE_POWER", &count.to_string(), name));
        });
    }
    if plan.faults {
        let count = plan.count.map_or_else(|| "all".to_owned(), |count| count.to_string());
        for store in ON_DISK.into_iter().filter(|store| is_chosen(plan.store.as_ref(), store)) {
            let name = format!("faults: {count} faults of the disk of {store}");
            parts.push(Part::on_store("faults", store, "IM_PROVE_FAULTS", &count, name));
        }
    }
    if plan.soak {
        soak(plan, &mut parts);
    }
    if plan.replay {
        replays(plan, &mut parts);
    }
    if plan.frames {
        frames(plan, &mut parts);
    }
    parts
}

fn is_chosen(chosen: Option<&String>, name: &str) -> bool {
    chosen.is_none_or(|chosen| chosen == name)
}

/// Divides `count` for each store into parts.
fn in_parts(plan: &Plan, count: u32, mut part: impl FnMut(&str, u32, &str)) {
    for store in ON_DISK.into_iter().filter(|store| is_chosen(plan.store.as_ref(), store)) {
        split(count, |count, what| part(store, count, what));
    }
}

fn split(count: u32, mut part: impl FnMut(u32, &str)) {
    let parts = count.div_ceil(AT_ONCE);
    for nth in 0..parts {
        let what = format!(", {} of {parts}", nth + 1);
        part(AT_ONCE.min(count - nth * AT_ONCE), if parts > 1 { &what } else { "" });
    }
}

/// Kills the processes that write to each store.
fn kills(plan: &Plan, parts: &mut Vec<Part>) {
    let count = plan.count.unwrap_or(KILLS);
    in_parts(plan, count, |store, count, what| {
        let name = format!("kills: {count} times kill -9 while writing to {store}{what}");
        parts.push(Part::on_store("kills", store, "IM_PROVE_KILLS", &count.to_string(), name));
    });
    for (store, kind) in SERVERS {
        if !is_chosen(plan.store.as_ref(), store) {
            continue;
        }
        split(count, |count, what| {
            let name = format!("kills: {count} times kill -9 while writing to {store}{what}");
            let (test, count) = ("database_kills", count.to_string());
            let mut part = Part::on_store(test, store, "IM_PROVE_KILLS", &count, name);
            part.database = Some(kind);
            parts.push(part);
        });
    }
    // A proof must not pass by skipping its test.
    for part in parts.iter_mut() {
        part.env.push(("IM_TEST_REQUIRE", "all".to_owned()));
    }
}

/// Replays the chat log with cuts and kills; each round has its own seed and store.
fn soak(plan: &Plan, parts: &mut Vec<Part>) {
    for round in 1..=plan.count.unwrap_or(ROUNDS) {
        let (store, seed) = (ON_DISK[round as usize % ON_DISK.len()], round.to_string());
        let words = ["replay", "--clients", "50", "--cuts", "40", "--kills", "4"];
        let choices = ["--store", store, "--transport", "mix", "--seed", &seed];
        let data = plan.data.as_ref().map(|data| data.to_string_lossy().into_owned());
        let data = data.as_ref().map(|data| ["--data", data]);
        let words = [&words[..], &choices, data.as_ref().map_or(&[], |data| data)].concat();
        let of = data.map_or("the sample".to_owned(), |data| data[1].to_owned());
        parts.push(Part::of_bench(format!("soak: round {round}, {of}"), &words));
    }
}

/// Replays under load with many faults, over each transport, of the log of the plan and of a
/// generated one. Without a log in the plan, all are of the generated one.
fn replays(plan: &Plan, parts: &mut Vec<Part>) {
    let data = plan.data.as_ref().map(|data| data.to_string_lossy().into_owned());
    let named = data.as_ref().map_or(SYNTHETIC.to_vec(), |data| vec!["--data", data]);
    let mut add = |log: &[&str], store: &str, transport: &str, seed: u32| {
        if !is_chosen(plan.store.as_ref(), store) || !is_chosen(plan.transport.as_ref(), transport)
        {
            return;
        }
        let name = format!("replay: {} over {transport} on {store}, seed {seed}", log[1]);
        let seed = seed.to_string();
        let words = ["replay", "--busy", "2", "--cuts", "500", "--kills", "20", "--clients", "150"];
        let choices = ["--store", store, "--transport", transport, "--seed", &seed];
        parts.push(Part::of_bench(name, &[&words[..], &choices, log].concat()));
    };
    for (store, transport, seeds) in REPLAYS {
        (1..=seeds).for_each(|seed| add(&named, store, transport, seed));
    }
    if data.is_some() {
        add(&SYNTHETIC, "sqlite", "short", 1);
        add(&SYNTHETIC, "sqlite", "mix", 1);
    }
}

/// Checks the pushes over each transport, frame by frame.
fn frames(plan: &Plan, parts: &mut Vec<Part>) {
    let subscriptions = plan.subscriptions.unwrap_or(SUBSCRIPTIONS).to_string();
    let store = plan.store.as_deref().unwrap_or("sqlite");
    let transports = TRANSPORTS.into_iter().filter(|transport| *transport != "mix");
    for seed in 1..=plan.count.unwrap_or(1) {
        for transport in transports.clone() {
            if !is_chosen(plan.transport.as_ref(), transport) {
                continue;
            }
            let name = format!(
                "frames: {subscriptions} subscriptions over {transport} on {store}, seed {seed}"
            );
            let seed = seed.to_string();
            let words = ["frames", "--subscriptions", &subscriptions, "--transport", transport];
            let choices = ["--store", store, "--seed", &seed];
            parts.push(Part::of_bench(name, &[&words[..], &choices].concat()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::parse;
    use super::*;

    fn names(words: &[&str]) -> Vec<String> {
        all_parts(&parse(words).unwrap()).into_iter().map(|part| part.name).collect()
    }

    #[test]
    fn proof_names_are_unique() {
        let names = names(&["all", "--data", "x"]);
        let different: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(different.len(), names.len());
    }

    #[test]
    fn counts_are_split_and_kept() {
        let names = names(&["kills", "--count", "250", "--store", "sled"]);
        let all = ["100 times kill -9 while writing to sled, 1 of 3", ", 2 of 3", "50 times"];
        assert!(names.iter().zip(all).all(|(name, what)| name.contains(what)), "{names:?}");
        assert_eq!(names.len(), 3);
    }

    #[test]
    fn replays_match_the_request() {
        assert_eq!(names(&["replay", "--data", "x"]).len(), 13);
        assert_eq!(names(&["replay"]).len(), 11);
        assert_eq!(names(&["replay", "--data", "x", "--transport", "short"]).len(), 5);
        assert_eq!(names(&["frames"]).len(), 4);
        assert_eq!(names(&["frames", "--transport", "sse", "--count", "3"]).len(), 3);
    }

    #[test]
    fn server_kills_may_not_be_skipped() {
        let parts = all_parts(&parse(&["kills", "--store", "mariadb", "--count", "5"]).unwrap());
        assert_eq!((parts.len(), parts[0].database), (1, Some(Kind::MariaDb)));
        assert!(parts[0].env.contains(&("IM_TEST_REQUIRE", "all".to_owned())));
    }
}
