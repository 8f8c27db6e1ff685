//! The examples in `wire/SPEC.md` parse.

use im_core::Code;
use im_core::wire::{
    AppendAck, Command, Encoding, HistoryPage, Limits, MemberPage, Reply, RoomStatus, RoomsPage,
    ServerFrame, SessionEntry, Value, Welcome, decode,
};

fn spec() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../wire/SPEC.md");
    std::fs::read_to_string(path).unwrap()
}

/// The code blocks of a language.
fn blocks(language: &str) -> Vec<String> {
    let fence = format!("\n```{language}\n");
    let spec = spec();
    spec.split(&fence).skip(1).map(|rest| rest.split("\n```").next().unwrap().to_owned()).collect()
}

fn frames(line: &str) -> Vec<Value> {
    decode(line.as_bytes(), Encoding::Json, &Limits::default())
        .unwrap_or_else(|e| panic!("{line}: {e}"))
}

/// Acks in the order of the commands that they acknowledge.
fn check_reply(command: &str, body: Value) {
    let fine = match command {
        "hello" => Welcome::from_value(body).is_ok(),
        "ping" => body.get("now").is_some(),
        "create" | "join" | "leave" | "member" | "send" => AppendAck::from_value(body).is_ok(),
        "members" => MemberPage::from_value(body).is_ok(),
        "rooms" => RoomsPage::from_value(body).is_ok(),
        "subscribe" | "resume" => RoomStatus::list_from_value(body).is_ok(),
        "checkpoint" | "unsubscribe" => body.get("rev").is_some(),
        "history" => HistoryPage::from_value(body).is_ok(),
        "put_state" | "remove_state" => body.get("stamp").is_some(),
        "sessions" => SessionEntry::list_from_value(body).is_ok(),
        "refresh" => Reply::refreshed_from_value(body).is_ok(),
        "logout" | "kick" | "signal" => true,
        _ => false,
    };
    assert!(fine, "the reply to {command}");
}

#[test]
fn every_example_parses_as_stated() {
    let mut asked = String::new();
    let mut read = 0;
    for block in blocks("json") {
        // Lines that continue after the margin are one line.
        for line in block.replace("\n ", "").lines() {
            let line = line.replace("…\"", "\"").replace("\"…", "\"");
            if line.contains('…') || !line.contains(r#""t":"#) {
                continue;
            }
            for frame in frames(&line) {
                read += 1;
                if let Ok(command) = Command::from_value(frame.clone()) {
                    asked = command.body.name().to_owned();
                    continue;
                }
                match ServerFrame::from_value(frame).unwrap_or_else(|e| panic!("{line}: {e}")) {
                    ServerFrame::Ok { body, .. } => check_reply(&asked, body),
                    ServerFrame::Unknown => panic!("{line}"),
                    ServerFrame::Err(_) | ServerFrame::Push(_) => {}
                }
            }
        }
    }
    assert!(read > 30, "only {read} examples were found");
}

#[test]
fn every_line_to_paste_parses() {
    let by_hand = blocks("text").into_iter().filter(|block| block.starts_with(r#"{"t":"hello""#));
    let lines: Vec<String> =
        by_hand.flat_map(|b| b.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    let pasted: Vec<&String> = lines.iter().filter(|line| !line.starts_with('<')).collect();
    assert!(pasted.len() > 10);
    for line in pasted {
        // A placeholder is not an epoch.
        for frame in frames(&line.replace("EPOCH", "1f3a.2")) {
            let unknown = frame.get("t").and_then(Value::as_text) == Some("dance");
            assert_eq!(Command::from_value(frame).is_err(), unknown, "{line}");
        }
    }
}

#[test]
fn every_code_is_in_spec_table() {
    let spec = spec();
    for code in Code::ALL {
        let row = format!("\n| {} | {} |\n", code.number(), code.meaning());
        assert!(spec.contains(&row), "{row}");
    }
}

#[test]
fn the_limits_printed_are_the_defaults() {
    let (spec, limits) = (spec(), Limits::default());
    let thousands =
        |n: usize| if n < 1000 { n.to_string() } else { format!("{},{:03}", n / 1000, n % 1000) };
    for (name, limit) in [
        (
            "`message_bytes` | bytes of one message from the client, batch included",
            limits.max_message_bytes,
        ),
        ("`batch` | frames of one message", limits.max_batch),
        ("packed as MessagePack in its shortest form", limits.max_content_bytes),
        ("`values` | values in one message", limits.max_values),
    ] {
        let words = format!("{name} ({})", thousands(limit));
        assert!(spec.contains(&words), "{words}");
    }
    assert!(spec.contains(&format!("how deep a content nests ({};", limits.max_depth)));
}
