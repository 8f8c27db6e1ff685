//! Ids, epochs, stamps, direct rooms, and the list of codes.

use std::str::FromStr;

use im_core::{
    Advice, Code, DeviceId, Epoch, EventKind, MessageId, RoomId, SessionId, Stamp, StateKey, UserId,
};
use serde::{Deserialize, Serialize};

use super::golden;

#[derive(Serialize, Deserialize)]
struct Names {
    about: String,
    direct_rooms: Vec<DirectRoom>,
    ids: Vec<Id>,
    epochs: Text,
    stamps: Text,
    /// Stamps in ascending order.
    stamps_ascending: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct DirectRoom {
    users: [String; 2],
    room: String,
}

#[derive(Serialize, Deserialize)]
struct Text {
    good: Vec<String>,
    bad: Vec<String>,
}

/// Bounds and examples of an id.
#[derive(Serialize, Deserialize)]
struct Id {
    id: String,
    min_bytes: usize,
    max_bytes: usize,
    #[serde(flatten)]
    text: Text,
}

#[derive(Serialize, Deserialize)]
struct Codes {
    about: String,
    codes: Vec<CodeEntry>,
}

#[derive(Serialize, Deserialize)]
struct CodeEntry {
    code: u16,
    name: String,
    advice: String,
    meaning: String,
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// Invisible characters, and others that no id may contain.
const INVISIBLE: &[&str] = &[
    "",
    " ",
    "a b",
    "a\u{0}",
    "a\n",
    "a\u{7f}",
    "a\u{85}",
    "a\u{a0}",
    "a\u{ad}b",
    "a\u{34f}",
    "a\u{61c}",
    "\u{115f}",
    "\u{1680}",
    "a\u{180e}",
    "a\u{200b}",
    "a\u{200d}b",
    "a\u{200f}",
    "a\u{2028}",
    "a\u{202e}b",
    "a\u{2060}",
    "\u{2800}",
    "\u{3000}",
    "\u{3164}",
    "a\u{fe0f}",
    "\u{feff}a",
    "\u{ffa0}",
    "a\u{fff9}",
    "a\u{e0041}",
];

fn ids() -> Vec<Id> {
    let id = |id: &str, min_bytes, max_bytes, good: Vec<String>, mut bad: Vec<String>| {
        bad.push("x".repeat(max_bytes + 1));
        let mut good = good;
        good.extend(["x".repeat(min_bytes), "x".repeat(max_bytes)]);
        Id { id: id.into(), min_bytes, max_bytes, text: Text { good, bad } }
    };
    let visible = |name: &str, max| {
        let good = ["|trey|", "Zoë", "用户", "a@b.example", "a/b?c#d", "dm:1", "\u{1f600}"];
        let mut bad = owned(INVISIBLE);
        // Bytes count, not characters.
        bad.push("é".repeat(max / 2 + 1));
        id(name, 1, max, owned(&good), bad)
    };
    let token = |name: &str, min, max| {
        let mut bad = owned(&["", "é", "a b", "a/b", "a+b", "a=b", "a|b", "a@b", "a\u{200b}"]);
        bad.iter_mut().skip(1).for_each(|text| text.push_str("0123456789abcdef"));
        id(name, min, max, owned(&["0190b3f4-5c6d_7e8f.9a0b~1c:2"]), bad)
    };
    vec![
        visible("user", 64),
        visible("device", 64),
        visible("room", 128),
        visible("state key", 128),
        token("message", 16, 64),
        token("session", 1, 64),
        token("event kind", 1, 32),
    ]
}

fn accepts(id: &str) -> fn(&str) -> bool {
    match id {
        "user" => |text| UserId::new(text).is_ok(),
        "device" => |text| DeviceId::new(text).is_ok(),
        "room" => |text| RoomId::new(text).is_ok(),
        "state key" => |text| StateKey::new(text).is_ok(),
        "message" => |text| MessageId::new(text).is_ok(),
        "session" => |text| SessionId::new(text).is_ok(),
        "event kind" => |text| EventKind::new(text).is_ok(),
        other => panic!("no id is called {other}"),
    }
}

fn names() -> Names {
    let direct = |a: &str, b: &str| DirectRoom {
        users: [a.into(), b.into()],
        room: RoomId::direct(&UserId::new(a).unwrap(), &UserId::new(b).unwrap()).as_str().into(),
    };
    Names {
        about: "Which texts are ids, which are not; the ids of direct rooms; epochs and stamps. See ../SPEC.md.".into(),
        direct_rooms: vec![
            direct("alice", "bob"),
            direct("bob", "alice"),
            direct("ab", "c"),
            direct("a", "bc"),
            direct("alice", "alice"),
            direct("Zoë", "用户"),
            direct("B", "a"),
            direct("\u{1f600}", "\u{ffff}"),
        ],
        ids: ids(),
        epochs: Text {
            good: owned(&["0.0", "1f3a.2", "ffffffffffffffff.ffffffffffffffff"]),
            bad: owned(&["", "1", "1.", ".1", "01.1", "1F.1", "+1.1", "1.1.1", "1 .1", "10000000000000000.1"]),
        },
        stamps: Text {
            good: owned(&["0-0-0", "1767225600000-3-4294967295", "9007199254740991-4294967295-0"]),
            bad: owned(&["", "1-2", "1-2-3-4", "-1-2-3", "01-2-3", "1-+2-3", "1-4294967296-3", "9007199254740992-0-0"]),
        },
        stamps_ascending: owned(&["9-0-0", "9-0-1", "9-9-5", "9-10-0", "10-0-0", "10-0-4294967295", "10-1-0"]),
    }
}

fn advice(advice: Advice) -> &'static str {
    match advice {
        Advice::Done => "done",
        Advice::Retry => "retry",
        Advice::BackOff => "back off",
        Advice::Refresh => "refresh",
        Advice::Resync => "resync",
        Advice::Fix => "fix",
        Advice::Stop => "stop",
    }
}

#[test]
fn ids_epochs_stamps_match_vectors() {
    let kept: Names = serde_json::from_str(&golden("names.json", &names())).unwrap();
    for direct in &kept.direct_rooms {
        let [a, b] = direct.users.each_ref().map(|user| UserId::new(user).unwrap());
        assert_eq!(RoomId::direct(&a, &b).as_str(), direct.room);
        assert_eq!(RoomId::direct(&b, &a).as_str(), direct.room);
    }
    for id in &kept.ids {
        check(&id.id, &id.text, accepts(&id.id));
    }
    check("epoch", &kept.epochs, |text| {
        Epoch::from_str(text).is_ok_and(|epoch| epoch.to_string() == text)
    });
    check("stamp", &kept.stamps, |text| {
        Stamp::from_str(text).is_ok_and(|stamp| stamp.to_string() == text)
    });
    let ascending: Vec<Stamp> =
        kept.stamps_ascending.iter().map(|text| text.parse().unwrap()).collect();
    assert!(ascending.windows(2).all(|pair| pair[0] < pair[1]));
}

fn check(what: &str, text: &Text, accepts: impl Fn(&str) -> bool) {
    text.good.iter().for_each(|good| assert!(accepts(good), "{what} {good:?}"));
    text.bad.iter().for_each(|bad| assert!(!accepts(bad), "{what} {bad:?}"));
}

#[test]
fn codes_match_vectors() {
    let entry = |code: &Code| CodeEntry {
        code: code.number(),
        name: format!("{code:?}"),
        advice: advice(code.advice()).into(),
        meaning: code.meaning().into(),
    };
    let about = "Codes of err and disconnect frames; also WebSocket close codes. The hundreds say what to do, \
        also for codes that are not in this list: 40 done, 41 retry, 42 back off, 43 refresh, 44 resync, 45 fix, 46 stop.";
    let made = Codes { about: about.into(), codes: Code::ALL.iter().map(entry).collect() };
    let kept: Codes = serde_json::from_str(&golden("codes.json", &made)).unwrap();
    assert_eq!(kept.codes.len(), Code::ALL.len());
}
