//! Every frame in both encodings.

use std::collections::BTreeSet;

use im_core::wire::{
    AppendAck, Command, CommandBody, Encoding, HistoryPage, Limits, MemberPage, Push, Reply,
    RoomStatus, RoomsPage, ServerFrame, SessionEntry, TicketGrant, Value, Welcome, decode, encode,
    encode_batch,
};
use im_core::{CommandId, Timestamp};
use serde::{Deserialize, Serialize};

use super::from_clients::commands;
use super::from_servers::{pushes, refusals, replies};
use super::{golden, hex, unhex};

/// A frame in its canonical form: what this implementation writes, byte for byte.
#[derive(Serialize, Deserialize)]
struct Frame {
    name: String,
    /// The sender: `client` or `server`.
    from: String,
    /// For an `ok`: the command that it acknowledges.
    #[serde(skip_serializing_if = "Option::is_none")]
    answers: Option<String>,
    json: String,
    msgpack: String,
}

/// A frame in another form that is equal to a canonical one.
#[derive(Serialize, Deserialize)]
struct Variant {
    name: String,
    encoding: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
    /// The name of the canonical frame.
    means: String,
}

/// Several frames in one message.
#[derive(Serialize, Deserialize)]
struct Batch {
    name: String,
    frames: Vec<String>,
    json: String,
    msgpack: String,
}

#[derive(Serialize, Deserialize)]
struct File {
    about: String,
    frames: Vec<Frame>,
    variants: Vec<Variant>,
    batches: Vec<Batch>,
}

const ABOUT: &str = "Every frame in both encodings, as the reference implementation writes it: an encoder that keeps \
    this order of fields gives the same bytes; a decoder must take any order. `variants` are other forms that must be \
    read as the frame they name. msgpack is hexadecimal. See ../SPEC.md.";

/// Every frame with its name, its sender and, for an `ok`, the command that it acknowledges.
fn all() -> Vec<(String, &'static str, Option<&'static str>, Value)> {
    let id = CommandId(7);
    let mut all = Vec::new();
    for (name, body) in commands() {
        all.push((name.to_owned(), "client", None, Command { id, body }.to_value()));
    }
    for (name, answers, reply) in replies() {
        all.push((format!("ok: {name}"), "server", Some(answers), reply.to_value(id)));
    }
    for (name, refusal) in refusals() {
        all.push((name.to_owned(), "server", None, refusal.to_value()));
    }
    for (name, push) in pushes() {
        all.push((format!("push: {name}"), "server", None, push.to_value()));
    }
    all
}

fn json(value: &Value) -> String {
    String::from_utf8(encode(value, Encoding::Json).to_vec()).unwrap()
}

fn variants() -> Vec<Variant> {
    let text = |name: &str, text: &str, means: &str| Variant {
        name: name.into(),
        encoding: "json".into(),
        text: Some(text.into()),
        hex: None,
        means: means.into(),
    };
    let packed = |name: &str, hex: &str, means: &str| Variant {
        name: name.into(),
        encoding: "msgpack".into(),
        text: None,
        hex: Some(hex.into()),
        means: means.into(),
    };
    vec![
        text(
            "another order and white space",
            "\r\n{ \"v\" : 1 ,\t\"id\":7, \"t\":\"hello\" } ",
            "hello, least",
        ),
        text(
            "null counts as absent",
            r#"{"t":"hello","id":7,"v":1,"token":null,"session":null,"secret":null}"#,
            "hello, least",
        ),
        text(
            "unknown fields are ignored",
            r#"{"t":"ping","id":7,"future":{"a":[1,2]},"room":5}"#,
            "ping",
        ),
        text(
            "a number with an exponent is an integer",
            r#"{"t":"hello","id":70e-1,"v":1.0}"#,
            "hello, least",
        ),
        text("escapes in names and texts", r#"{"\u0074":"\u0070ing","id":7}"#, "ping"),
        text("defaults of create", r#"{"t":"create","id":7,"room":"tea"}"#, "create, least"),
        text(
            "default role",
            r#"{"t":"member","id":7,"room":"tea","user":"bob","act":"add"}"#,
            "member, add a member",
        ),
        text(
            "default limit of members",
            r#"{"t":"members","id":7,"room":"tea"}"#,
            "members, first page",
        ),
        text("default limit of rooms", r#"{"t":"rooms","id":7}"#, "rooms, first page"),
        text(
            "history from the head",
            r#"{"t":"history","id":7,"room":"tea","limit":100}"#,
            "history, from the head backwards",
        ),
        text(
            "default kind",
            r#"{"t":"send","id":7,"room":"tea","mid":"0190b3f4-5c6d-7e8f-9a0b-1c2d3e4f5a6b","content":{"text":"hello"}}"#,
            "send, to a room",
        ),
        text(
            "no cursors, no list",
            r#"{"t":"resume","id":7,"rev":9007199254740991}"#,
            "resume, nothing but a checkpoint",
        ),
        text("a batch of one", r#"[{"t":"ping","id":7}]"#, "ping"),
        packed("another order", "82a2696407a174a470696e67", "ping"),
        packed("integers wider than need be", "82a174a470696e67a26964d30000000000000007", "ping"),
        packed(
            "a float without a fraction is an integer",
            "82a174a470696e67a26964cb401c000000000000",
            "ping",
        ),
        packed("a short float is a float", "82a174a470696e67a26964ca40e00000", "ping"),
        packed(
            "lengths wider than need be",
            "df00000002da000174d90470696e67db000000026964cc07",
            "ping",
        ),
        packed(
            "null counts as absent",
            "84a174a568656c6c6fa2696407a17601a5746f6b656ec0",
            "hello, least",
        ),
    ]
}

fn batches(all: &[(String, &'static str, Option<&'static str>, Value)]) -> Vec<Batch> {
    let batch = |name: &str, names: Vec<String>| {
        let find = |name: &String| all.iter().find(|(n, ..)| n == name).unwrap().3.clone();
        let frames: Vec<Value> = names.iter().map(find).collect();
        let bytes = |encoding| encode_batch(&frames, encoding).to_vec();
        Batch {
            name: name.into(),
            json: String::from_utf8(bytes(Encoding::Json)).unwrap(),
            msgpack: hex(&bytes(Encoding::MsgPack)),
            frames: names,
        }
    };
    let some = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    vec![
        batch("one frame stands alone", some(&["ping"])),
        batch("commands", some(&["hello, least", "subscribe, from the head", "ping"])),
        batch(
            "a reply and pushes",
            some(&["ok: sent", "push: event, a message", "push: signal, in a room"]),
        ),
        batch("sixteen", vec!["ping".to_owned(); 16]),
    ]
}

/// Each frame has its vector, and each vector its frame.
#[test]
fn frames_and_vectors_match() {
    let all = all();
    let frames = all.iter().map(|(name, from, answers, value)| Frame {
        name: name.clone(),
        from: (*from).into(),
        answers: answers.map(str::to_owned),
        json: json(value),
        msgpack: hex(&encode(value, Encoding::MsgPack)),
    });
    let made = File {
        about: ABOUT.into(),
        frames: frames.collect(),
        variants: variants(),
        batches: batches(&all),
    };
    let names: BTreeSet<&str> = made.frames.iter().map(|frame| frame.name.as_str()).collect();
    assert_eq!(names.len(), made.frames.len(), "two vectors have one name");
    let kept: File = serde_json::from_str(&golden("frames.json", &made)).unwrap();
    kept.frames.iter().for_each(check_frame);
    for variant in &kept.variants {
        let means = kept.frames.iter().find(|frame| frame.name == variant.means).unwrap();
        check_variant(variant, means);
    }
    kept.batches.iter().for_each(|batch| check_batch(batch, &kept.frames));
}

fn read(bytes: &[u8], encoding: Encoding) -> Vec<Value> {
    decode(bytes, encoding, &Limits::default()).unwrap()
}

fn check_frame(frame: &Frame) {
    let (text, packed) = (frame.json.as_bytes(), unhex(&frame.msgpack));
    let [from_text, from_packed] = [read(text, Encoding::Json), read(&packed, Encoding::MsgPack)];
    assert_eq!(from_text, from_packed, "{}", frame.name);
    let value = from_text[0].clone();
    assert_eq!(json(&value), frame.json, "{}", frame.name);
    assert_eq!(encode(&value, Encoding::MsgPack), packed, "{}", frame.name);
    let typed = match frame.from.as_str() {
        "client" => Command::from_value(value.clone()).unwrap().to_value(),
        _ => server_frame(&value, frame.answers.as_deref()),
    };
    assert_eq!(json(&typed), frame.json, "{}", frame.name);
}

/// Parses a frame as a client does, and encodes it again as a server does.
fn server_frame(value: &Value, answers: Option<&str>) -> Value {
    let body = match ServerFrame::from_value(value.clone()).unwrap() {
        ServerFrame::Ok { body, .. } => body,
        ServerFrame::Err(refusal) => return refusal.to_value(),
        ServerFrame::Push(push) => return push.to_value(),
        ServerFrame::Unknown => panic!("unknown: {value:?}"),
    };
    let reply = match answers.unwrap() {
        "hello" => Reply::Welcome(Box::new(Welcome::from_value(body).unwrap())),
        "ping" => Reply::Pong(Timestamp::from_millis(
            body.get("now").and_then(Value::as_int).unwrap() as u64,
        )),
        "subscribe" | "resume" => {
            let (statuses, rev, generation) = RoomStatus::list_from_value(body).unwrap();
            Reply::Rooms { statuses, rev, generation }
        }
        "checkpoint" => {
            Reply::Checkpoint { rev: body.get("rev").and_then(Value::as_int).unwrap() as u64 }
        }
        "send" => Reply::Appended(AppendAck::from_value(body).unwrap()),
        "put_state" => {
            Reply::Applied(body.get("stamp").and_then(Value::as_text).unwrap().parse().unwrap())
        }
        "history" => Reply::History(HistoryPage::from_value(body).unwrap()),
        "members" => Reply::Members(MemberPage::from_value(body).unwrap()),
        "rooms" => Reply::RoomList(RoomsPage::from_value(body).unwrap()),
        "sessions" => Reply::Sessions(SessionEntry::list_from_value(body).unwrap()),
        "refresh" => Reply::refreshed_from_value(body).unwrap(),
        "kick" => Reply::Done,
        "ticket" => Reply::Ticket(TicketGrant::from_value(body).unwrap()),
        other => panic!("no reply is known for {other}"),
    };
    reply.to_value(CommandId(7))
}

fn check_variant(variant: &Variant, means: &Frame) {
    let (bytes, encoding) = match (&variant.text, &variant.hex) {
        (Some(text), None) => (text.clone().into_bytes(), Encoding::Json),
        (None, Some(hex)) => (unhex(hex), Encoding::MsgPack),
        _ => panic!("{}: text or hex", variant.name),
    };
    let frames = read(&bytes, encoding);
    assert_eq!(frames.len(), 1, "{}", variant.name);
    let meant = Command::from_value(read(means.json.as_bytes(), Encoding::Json).remove(0));
    assert_eq!(Command::from_value(frames[0].clone()), meant, "{}", variant.name);
}

fn check_batch(batch: &Batch, frames: &[Frame]) {
    let find = |name: &String| frames.iter().find(|frame| frame.name == *name).unwrap();
    let expected: Vec<Value> = batch
        .frames
        .iter()
        .map(|name| read(find(name).json.as_bytes(), Encoding::Json).remove(0))
        .collect();
    assert_eq!(read(batch.json.as_bytes(), Encoding::Json), expected, "{}", batch.name);
    assert_eq!(read(&unhex(&batch.msgpack), Encoding::MsgPack), expected, "{}", batch.name);
}

/// Fails to compile when a command is added, and fails when one has no vector.
#[test]
fn every_command_reply_push_has_vector() {
    let commands: BTreeSet<&str> =
        commands().iter().map(|(_, body)| command_number(body)).collect();
    assert_eq!(commands.len(), 22);
    let replies: BTreeSet<u8> = replies().iter().map(|(_, _, reply)| reply_number(reply)).collect();
    assert_eq!(replies.len(), 13);
    let pushes: BTreeSet<u8> = pushes().iter().map(|(_, push)| push_number(push)).collect();
    assert_eq!(pushes.len(), 7);
}

fn command_number(body: &CommandBody) -> &'static str {
    use CommandBody as C;
    match body {
        C::Hello(_)
        | C::Ping
        | C::Refresh { .. }
        | C::Logout
        | C::Create { .. }
        | C::Join { .. } => body.name(),
        C::Leave { .. }
        | C::Member { .. }
        | C::Members { .. }
        | C::Rooms { .. }
        | C::Subscribe { .. } => body.name(),
        C::Unsubscribe { .. }
        | C::Resume { .. }
        | C::Checkpoint { .. }
        | C::Send { .. }
        | C::Signal { .. } => body.name(),
        C::PutState { .. }
        | C::RemoveState { .. }
        | C::History { .. }
        | C::Sessions
        | C::Kick { .. }
        | C::Ticket => body.name(),
    }
}

fn reply_number(reply: &Reply) -> u8 {
    match reply {
        Reply::Done => 0,
        Reply::Welcome(_) => 1,
        Reply::Pong(_) => 2,
        Reply::Rooms { .. } => 3,
        Reply::Checkpoint { .. } => 4,
        Reply::Appended(_) => 5,
        Reply::Applied(_) => 6,
        Reply::History(_) => 7,
        Reply::Members(_) => 8,
        Reply::RoomList(_) => 9,
        Reply::Sessions(_) => 10,
        Reply::Ticket(_) => 11,
        Reply::Refreshed { .. } => 12,
    }
}

fn push_number(push: &Push) -> u8 {
    match push {
        Push::Event(_) => 0,
        Push::Signal(_) => 1,
        Push::State(_) => 2,
        Push::Snapshot(_) => 3,
        Push::Room(_) => 4,
        Push::Disconnect(_) => 5,
        Push::Position(_) => 6,
    }
}
