//! The conversations in `wire/scenarios`, played to the state machine. Their README says how they
//! are written.

use std::collections::HashMap;
use std::path::PathBuf;

use im_core::wire::ServerFrame;

use super::*;
use crate::config::Checkpoints;
use crate::refusal::generous;

/// The wall clock at the start of a scenario, unless the scenario sets it.
const WALL_MS: u64 = 1_767_225_600_000;

/// Optional features of clients that this client has.
const FEATURES: [&str; 1] = ["rev"];

/// Returns all scenarios of this kind, by file name.
pub(crate) fn scenarios(kind: &str) -> Vec<(String, Value)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../wire/scenarios");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
    files.sort();
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read(&path).unwrap();
        let scenario = decode(&text, Encoding::Json, &generous());
        (name.clone(), scenario.unwrap_or_else(|e| panic!("{name}: {e}")).remove(0))
    };
    let of_kind = |scenario: &Value| text(scenario, "kind") == Some(kind);
    files.into_iter().map(read).filter(|(_, scenario)| of_kind(scenario)).collect()
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name).and_then(Value::as_text)
}

fn number(value: &Value, name: &str) -> Option<u64> {
    value.get(name).and_then(Value::as_int).map(|n| u64::try_from(n).unwrap())
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).unwrap_or_default()
}

/// The client's outputs during a step.
#[derive(Debug, Default)]
struct Done {
    flags: Vec<&'static str>,
    frames: Vec<Value>,
    results: Vec<Value>,
    notifications: Vec<Value>,
}

/// A client, the time, and the names that the scenario uses.
struct Player {
    machine: Machine,
    start: Instant,
    now: Instant,
    done: Done,
    /// The numbers of commands by the scenario's names.
    numbers: HashMap<String, i64>,
    /// The frame written under each number, to complete frames from the server.
    written: HashMap<i64, Value>,
    calls: HashMap<CommandId, String>,
    /// The wall clock at the start.
    wall_ms: u64,
    /// The current step, for failure messages.
    step: String,
}

impl Player {
    fn new(client: Option<&Value>) -> Self {
        let none = Value::from(Map::default());
        let client = client.unwrap_or(&none);
        let session = client.get("session").map(|session| ResumeToken {
            session: SessionId::new(text(session, "session").unwrap()).unwrap(),
            secret: Secret::new(text(session, "secret").unwrap()),
        });
        let identity = Identity {
            token: text(client, "token").map(Secret::new),
            refreshable: client.get("renewable") == Some(&Value::Bool(true)),
            user: text(client, "user").map(|user| UserId::new(user).unwrap()),
            device: text(client, "device").map(|device| DeviceId::new(device).unwrap()),
            name: None,
        };
        let config = Config { checkpoints: Checkpoints::Manual, ..Config::default() };
        let saved = Saved { session, cursors: Vec::new() };
        let start = Instant::now();
        let mut machine = Machine::new(config, Encoding::Json, identity, saved, 42);
        machine.start(start);
        let (numbers, written, calls) = Default::default();
        let wall_ms = number(client, "wall_ms").unwrap_or(WALL_MS);
        let (now, done, step) = (start, Done::default(), String::new());
        Self { machine, start, now, done, numbers, written, calls, wall_ms, step }
    }

    fn set_wall_clock(&mut self) {
        let wall = Timestamp::from_millis(self.wall_ms).plus(self.now - self.start);
        self.machine.on_clock(self.now, wall);
    }

    /// Advances the time, running every timer at its deadline.
    fn pass(&mut self, until: Instant) {
        while let Some(at) = self.machine.deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.machine.on_time(self.now);
            self.collect();
        }
        self.now = until;
    }

    fn apply(&mut self, input: &Value) {
        let Value::Map(input) = input else { panic!("an input is a map") };
        let (kind, value) = input.iter().next().unwrap();
        match kind {
            "connected" => {
                self.set_wall_clock();
                self.machine.on_connected();
            }
            "message" => self.message(value.as_array().unwrap()),
            "disconnected" => {
                let code = number(value, "code").map(|code| u16::try_from(code).unwrap());
                let retry_after = number(value, "retry_ms").map(Duration::from_millis);
                let cause = Cause { code, message: "lost".into(), retry_after };
                self.machine.on_lost(self.now, cause);
            }
            "call" => self.call(value),
            "token" => {
                self.set_wall_clock();
                self.machine.on_token(self.now, Ok(Secret::new(value.as_text().unwrap())));
            }
            "token_failed" => {
                self.machine.on_token(self.now, Err(value.as_text().unwrap().into()));
            }
            "close" => self.machine.close(),
            other => panic!("unknown input {other}"),
        }
    }

    fn call(&mut self, call: &Value) {
        let Value::Map(mut command) = call.clone() else { panic!("a call is a map") };
        command.remove("as");
        command.insert("id", Value::Int(0));
        let command = Command::from_value(command.into()).unwrap();
        let id = self.machine.on_commands(self.now, vec![command.body])[0];
        self.calls.insert(id, text(call, "as").unwrap().to_owned());
    }

    fn message(&mut self, frames: &[Value]) {
        let frames: Vec<Value> = frames.iter().map(|frame| self.completed(frame)).collect();
        for frame in &frames {
            assert!(
                !matches!(ServerFrame::from_value(frame.clone()), Ok(ServerFrame::Unknown)),
                "unknown frame {frame:?}"
            );
        }
        let message = im_core::wire::encode_batch(&frames, Encoding::Json);
        self.machine.on_message(self.now, &message, &mut |_| {});
    }

    /// The frame with its irrelevant fields added, and with numbers in place of names.
    fn completed(&self, frame: &Value) -> Value {
        let Value::Map(mut map) = frame.clone() else { panic!("a frame is a map") };
        let id = text(frame, "id").map(|name| self.numbers[name]);
        if let Some(id) = id {
            map.insert("id", Value::Int(id));
        }
        let command = id.and_then(|id| self.written.get(&id));
        let fields = match (text(frame, "t").unwrap(), command.and_then(|c| text(c, "t"))) {
            ("ok", Some("hello")) => {
                let mut welcome = welcome(false);
                welcome.session = SessionId::new("s1").unwrap();
                welcome.secret = Secret::new("x1");
                (welcome.limits.page, welcome.limits.rooms) = (200, 2048);
                Reply::Welcome(Box::new(welcome)).to_value(CommandId(0))
            }
            ("ok", Some("subscribe" | "resume")) => {
                let rooms = list(frame, "rooms").iter().map(completed_status).collect::<Vec<_>>();
                map.insert("rooms", rooms);
                map_of([("rev", Value::Int(1)), ("gen", "1".into())])
            }
            ("ok", Some("unsubscribe" | "checkpoint")) => map_of([("rev", Value::Int(1))]),
            ("ok", Some("send")) => {
                let room = command.and_then(|command| text(command, "room")).unwrap_or("dm:1");
                append_ack(room, 1).to_value(CommandId(0))
            }
            ("event", _) => Push::Event(event("tea", 1)).to_value(),
            ("room", _) => completed_status(frame),
            ("err" | "disconnect", _) => map_of([("msg", "no".into())]),
            _ => map_of([]),
        };
        with_defaults(map, &fields)
    }

    /// Reads the client's outputs and events, and those that follow from reading them.
    fn collect(&mut self) {
        loop {
            self.take_outputs();
            if !self.machine.has_event() {
                return;
            }
            while let Some(event) = self.machine.event() {
                self.done.notifications.push(notification(event));
            }
            self.machine.on_events_consumed(self.now);
        }
    }

    fn take_outputs(&mut self) {
        while let Some(output) = self.machine.output() {
            match output {
                Output::Connect => self.done.flags.push("connect"),
                Output::Disconnect => self.done.flags.push("disconnect"),
                Output::FetchToken => self.done.flags.push("fetch_token"),
                Output::Reply(id, reply) => {
                    let name = self.calls.remove(&id).expect("one answer to each call");
                    self.done.results.push(result(&name, id, reply));
                }
                Output::Transmit(message) => {
                    for frame in decode(&message, Encoding::Json, &Limits::default()).unwrap() {
                        let id = frame.get("id").and_then(Value::as_int).unwrap();
                        self.written.insert(id, frame.clone());
                        self.done.frames.push(frame);
                    }
                }
            }
        }
    }

    fn play(&mut self, step: &Value) {
        if let Some(at) = number(step, "at") {
            let at = self.start + Duration::from_millis(at);
            assert!(at >= self.now, "time goes back");
            self.pass(at);
        }
        if let Some(input) = step.get("input") {
            self.apply(input);
        }
        self.collect();
        let done = std::mem::take(&mut self.done);
        let none = Value::from(Map::default());
        self.compare(step.get("output").unwrap_or(&none), done);
    }

    fn compare(&mut self, expected: &Value, mut done: Done) {
        let Value::Map(expected) = expected else { panic!("an output is a map") };
        for (name, pattern) in expected.iter() {
            let actual = match name {
                "frames" => std::mem::take(&mut done.frames),
                "results" => std::mem::take(&mut done.results),
                "notifications" => std::mem::take(&mut done.notifications),
                flag => {
                    let times = done.flags.iter().filter(|done| **done == flag).count();
                    let right = times == 1 || (flag == "disconnect" && times > 1);
                    assert!(right, "{}: {flag}, {times} times", self.step);
                    done.flags.retain(|done| *done != flag);
                    continue;
                }
            };
            let patterns = pattern.as_array().unwrap();
            let all = format!(
                "{}: {name}\n  {}\nexpected\n  {}",
                self.step,
                lines(&actual),
                lines(patterns)
            );
            assert_eq!(actual.len(), patterns.len(), "{all}");
            for (pattern, actual) in patterns.iter().zip(&actual) {
                assert!(self.matches(pattern, Some(actual)), "{all}");
            }
        }
        let Done { flags, frames, results, notifications } = &done;
        assert!(flags.is_empty(), "{}: not expected: {flags:?}", self.step);
        for rest in [frames, results, notifications] {
            assert!(rest.is_empty(), "{}: not expected\n  {}", self.step, lines(rest));
        }
    }

    fn matches(&mut self, pattern: &Value, actual: Option<&Value>) -> bool {
        match (pattern, actual) {
            (Value::Null, None | Some(Value::Null)) => true,
            (Value::Map(pattern), Some(actual @ Value::Map(_))) => {
                pattern.iter().all(|(name, pattern)| self.field_matches(name, pattern, actual))
            }
            (Value::Array(patterns), Some(Value::Array(actual))) => {
                patterns.len() == actual.len()
                    && patterns
                        .iter()
                        .zip(actual)
                        .all(|(pattern, actual)| self.matches(pattern, Some(actual)))
            }
            (pattern, actual) => Some(pattern) == actual,
        }
    }

    fn field_matches(&mut self, name: &str, pattern: &Value, frame: &Value) -> bool {
        let actual = frame.get(name);
        match (name, pattern, actual) {
            ("id", Value::Text(name), Some(Value::Int(id))) => {
                self.numbers.insert(name.to_string(), *id);
                true
            }
            ("cursors", Value::Array(pattern), Some(Value::Array(actual))) => {
                sorted(pattern) == sorted(actual)
            }
            _ => self.matches(pattern, actual),
        }
    }
}

fn sorted(cursors: &[Value]) -> Vec<String> {
    let mut sorted: Vec<_> = cursors.iter().map(|cursor| format!("{cursor:?}")).collect();
    sorted.sort();
    sorted
}

/// The values in JSON, one to a line.
fn lines(values: &[Value]) -> String {
    let line = |value| String::from_utf8_lossy(&encode(value, Encoding::Json)).into_owned();
    values.iter().map(line).collect::<Vec<_>>().join("\n  ")
}

fn map_of<const N: usize>(fields: [(&'static str, Value); N]) -> Value {
    let mut map = Map::default();
    fields.into_iter().for_each(|(name, value)| map.insert(name, value));
    map.into()
}

fn with_defaults(mut map: Map, defaults: &Value) -> Value {
    for (name, value) in defaults.as_map().unwrap().iter() {
        if map.get(name).is_none() {
            map.insert(name.to_owned(), value.clone());
        }
    }
    map.into()
}

fn completed_status(status: &Value) -> Value {
    let Value::Map(map) = status.clone() else { panic!("a status is a map") };
    let defaults = match status.get("cursor") {
        Some(cursor) => map_of([("epoch", "1.1".into()), ("head", cursor.clone())]),
        None => map_of([("head", Value::Int(0))]),
    };
    with_defaults(map, &defaults)
}

fn result(call: &str, id: CommandId, reply: Result<Reply, Error>) -> Value {
    match reply {
        Ok(reply) => map_of([("call", call.into()), ("ok", reply.to_value(id))]),
        Err(error) => {
            let kind = format!("{:?}", error.kind()).to_lowercase();
            let code = error.number().map_or(Value::Null, |code| Value::Int(code.into()));
            map_of([("call", call.into()), ("error", kind.into()), ("code", code)])
        }
    }
}

fn notification(event: ClientEvent) -> Value {
    let code = |code: Option<u16>| code.map_or(Value::Null, |code| Value::Int(code.into()));
    match event {
        ClientEvent::Event(event) => map_of([("event", Push::Event(event).to_value())]),
        ClientEvent::Signal(signal) => map_of([("signal", Push::Signal(signal).to_value())]),
        ClientEvent::State(update) => map_of([("state", Push::State(update).to_value())]),
        ClientEvent::Snapshot { room, entries } => {
            let entries: Vec<_> =
                entries.into_iter().map(|entry| Push::State(entry).to_value()).collect();
            let room = room.as_str().into();
            map_of([("snapshot", map_of([("room", room), ("entries", entries.into())]))])
        }
        ClientEvent::Room(status) => map_of([("room", Push::Room(status).to_value())]),
        ClientEvent::Connected(welcome) => {
            map_of([("connected", Reply::Welcome(welcome).to_value(CommandId(0)))])
        }
        ClientEvent::Disconnected { code: why, .. } => {
            map_of([("disconnected", map_of([("code", code(why))]))])
        }
        ClientEvent::Closed { code: why, .. } => {
            map_of([("closed", map_of([("code", code(why))]))])
        }
    }
}

/// Every conversation in `wire/scenarios` runs as written.
#[test]
fn conversations_go_as_written() {
    let scenarios = scenarios("conversation");
    assert!(scenarios.len() > 1, "found no scenarios");
    for (name, scenario) in scenarios {
        let needs = list(&scenario, "needs").iter().filter_map(Value::as_text);
        if !needs.into_iter().all(|need| FEATURES.contains(&need)) {
            continue;
        }
        let mut player = Player::new(scenario.get("client"));
        for (at, step) in list(&scenario, "steps").iter().enumerate() {
            player.step = format!("{name}, step {at}");
            player.play(step);
        }
    }
}
