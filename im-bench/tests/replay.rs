//! The real binary with the sample log: the whole tool, as a person would run it.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::path::Path;
use std::process::{Command, Output};

use im_test_databases::{Kind, skip};
use serde_json::Value;

fn replay(json: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_im-bench"));
    command.arg("replay").args(args).arg("--json").arg(json).env("RUST_LOG", "warn");
    command.output().unwrap()
}

/// Runs a replay that must be clean, and gives its report.
fn clean(args: &[&str]) -> Value {
    let file = tempfile::NamedTempFile::new().unwrap();
    let output = replay(file.path(), args);
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{args:?}\n{out}\n{err}");
    let report: Value =
        serde_json::from_str(&std::fs::read_to_string(file.path()).unwrap()).unwrap();
    assert_eq!(
        (&report["acknowledged"], &report["violations"]),
        (&400.into(), &0.into()),
        "{report}"
    );
    // The store holds what was acknowledged and the making of each room, nothing else.
    assert_eq!(report["stored"], 403, "{report}");
    report
}

#[test]
fn a_log_survives_cuts_and_kills() {
    let report = clean(&["--clients", "20", "--cuts", "12", "--kills", "3", "--store", "sled"]);
    assert_eq!(
        (&report["cuts"], &report["kills"], &report["missed"]),
        (&12.into(), &3.into(), &0.into()),
        "{report}"
    );
    let faults = report["faults"].as_array().unwrap();
    assert!(faults.iter().all(|fault| fault["pending"].as_u64() > Some(0)), "{report}");
    let kills: Vec<_> =
        faults.iter().filter(|fault| fault["fault"] == "kill").map(|fault| &fault["at"]).collect();
    assert_eq!(kills, [&Value::from(100), &Value::from(200), &Value::from(300)]);
}

#[test]
fn log_survives_database_and_server_kills() {
    for (store, kind) in [("postgres", Kind::Postgres), ("mariadb", Kind::MariaDb)] {
        if !kind.is_installed() {
            let test = "log_survives_database_and_server_kills";
            skip(test, &format!("{kind} is not installed"));
            continue;
        }
        let faults = ["--cuts", "5", "--kills", "3", "--database-kills", "3", "--store", store];
        let report = clean(&[&["--clients", "20"], &faults[..]].concat());
        assert_eq!(
            (&report["cuts"], &report["kills"], &report["database_kills"], &report["missed"]),
            (&5.into(), &3.into(), &3.into(), &0.into()),
            "{report}"
        );
        let faults = report["faults"].as_array().unwrap();
        assert!(faults.iter().all(|fault| fault["pending"].as_u64() > Some(0)), "{report}");
        let kills: Vec<_> = faults
            .iter()
            .filter(|fault| fault["fault"] != "cut")
            .map(|fault| (fault["fault"].as_str().unwrap(), fault["at"].as_u64().unwrap()))
            .collect();
        let (server, database) = ("kill", "database_kill");
        let due = [(database, 66), (server, 100), (database, 200), (server, 200), (server, 300)];
        assert_eq!(kills, [&due[..], &[(database, 333)]].concat(), "{report}");
    }
}

#[test]
fn single_client_survives_many_cuts() {
    let report =
        clean(&["--clients", "1", "--cuts", "5", "--store", "memory", "--encoding", "json"]);
    assert_eq!(report["cuts"], 5, "{report}");
}

/// The log survives cuts, kills and changes of transport.
#[test]
fn log_survives_faults_and_transport_changes() {
    let faults = ["--cuts", "12", "--kills", "3", "--store", "sled"];
    let report = clean(&[&["--clients", "20", "--transport", "mix"], &faults[..]].concat());
    assert_eq!(
        (&report["cuts"], &report["kills"], &report["missed"]),
        (&12.into(), &3.into(), &0.into()),
        "{report}"
    );
    let over = |transport: &str| report["connections"][transport].as_u64();
    assert!(["ws", "sse", "long", "short"].map(over).iter().all(|n| *n >= Some(5)), "{report}");
    // What was pending on a cut connection was acknowledged over another transport.
    assert!(report["switches"].as_u64() >= Some(12), "{report}");
}

#[test]
fn every_transport_alone_loses_nothing_either() {
    for transport in ["sse", "long", "short"] {
        let faults = ["--cuts", "5", "--store", "memory", "--encoding", "json"];
        let report = clean(&[&["--clients", "5", "--transport", transport], &faults[..]].concat());
        assert_eq!((&report["cuts"], &report["switches"]), (&5.into(), &0.into()), "{report}");
        let connections = report["connections"].as_object().unwrap();
        assert_eq!(connections.keys().collect::<Vec<_>>(), [transport], "{report}");
        // The service, the clients, and each of them again that was cut.
        assert!(connections[transport].as_u64() >= Some(11), "{report}");
    }
}

/// Runs a replay that must fail, and gives its report and its last words.
fn unclean(args: &[&str]) -> (Value, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let output = replay(file.path(), args);
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{args:?}\n{err}");
    (serde_json::from_str(&std::fs::read_to_string(file.path()).unwrap()).unwrap(), err)
}

#[test]
fn lost_room_fails_the_run() {
    for transport in ["ws", "sse", "long", "short", "mix"] {
        let (report, err) = unclean(
            &[
                &[
                    "--clients",
                    "5",
                    "--store",
                    "memory",
                    "--lines",
                    "100",
                    "--transport",
                    transport,
                ][..],
                &["--drop-a-subscription", "--stall-timeout", "3"],
            ]
            .concat(),
        );
        assert_eq!((&report["behind"], &report["in_sync"]), (&1.into(), &5.into()), "{report}");
        assert!(report["missing"][0].as_str().unwrap().starts_with("client-"), "{report}");
        assert!(err.contains("1 clients behind"), "{err}");
    }
}

#[test]
fn unclean_run_trace_names_missing_events() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("traces");
    let run = ["--clients", "2", "--store", "memory", "--lines", "100", "--transport", "long"];
    let broken = ["--drop-a-subscription", "--stall-timeout", "1", "--trace", to.to_str().unwrap()];
    let (report, _) = unclean(&[&run[..], &broken].concat());
    // "CLIENT follows ROOM, has …"
    let missing = report["missing"][0].as_str().unwrap();
    let (who, _) = missing.split_once(',').unwrap();
    let (client, room) = (who.split(' ').next().unwrap(), who.split(' ').next_back().unwrap());
    let trace = std::fs::read_to_string(to.join(format!("{client}.log"))).unwrap();
    let asked = |kind: &str| {
        trace
            .lines()
            .any(|line| line.contains("asks ") && line.contains(kind) && line.contains(room))
    };
    assert!(asked("\"subscribe\"") && asked("\"unsubscribe\""), "{trace}");
    assert!(trace.contains("listens, new socket: GET /im/poll?hold=25"), "{trace}");
    // The service follows all rooms to their ends.
    let whole = std::fs::read_to_string(to.join("service.log")).unwrap();
    let events = |line: &str| line.contains(&format!(" {room} ")) && line.ends_with(" to 101");
    assert!(whole.lines().any(events), "{whole}");
}

#[test]
fn run_that_is_too_slow_fails() {
    let rate = ["--least-rate", "4000000000", "--stall-timeout", "1"];
    let log = ["--synthetic", "1000000", "--rooms", "10", "--store", "memory"];
    let (report, err) = unclean(&[&log[..], &rate].concat());
    assert!(report["ended"].as_str().unwrap().contains("sends a second over 1 s"), "{report}");
    assert!(err.contains("it was ended early"), "{err}");
}

#[test]
fn synthetic_log_runs_over_shared_transports() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let log = ["--synthetic", "300", "--rooms", "30", "--lines", "200", "--seed", "7"];
    let crew = ["--clients", "8", "--rooms-per-client", "20", "--busy", "1", "--store", "memory"];
    let over = ["--transport", "mix", "--mix", "sse=1,short=3", "--cuts", "4"];
    let output = replay(file.path(), &[&log[..], &crew, &over].concat());
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    for said in ["seed 7", "ws=0,sse=1,long=0,short=3", "1 cores busy", "9 of 9 clients in sync"] {
        assert!(out.contains(said), "{said}: {out}");
    }
    let report: Value =
        serde_json::from_str(&std::fs::read_to_string(file.path()).unwrap()).unwrap();
    let connections = report["connections"].as_object().unwrap();
    assert_eq!(connections.keys().collect::<Vec<_>>(), ["short", "sse"], "{report}");
    // The service follows all rooms, and the others at least as many as were wished.
    assert!(report["subscriptions"].as_u64() >= Some(30 + 8 * 20), "{report}");
    assert_eq!(report["sends_per_second_by_tenth"].as_array().unwrap().len(), 10, "{report}");
}

/// Options that cannot be combined are refused, and the error names the reason.
#[test]
fn impossible_options_are_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for (args, reason) in [
        (&["--store", "memory", "--kills", "1"][..], "needs another --store"),
        (&["--store", "sled", "--database-kills", "1"], "--store postgres"),
        (&["--cuts", "400"], "leave no room"),
        (&["--data", "/nonexistent"], "/nonexistent"),
        (&["--speed", "0"], "above 0"),
        (&["--clients", "0"], "clients"),
        (&["--transport", "pigeon"], "mix"),
        (&["--transport", "ws", "--mix", "ws=1"], "--transport mix"),
        (&["--transport", "mix", "--mix", "ws=0"], "no transport has a share"),
        (&["--rooms-per-client", "4"], "has 3 rooms"),
        (&["--rooms", "4"], "--synthetic"),
        (&["--synthetic", "5", "--rooms", "6"], "cannot fill 6 rooms"),
        (&["--synthetic", "5", "--data", "x"], "--data"),
    ] {
        let output = replay(file.path(), args);
        assert!(!output.status.success(), "{args:?}");
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(words.contains(reason), "{args:?}: {words}");
    }
}
