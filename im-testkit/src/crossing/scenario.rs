//! The scenario of one case: ann writes, is cut at a step and resumes, while bob writes.

use im_core::Code;
use im_core::wire::{CommandBody, Encoding};

use super::action::Action;
use super::case::{Case, Class, Step, Transport};
use super::line::Line;
use super::sentinels::Sentinels;
use super::setup::Setup;
use super::user::User;
use crate::history::{Checker, read_back};
use crate::transport_suite::peer::room;

/// Number of bob's writes at a time, and during a storm.
const NEWS: usize = 4;
const STORM: usize = 60;

/// Plays a case and judges it with the history checker.
///
/// # Panics
///
/// If a promise was broken.
pub async fn play(setup: &Setup, case: Case) {
    let mut scenario = Scenario::begin(setup, case).await;
    if case.step == Step::Storm {
        scenario.storm().await;
    } else {
        if case.step.is_second_epoch() {
            scenario.first_epoch(case.after, Step::NewsRead).await;
            scenario.lose_an_answer().await;
            scenario.ann.cut();
            scenario.news().await;
            scenario.second_epoch().await;
        } else {
            scenario.first_epoch(case.before, case.step).await;
        }
        scenario.ann.cut();
        if case.step != Step::LeftOpen {
            scenario.news().await;
        }
        scenario.go_on().await;
    }
    scenario.last_words().await;
    scenario.judge(setup).await;
}

struct Scenario {
    case: Case,
    checker: Checker,
    ann: User,
    bob: User,
    encodings: [Encoding; 2],
    /// Number of texts that were used.
    words: usize,
    /// Ann's writes without an ack, and whether the server has them, if known.
    unanswered: Vec<Action>,
    kept: Option<bool>,
    as_expected: bool,
    /// The connection that ann left and her server believes to be open.
    old: Option<Line>,
    /// For signals and state on two servers: waiting for them excludes hints in flight as a cause.
    sentinels: Option<Sentinels>,
}

impl Scenario {
    async fn begin(setup: &Setup, case: Case) -> Self {
        let (number, route) = setup.next();
        let r = room(&format!("{number}.{case}"));
        let checker = Checker::new();
        let ann = User::new(&format!("ann-{number}"), &r, &checker, &route);
        let bob = User::new(&format!("bob-{number}"), &r, &checker, &route);
        let mut encodings = Encoding::ALL;
        encodings.rotate_left(number / setup.engines() % 2);
        let sentinels = match case.class {
            Class::Ephemeral | Class::State if setup.engines() > 1 => {
                Some(Sentinels::post(number, &route).await)
            }
            _ => None,
        };
        let mut scenario = Self {
            case,
            checker,
            ann,
            bob,
            encodings,
            words: 0,
            unanswered: Vec::new(),
            kept: None,
            as_expected: true,
            old: None,
            sentinels,
        };
        scenario.gather().await;
        scenario
    }

    /// Bob creates the room for both and writes its first events.
    async fn gather(&mut self) {
        self.bob.dial(Transport::Ws, self.encodings[0]).await;
        self.bob.greets().await;
        let at = self.bob.founds(&[&self.ann.name]).await;
        self.bob.starts_in(at);
        self.ann.starts_in(at);
        self.bob.subscribes().await;
        self.news().await;
        self.bob.sync_up().await;
    }

    fn words(&mut self) -> String {
        self.words += 1;
        format!("words {}", self.words)
    }

    fn act(&mut self) -> Action {
        let words = self.words();
        Action::of(self.case.class, "anns", words)
    }

    /// Returns bob's next writes, some of them of other classes.
    fn actions(&mut self, count: usize) -> Vec<Action> {
        let mut actions = Vec::new();
        for n in 0..count {
            let words = self.words();
            actions.push(Action::of(self.case.class, "bobs", words));
            match self.case.class {
                Class::Durable => {}
                // Signals among messages show whether one disturbs the other.
                Class::Ephemeral => actions.push(Action::say(self.words())),
                // A key that is put and removed.
                Class::State if n % 2 == 0 => {
                    actions.push(Action::PutState { key: "lamp", words: self.words() })
                }
                Class::State => actions.push(Action::RemoveState { key: "lamp" }),
            }
        }
        actions.push(Action::say(self.words()));
        actions
    }

    /// Waits until all servers have all events.
    async fn quiet(&mut self) {
        if let Some(sentinels) = &mut self.sentinels {
            sentinels.call().await;
            self.ann.quiet = self.unanswered.is_empty();
        }
    }

    async fn news(&mut self) -> Vec<Action> {
        self.ann.quiet = false;
        let actions = self.actions(NEWS);
        for action in &actions {
            self.bob.does(action).await;
        }
        self.quiet().await;
        actions
    }

    /// Ann's first connection, up to the cut.
    async fn first_epoch(&mut self, over: Transport, cut_at: Step) {
        self.ann.dial(over, self.encodings[0]).await;
        if self.greets(cut_at).await || self.subscribes(cut_at).await || self.acts(cut_at).await {
            return;
        }
        self.reads_news(over, cut_at).await;
        if cut_at < Step::CheckpointHalfWritten || cut_at.is_by_position() {
            return;
        }
        let cursors = vec![(self.ann.room.clone(), self.ann.cursor())];
        let checkpoint = CommandBody::Checkpoint { cursors };
        if cut_at == Step::CheckpointHalfWritten {
            return self.ann.begin_half(vec![checkpoint]).await;
        }
        let checkpoint = self.ann.begin(checkpoint).await;
        if cut_at == Step::Checkpointed {
            self.ann.confirmed(checkpoint).await;
        }
    }

    /// Sends `hello`. Returns whether the connection was cut here, as the other steps do.
    async fn greets(&mut self, cut_at: Step) -> bool {
        let hello = self.ann.hello();
        if cut_at == Step::HelloHalfWritten {
            self.ann.begin_half(vec![hello]).await;
            return true;
        }
        let hello = self.ann.begin(hello).await;
        if cut_at == Step::HelloWritten {
            return true;
        }
        self.ann.welcomed(hello).await;
        if cut_at == Step::Welcomed {
            return true;
        }
        self.ann.listen().await;
        cut_at == Step::Listening
    }

    async fn subscribes(&mut self, cut_at: Step) -> bool {
        self.ann.hold().await;
        let subscribe = self.ann.subscribe();
        if cut_at == Step::SubscribeHalfWritten {
            self.ann.begin_half(vec![subscribe]).await;
            return true;
        }
        let subscribe = self.ann.begin(subscribe).await;
        if cut_at == Step::SubscribeWritten {
            return true;
        }
        assert!(self.ann.subscribed(subscribe).await);
        if cut_at == Step::Subscribed {
            return true;
        }
        self.ann.begun().await;
        self.ann.sync_up().await;
        self.ann.with_position().await;
        cut_at == Step::Begun
    }

    async fn acts(&mut self, cut_at: Step) -> bool {
        self.ann.hold().await;
        let act = self.act();
        self.ann.quiet = false;
        if cut_at == Step::ActHalfWritten {
            let body = self.ann.intend(&act);
            self.ann.begin_half(vec![body]).await;
            (self.unanswered, self.kept) = (vec![act], Some(false));
            return true;
        }
        if cut_at == Step::ManyActsWritten {
            self.unanswered = vec![act, self.act(), self.act(), self.act()];
            let bodies = self.unanswered.iter().map(|act| self.ann.intend(act)).collect();
            self.ann.begin_all(bodies).await;
            return true;
        }
        let command = self.ann.begin_action(&act).await;
        if matches!(cut_at, Step::ActWritten | Step::ActDone) {
            if cut_at == Step::ActDone {
                assert!(self.bob.hear(act.words()).await, "bob receives ann's write");
                self.kept = Some(true);
            }
            self.unanswered = vec![act];
            return true;
        }
        self.ann.done(&act, command).await;
        self.quiet().await;
        if cut_at == Step::ActAnswered {
            return true;
        }
        self.ann.hear(act.words()).await;
        self.ann.with_position().await;
        cut_at == Step::OwnRead
    }

    /// News arrives, and the share of the step is read.
    async fn reads_news(&mut self, over: Transport, cut_at: Step) {
        self.ann.hold().await;
        if matches!(cut_at, Step::LeftOpen | Step::LeftOpenWithNews) {
            self.old = self.ann.leave();
        }
        if cut_at == Step::LeftOpen {
            return;
        }
        let news = self.news().await;
        match cut_at {
            Step::LeftOpenWithNews => {
                self.old.as_mut().expect("the connection that ann left").arrived().await
            }
            Step::NewsUnread | Step::UnreadByPosition => {
                if over == Transport::Short {
                    self.ann.poll().await;
                }
                self.ann.arrived().await;
            }
            Step::NewsHalfRead | Step::HalfReadByPosition => self.ann.hear_any(&news[1..]).await,
            _ => {
                self.ann.sync_up().await;
                self.ann.hear_signals(&news).await;
                self.ann.with_position().await;
            }
        }
        if cut_at == Step::NewsConfirmed {
            self.ann.poll().await;
            if over == Transport::Short {
                self.ann.arrived().await;
            }
        }
    }

    /// Ann writes, and the connection is cut before the ack.
    async fn lose_an_answer(&mut self) {
        if self.case.class == Class::Ephemeral {
            // A signal is never sent again.
            return;
        }
        let act = self.act();
        self.ann.quiet = false;
        self.ann.begin_action(&act).await;
        assert!(self.bob.hear(act.words()).await, "bob receives ann's write");
        (self.unanswered, self.kept) = (vec![act], Some(true));
    }

    /// Ann resumes once and is cut again.
    async fn second_epoch(&mut self) {
        let (cut_at, missed) = (self.case.step, self.ann.cursor());
        self.quiet().await;
        self.ann.dial(self.case.before, self.encodings[0]).await;
        if matches!(cut_at, Step::ResumeHalfWritten | Step::ResumeWritten) {
            let bodies = vec![self.ann.hello(), self.ann.resume()];
            if cut_at == Step::ResumeHalfWritten {
                return self.ann.begin_half(bodies).await;
            }
            self.ann.begin_all(bodies).await;
            return;
        }
        self.ann.come_back().await;
        self.ann.ask().await;
        if cut_at == Step::Resumed {
            return self.ann.arrived().await;
        }
        self.ann.begun().await;
        match cut_at {
            Step::ReplayHalfRead => {
                self.ann.read_until(|ann| ann.cursor().seq >= missed.seq.next().next()).await;
            }
            Step::ActRetried => {
                self.ann.hold().await;
                let act = self.unanswered[0].clone();
                self.ann.begin_action(&act).await;
            }
            _ => {}
        }
    }

    /// Ann's last connection.
    async fn go_on(&mut self) {
        self.quiet().await;
        self.ann.dial(self.case.after, self.encodings[1]).await;
        if self.case.step.is_by_position() {
            self.ann.resume_stream().await;
        } else {
            self.ann.come_back().await;
            self.ann.ask().await;
        }
        for act in std::mem::take(&mut self.unanswered) {
            if act.is_signal() {
                continue;
            }
            let done = self.ann.does(&act).await;
            if let (Action::Say { .. }, Some(kept)) = (&act, self.kept) {
                self.as_expected &= done.duplicate == kept;
            }
        }
        self.quiet().await;
        self.ann.begun().await;
        // Before newer writes could cover a missing one.
        self.ann.sync_up().await;
        self.ann.subscriber.had_every_chance();
    }

    /// All steps happen while bob writes.
    async fn storm(&mut self) {
        let actions = self.actions(STORM);
        // A signal between servers may reach a client twice that changes servers meanwhile.
        self.bob.announces = self.sentinels.is_none();
        (self.ann.quiet, self.ann.hurried) = (false, true);
        let [before, after] = self.encodings;
        let (case, ann, bob) = (self.case, &mut self.ann, &mut self.bob);
        let writes = async {
            for action in &actions {
                bob.does(action).await;
            }
        };
        let reads = async {
            ann.dial(case.before, before).await;
            ann.come_back().await;
            ann.ask().await;
            ann.begun().await;
            ann.hear_any(&actions[STORM / 4..]).await;
            ann.cut();
            ann.dial(case.after, after).await;
            ann.come_back().await;
            ann.ask().await;
            ann.begun().await;
            ann.hear_any(&actions[STORM / 2..]).await;
        };
        futures::future::join(writes, reads).await;
        self.bob.announces = true;
        self.quiet().await;
    }

    /// Both are connected, receive each other's writes, and have everything at the end.
    async fn last_words(&mut self) {
        // A subscriber that received an event receives signals from then on.
        let hello = Action::say(self.words());
        self.bob.does(&hello).await;
        self.ann.hear(hello.words()).await;
        let (news, act) = (self.news().await, self.act());
        self.ann.quiet = false;
        self.ann.does(&act).await;
        self.quiet().await;
        self.ann.sync_up().await;
        self.bob.sync_up().await;
        self.ann.hear_signals(&news).await;
        self.bob.hear_signals(&[act]).await;
        if let Some(old) = self.old.take() {
            let code = self.ann.look_back(old).await;
            // A poll that was answered has no end of its own.
            let streams = !self.case.before.is_polls();
            let superseded = streams.then_some(Code::Superseded.number());
            assert_eq!(code, superseded, "{}: how the older connection ends", self.case);
        }
    }

    async fn judge(self, setup: &Setup) {
        let Self { case, checker, ann, bob, as_expected, .. } = self;
        read_back(&checker, &*setup.store).await.expect("the store is read back");
        let (anns, bobs) = (ann.finish(), bob.finish());
        let verdict = checker.finish();
        assert!(verdict.is_clean(), "{case}\n{verdict}");
        assert_eq!(verdict.sends, verdict.acked, "{case}: all messages are acked at the end");
        assert_eq!(
            verdict.stored,
            verdict.sends + 1,
            "{case}: the messages and the first events of the room"
        );
        assert!(as_expected, "{case}: only the first send that arrives is no duplicate");
        for key in ["bobs", "lamp"] {
            let (anns, bobs) = (anns.get(key), bobs.get(key));
            assert_eq!(anns, bobs, "{case}: both clients have the same {key} at the end");
        }
    }
}
