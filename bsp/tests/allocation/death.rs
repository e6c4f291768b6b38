//! After an ML module's death nothing calls the allocator, whatever happens next: the dead may hold its lock.

use std::time::Duration;

use bsp::local::{Action, End, Local};
use bsp::ml_module::{MlModule, Turn};
use bsp::protocol::codec::Codec;
use bsp::protocol::message::{Ack, ContributionRefusal, FromCentral, Refusal, SessionId, Token, Welcome};
use bsp::shared_memory::ModelStamp;
use bsp::time::Time;
use bytes::Bytes;

use super::{Ones, PARAMETERS, allocations, calls_of_the_allocator, welcomed, welcomed_to};

#[test]
fn after_a_death_the_others_are_read_out_and_the_tab_ends_without_an_allocation() {
    let (mut local, mut ml_modules, mut actions) = welcomed();
    for ml_module in &mut ml_modules {
        assert_eq!(ml_module.turn(&mut || Time::ZERO), Turn::Computed);
    }
    // A side that died with its thread is never dropped.
    std::mem::forget(ml_modules.remove(0));
    let mut now = Time::ZERO + Duration::from_secs(2);
    let counted = allocations(|| local.on_ml_module_died(now, 0, &mut actions));
    assert_eq!(counted, 0);
    assert_eq!(actions, [Action::SendContribution { sequence: 1 }]);
    // The others finish their minibatch.
    drop(ml_modules);
    let counted = allocations(|| {
        for _ in 0..5 {
            now = local.next_timeout(now);
            local.on_timeout(now, &mut actions);
        }
    });
    assert_eq!(counted, 0);
    assert_eq!(actions[1..], [Action::Disconnect, Action::Ended(End::MlModuleDied)]);
}

#[test]
fn after_a_death_the_others_are_read_out_although_a_contribution_is_on_its_way() {
    let (mut local, mut ml_modules, mut actions) = welcomed();
    let compute = |ml_module: &mut MlModule<Ones>| assert_eq!(ml_module.turn(&mut || Time::ZERO), Turn::Computed);
    ml_modules.iter_mut().for_each(compute);
    local.on_timeout(Time::ZERO + Duration::from_millis(10), &mut actions);
    ml_modules.iter_mut().for_each(compute);
    std::mem::forget(ml_modules.remove(0));
    let now = Time::ZERO + Duration::from_millis(900);
    let counted = calls_of_the_allocator(|| local.on_ml_module_died(now, 0, &mut actions));
    assert_eq!(counted, 0);
    let sent = [1, 2].map(|sequence| Action::SendContribution { sequence });
    assert_eq!(actions, sent, "no acknowledgement can be read any more");
}

/// The call of a driver.
type Fire = dyn Fn(&mut Local, Time, &mut Vec<Action>);

/// An event at a local BSP module: a call of its driver.
struct Event {
    name: String,
    /// The method of [`Local`] that is called.
    method: &'static str,
    fire: Box<Fire>,
}

impl Event {
    fn new(name: &str, method: &'static str, fire: impl Fn(&mut Local, Time, &mut Vec<Action>) + 'static) -> Event {
        Event {
            name: name.to_owned(),
            method,
            fire: Box::new(fire),
        }
    }

    /// The same after the tab was frozen for a minute.
    fn after_a_freeze(self) -> Event {
        let fire = self.fire;
        Event {
            name: format!("the tab was frozen, and {}", self.name),
            method: self.method,
            fire: Box::new(move |local, now, actions| fire(local, now + Duration::from_secs(60), actions)),
        }
    }
}

/// A frame of each kind.
fn frames() -> Vec<Bytes> {
    let welcome = Welcome {
        session: SessionId(1),
        token: Token(1),
        period_us: 10_000,
        settled: 0,
        durable: 0,
        is_last_refused: false,
        codec: Codec::Int8,
    };
    let ack = |refused| {
        let (through, durable) = (1, 1);
        FromCentral::Ack(Ack {
            through,
            durable,
            refused,
        })
    };
    let why = || "for some reason".to_owned();
    let messages = [
        ack(None),
        ack(Some(ContributionRefusal::Undecodable(why()))),
        FromCentral::Welcome(welcome),
        FromCentral::Refused(Refusal::Malformed(why())),
        FromCentral::NextModelSettles { through: 1 },
        FromCentral::ReadOutEvery { period_us: 20_000 },
        FromCentral::Durable { through: 1 },
        FromCentral::BackSoon,
    ];
    let stamp = ModelStamp {
        incarnation: 1,
        version: 2,
    };
    let model = FromCentral::encode_model(stamp, &[2.0; PARAMETERS]);
    let unreadable = Bytes::from_static(&[9, 0, 0, 0, 1]);
    let encoded = messages.iter().map(FromCentral::encode);
    let frames: Vec<Bytes> = encoded.chain([model, unreadable]).collect();
    // The first clone of a frame makes it one that is shared, and takes memory for that.
    frames.iter().for_each(|frame| drop(frame.clone()));
    frames
}

/// What a frame brings. (A new kind of message does not compile here, and needs a frame in [`frames`].)
fn kind(frame: &Bytes) -> &'static str {
    match FromCentral::decode(frame).map(|received| received.message) {
        Ok(FromCentral::Welcome(_)) => "a welcome",
        Ok(FromCentral::Refused(_)) => "a refusal",
        Ok(FromCentral::StoreModel(_)) => "a model",
        Ok(FromCentral::NextModelSettles { .. }) => "a promise of the next model",
        Ok(FromCentral::ReadOutEvery { .. }) => "a period",
        Ok(FromCentral::Ack(_)) => "an acknowledgement",
        Ok(FromCentral::Durable { .. }) => "durability",
        Ok(FromCentral::BackSoon) => "a farewell for a while",
        Err(_) => "nonsense",
    }
}

/// Everything that a driver can call, whatever the page, the network and the clock do, in time and after a freeze.
fn events() -> Vec<Event> {
    let calls = || {
        vec![
            Event::new("the page pauses", "pause", |local, now, actions| {
                local.pause(now, actions)
            }),
            Event::new("the page resumes", "resume", |local, now, actions| {
                local.resume(now, actions)
            }),
            Event::new(
                "the page moves its slider",
                "set_active_ml_modules",
                |local, now, actions| local.set_active_ml_modules(now, 2, actions),
            ),
            Event::new("the page sets the duty", "set_duty", |local, now, actions| {
                local.set_duty(now, 50, actions)
            }),
            Event::new("the page leaves", "leave", |local, now, actions| {
                local.leave(now, actions)
            }),
            Event::new("the tab closes", "on_closing", |local, now, actions| {
                local.on_closing(now, actions)
            }),
            Event::new("the link opens", "on_open", |local, now, actions| {
                local.on_open(now, actions)
            }),
            Event::new("the link closes", "on_closed", |local, now, actions| {
                local.on_closed(now, actions)
            }),
            Event::new("a timer rings", "on_timeout", |local, now, actions| {
                local.on_timeout(local.next_timeout(now).min(now), actions)
            }),
            Event::new("another one dies", "on_ml_module_died", |local, now, actions| {
                local.on_ml_module_died(now, 1, actions)
            }),
            Event::new("the same one dies again", "on_ml_module_died", |local, now, actions| {
                local.on_ml_module_died(now, 0, actions)
            }),
        ]
    };
    let arrivals = || {
        let event = |frame: Bytes| {
            let name = format!("{} comes", kind(&frame));
            Event::new(&name, "on_frame", move |local, now, actions| {
                assert_eq!(local.on_frame(now, &frame, actions), Ok(()));
            })
        };
        frames().into_iter().map(event).collect::<Vec<_>>()
    };
    let after_a_freeze = calls().into_iter().chain(arrivals()).map(Event::after_a_freeze);
    calls().into_iter().chain(arrivals()).chain(after_a_freeze).collect()
}

/// The public methods in this source that change what they are called on, whatever the lines of their signatures.
fn changing_methods(source: &str) -> Vec<&str> {
    let items = source.split("\n    pub ").skip(1);
    let methods = items.filter_map(|item| item.strip_prefix("const ").unwrap_or(item).strip_prefix("fn "));
    let signatures = methods.filter_map(|method| Some(method.split_once('{')?.0));
    let changing = signatures.filter(|signature| {
        let words: Vec<&str> = signature.split_whitespace().collect();
        words.join(" ").contains("&mut self")
    });
    changing
        .filter_map(|signature| signature.split(['(', '<']).next())
        .collect()
}

#[test]
fn a_method_that_changes_something_is_noticed_however_its_signature_is_written() {
    let source = "
    pub fn query(&self) -> u64 { 0 }
    pub fn short(&mut self) {}
    pub fn generic<R: Default>(&mut self, read: impl FnOnce(&[f32]) -> R) -> R { read(&[]) }
    pub fn long(
        &mut self,
        now: Time,
    ) {}
    fn private(&mut self) {}
    pub const fn fixed(&mut self) {}
";
    assert_eq!(changing_methods(source), ["short", "generic", "long", "fixed"]);
}

#[test]
fn the_events_after_a_death_are_all_that_a_local_module_has() {
    let events = events();
    let names = changing_methods(include_str!("../../src/local.rs"));
    assert!(names.len() >= 10, "{names:?}");
    for name in names {
        assert!(events.iter().any(|event| event.method == name), "{name} is not fired");
    }
    let mut kinds: Vec<_> = frames().iter().map(kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds.len(), 9, "eight kinds of message, and nonsense: {kinds:?}");
}

/// The state of a local BSP module before the death, by its name.
type Before = (&'static str, fn(&mut Local, Time, &mut Vec<Action>));

const BEFORE: [Before; 9] = [
    ("welcomed", |_, _, _| ()),
    ("with a contribution on its way", |local, now, actions| {
        local.on_timeout(now, actions)
    }),
    ("closing", |local, now, actions| local.on_closing(now, actions)),
    ("paused", |local, now, actions| local.pause(now, actions)),
    ("leaving", |local, now, actions| local.leave(now, actions)),
    ("without a link", |local, now, actions| local.on_closed(now, actions)),
    (
        "without a link, with a contribution that is kept",
        |local, now, actions| {
            local.on_closed(now, actions);
            local.on_timeout(now, actions);
        },
    ),
    ("connecting", |local, now, actions| {
        local.on_closed(now, actions);
        local.on_timeout(local.next_timeout(now), actions);
    }),
    ("after a hello", |local, now, actions| {
        local.on_closed(now, actions);
        local.on_timeout(local.next_timeout(now), actions);
        local.on_open(local.next_timeout(now).min(now), actions);
    }),
];

/// Runs: how contributions are encoded, and whether there are local steps. The lossy codec carries its errors on.
const RUNS: [(Codec, bool); 3] = [(Codec::F32, false), (Codec::Int8, false), (Codec::F32, true)];

/// A local BSP module one of whose three ML modules has just died.
fn with_a_death(
    before: &Before,
    (codec, has_local_steps): (Codec, bool),
) -> (Local, Vec<MlModule<Ones>>, Vec<Action>, Time) {
    let (mut local, mut ml_modules, _) = welcomed_to(codec, has_local_steps);
    for ml_module in &mut ml_modules {
        assert_eq!(ml_module.turn(&mut || Time::ZERO), Turn::Computed);
    }
    std::mem::forget(ml_modules.remove(0));
    let mut now = Time::ZERO + Duration::from_millis(500);
    before.1(&mut local, now, &mut Vec::new());
    now = now + Duration::from_secs(1);
    let mut actions = Vec::with_capacity(1000);
    let counted = calls_of_the_allocator(|| local.on_ml_module_died(now, 0, &mut actions));
    assert_eq!(counted, 0, "{}, {codec:?}, local steps: {has_local_steps}", before.0);
    (local, ml_modules, actions, now)
}

#[test]
fn after_a_death_no_event_calls_the_allocator() {
    for run in RUNS {
        for before in &BEFORE {
            for first in &events() {
                expect_no_call_after_a_death(run, before, first);
            }
        }
    }
}

/// Neither `first` after the death, nor any event after that, nor the end calls the allocator.
fn expect_no_call_after_a_death(run: (Codec, bool), before: &Before, first: &Event) {
    let (mut local, _ml_modules, mut actions, now) = with_a_death(before, run);
    let what = format!("{run:?}; {}; {}", before.0, first.name);
    let counted = calls_of_the_allocator(|| (first.fire)(&mut local, now, &mut actions));
    assert_eq!(counted, 0, "{what}");
    for second in &events() {
        let later = now + Duration::from_millis(1500);
        let counted = calls_of_the_allocator(|| (second.fire)(&mut local, later, &mut actions));
        assert_eq!(counted, 0, "{what}, then {}", second.name);
    }
    let end = now + Duration::from_secs(100);
    let counted = calls_of_the_allocator(|| local.on_timeout(end, &mut actions));
    assert_eq!(counted, 0, "{what}, at the end");
    let ends = actions.iter().filter(|action| matches!(action, Action::Ended(_)));
    assert_eq!(ends.count(), 1, "{what}: {actions:?}");
    let is_silent = |action: &Action| !matches!(action, Action::Send(_) | Action::Connect);
    assert!(actions.iter().all(is_silent), "{what}: {actions:?}");
}
