//! Models and contributions on their way: one of each at most, then the newest model, or all gradients since.

use std::time::Duration;

use bsp::central::{Config, ConnectionId, Totals};
use bsp::local::{Action, LinkState, Local};
use bsp::protocol::message::{Ack, FromCentral, FromVolunteer, Mode, Report, SessionId, Token, Welcome};
use bsp::shared_memory::{Gradient, ModelStamp, shared_memory};
use bsp::time::Time;

use super::gradients::Gradients;
use super::peer::{contribution, hello, join, messages, plain, say};
use super::tab::{Machine, local_config};
use super::world::{World, config, ms, seconds};

fn central() -> bsp::central::Central {
    let sgd = Box::new(super::gradients::Sgd { rate: 0.1 });
    bsp::central::Central::new(Time::ZERO, config(), vec![0.0; super::gradients::PARAMETERS], sgd)
}

#[test]
fn at_most_one_model_is_on_its_way_to_a_volunteer_and_then_comes_the_newest() {
    // The checks of every frame find a second one.
    let mut world = World::new(1);
    let fast = world.join(Machine::default());
    let slow = world.join(Machine {
        latency: ms(800),
        ..Machine::default()
    });
    world.run_until(seconds(30));
    let (fast, slow) = (&world.observer.tabs[fast].models, &world.observer.tabs[slow].models);
    assert!(slow.windows(2).all(|pair| pair[0].1.version < pair[1].1.version));
    assert!(slow.len() < fast.len() / 4, "it gets fewer …");
    // A model and its receipt travel for 1.6 s, and 16 s are ten times as long.
    let after_joining = |at: Time| at > seconds(10) && at <= seconds(26);
    let versions_while_one_travels = world
        .observer
        .closed
        .iter()
        .filter(|(at, _)| after_joining(*at))
        .count() as u64
        / 10;
    assert!(versions_while_one_travels > 4);
    let steps: Vec<u64> = slow
        .windows(2)
        .skip(8)
        .map(|pair| pair[1].1.version - pair[0].1.version)
        .collect();
    let mean = steps.iter().sum::<u64>() / steps.len() as u64;
    assert!(
        mean + 2 > versions_while_one_travels,
        "… which are the newest: {mean} versions apart"
    );
}

#[test]
fn with_a_slow_link_contributions_get_larger_and_never_queue() {
    let short_supersteps = Config {
        superstep_samples: 128,
        ..config()
    };
    let mut world = World::with(1, short_supersteps, Gradients::Counting);
    let (fast, slow) = (
        world.join(Machine::default()),
        world.join(Machine {
            latency: ms(400),
            ..Machine::default()
        }),
    );
    world.run_until(seconds(30));
    let mean_samples = |tab: usize| {
        let session = world.tabs[tab].session.unwrap();
        let contributions = || {
            world
                .observer
                .ledger
                .contributions
                .iter()
                .filter(|contribution| contribution.0 == session)
        };
        contributions().map(|contribution| contribution.1).sum::<u64>() / contributions().count() as u64
    };
    assert!(mean_samples(slow) > 4 * mean_samples(fast));
    let both = |tab: usize| world.observer.ledger.of_session(world.tabs[tab].session.unwrap()).len() as f64;
    assert!(both(slow) > 0.9 * both(fast), "and nothing is lost by it");
}

/// A local module on a link where the answer to a contribution takes 45 s: it gives up before, but not always.
struct SlowLink {
    local: Local,
    now: Time,
    actions: Vec<Action>,
    /// The contribution on its way, and when its acknowledgement arrives.
    on_its_way: Option<(Time, u64)>,
    settled: u64,
    broken: u64,
}

impl SlowLink {
    const ANSWER_TAKES: Duration = Duration::from_secs(45);

    fn new(local: Local) -> SlowLink {
        SlowLink {
            local,
            now: Time::ZERO,
            actions: Vec::new(),
            on_its_way: None,
            settled: 0,
            broken: 0,
        }
    }

    fn receive(&mut self, message: &FromCentral) {
        self.local
            .on_frame(self.now, &message.encode(), &mut self.actions)
            .unwrap();
    }

    fn do_actions(&mut self) {
        for action in std::mem::take(&mut self.actions) {
            match action {
                Action::Connect => {
                    self.local.on_open(self.now, &mut self.actions);
                    self.receive(&FromCentral::Welcome(Welcome {
                        session: SessionId(1),
                        token: Token(1),
                        period_us: 1_000_000,
                        settled: self.settled,
                        durable: self.settled,
                        is_last_refused: false,
                        codec: bsp::protocol::codec::Codec::F32,
                    }));
                }
                Action::SendContribution { sequence } => {
                    assert_eq!(sequence, self.settled + 1);
                    self.on_its_way = Some((self.now + SlowLink::ANSWER_TAKES, sequence));
                }
                Action::Disconnect => {
                    self.broken += 1;
                    self.on_its_way = None;
                }
                Action::Send(_) | Action::SessionOpened(_) => {}
                Action::Ended(end) => panic!("{end:?}"),
            }
        }
    }

    /// Lets time pass until the acknowledgement arrives, or until the local module's time-out.
    fn go_on(&mut self) {
        let next = self.local.next_timeout(self.now);
        match self.on_its_way {
            Some((at, sequence)) if at <= next => {
                (self.now, self.settled, self.on_its_way) = (at, sequence, None);
                self.receive(&FromCentral::Ack(Ack {
                    through: sequence,
                    durable: sequence,
                    refused: None,
                }));
            }
            _ => {
                self.now = next;
                self.local.on_timeout(self.now, &mut self.actions);
            }
        }
    }
}

#[test]
fn a_link_so_slow_that_a_contribution_takes_longer_than_an_answer_may_still_gets_one_through() {
    let (memory, mut sides) = shared_memory(1, 1);
    let mut link = SlowLink::new(Local::new(Time::ZERO, local_config(Mode::Decoupled), memory));
    let gradient = Gradient {
        stamp: ModelStamp::default(),
        step: 0,
        samples: 1,
        loss_sum: 0.0,
    };
    while link.now < seconds(1000) {
        link.go_on();
        sides[0].add(&[1.0], gradient).unwrap();
        link.do_actions();
    }
    assert!(link.settled >= 15, "only {} contributions got through", link.settled);
    assert_eq!(link.broken, 2, "it learns how long an answer takes");
}

#[test]
fn a_duplicate_is_counted_changes_nothing_else_and_is_answered_with_what_is_settled() {
    let mut central = central();
    let connection = ConnectionId(1);
    let welcome = join(&mut central, Time::ZERO, connection);
    let frame = plain(&contribution(welcome.session, 1));
    let acknowledged = [FromCentral::Ack(Ack {
        through: 1,
        durable: 1,
        refused: None,
    })];
    let first = say(&mut central, seconds(1), connection, &frame);
    assert!(messages(&first, connection).starts_with(&acknowledged));
    let (totals, model, stamp) = (central.totals(), central.model().to_vec(), central.stamp());
    let second = say(&mut central, seconds(1), connection, &frame);
    assert_eq!(messages(&second, connection), acknowledged);
    let counted = Totals {
        duplicates: 1,
        ..totals
    };
    assert_eq!(
        (central.totals(), central.model(), central.stamp()),
        (counted, &model[..], stamp)
    );
}

#[test]
fn a_contribution_out_of_order_ends_the_connection_and_is_not_counted() {
    let mut central = central();
    let connection = ConnectionId(1);
    let welcome = join(&mut central, Time::ZERO, connection);
    let actions = say(
        &mut central,
        seconds(1),
        connection,
        &plain(&contribution(welcome.session, 2)),
    );
    let refusal = bsp::protocol::message::Refusal::OutOfOrder { got: 2, expected: 1 };
    assert_eq!(messages(&actions, connection), [FromCentral::Refused(refusal.clone())]);
    assert_eq!(
        actions.last(),
        Some(&bsp::central::Action::Disconnect {
            from: connection,
            reason: Some(refusal)
        })
    );
    assert_eq!(central.totals(), Default::default());
}

#[test]
fn a_reconnect_says_what_is_settled_and_replaces_the_older_connection() {
    let mut central = central();
    let (older, newer) = (ConnectionId(1), ConnectionId(2));
    let welcome = join(&mut central, Time::ZERO, older);
    say(
        &mut central,
        seconds(1),
        older,
        &plain(&contribution(welcome.session, 1)),
    );
    let again = bsp::protocol::message::Hello {
        session: Some((welcome.session, welcome.token)),
        ..hello()
    };
    let actions = say(&mut central, seconds(2), newer, &FromVolunteer::Hello(again).encode());
    assert_eq!(
        actions[0],
        bsp::central::Action::Disconnect {
            from: older,
            reason: None
        }
    );
    let messages = messages(&actions, newer);
    let FromCentral::Welcome(second) = &messages[0] else {
        panic!("{messages:?}")
    };
    assert_eq!(
        (second.session, second.token, second.settled),
        (welcome.session, welcome.token, 1)
    );
    assert!(
        matches!(messages[1], FromCentral::StoreModel(_)),
        "the model is sent anew: the older link may have lost it"
    );
    assert_eq!(central.volunteers(seconds(2)).count(), 1);
    let actions = say(
        &mut central,
        seconds(2),
        older,
        &FromVolunteer::Heartbeat(Report::default()).encode(),
    );
    assert!(
        matches!(actions[1], bsp::central::Action::Disconnect { from, .. } if from == older),
        "no session has it any more"
    );
    assert_eq!(
        central.volunteers(seconds(2)).count(),
        1,
        "which is not the newer one's end"
    );
}

#[test]
fn a_session_goes_on_with_its_numbers_however_long_it_was_without_a_connection() {
    let ttl = config().session_ttl;
    let hours = Duration::from_secs(5 * 3600);
    for away in [ttl - ms(1), ttl, hours] {
        let mut central = central();
        let first = ConnectionId(1);
        let welcome = join(&mut central, Time::ZERO, first);
        say(
            &mut central,
            seconds(1),
            first,
            &plain(&contribution(welcome.session, 1)),
        );
        let mut actions = Vec::new();
        // Its last message was half an hour ago when the connection ends: a link can be that slow.
        let ended = seconds(1800);
        central.on_disconnected(ended, first, &mut actions);
        let mut rests = 0;
        while let Some(at) = central.next_timeout(ended).filter(|at| *at <= ended + away) {
            rests += u64::from(at == ended + ttl);
            central.on_timeout(at, &mut actions);
        }
        assert_eq!(rests, u64::from(away >= ttl), "after its time it rests");
        let again = bsp::protocol::message::Hello {
            session: Some((welcome.session, welcome.token)),
            ..hello()
        };
        let hello = FromVolunteer::Hello(again).encode();
        let actions = say(&mut central, ended + away, ConnectionId(2), &hello);
        let messages = messages(&actions, ConnectionId(2));
        let FromCentral::Welcome(second) = &messages[0] else {
            panic!("{messages:?}")
        };
        assert_eq!((second.session, second.settled), (welcome.session, 1));
    }
}

#[test]
fn a_silent_connection_is_given_up_and_opened_anew() {
    let mut world = World::new(1);
    let tab = world.join(Machine::default());
    world.run_until(seconds(2));
    world.cut(tab, None, None);
    world.run_until(seconds(30));
    assert_eq!(world.local(tab).link_state(), LinkState::Welcomed);
    assert_eq!(world.observer.tabs[tab].connects.len(), 2);
    world.leave(tab);
    world.run_for(Duration::from_secs(2));
    world.assert_all_is_settled(tab);
}

#[test]
fn a_tab_that_was_frozen_says_hello_before_it_is_read_out_again() {
    // The checks of every contribution find a read-out before the hello.
    for after_us in (0..60_000).step_by(997) {
        let mut world = World::new(after_us);
        let tab = world.join(Machine {
            latency: ms(30),
            ..Machine::default()
        });
        world.run_until(seconds(2) + Duration::from_micros(after_us));
        world.freeze(tab, Duration::from_secs(15));
        assert!(world.observer.tabs[tab].must_say_hello);
        world.run_until(seconds(20));
        assert!(!world.observer.tabs[tab].must_say_hello, "it never said hello");
        assert_eq!(
            world.observer.tabs[tab].connects.len(),
            1,
            "on the connection that it has"
        );
        let before = world.central.totals().accepted;
        world.run_until(seconds(21));
        assert!(world.central.totals().accepted > before);
        world.leave(tab);
        world.run_for(Duration::from_secs(2));
        world.assert_all_is_settled(tab);
    }
}

#[test]
fn reconnects_wait_longer_and_longer_while_there_is_no_server_and_the_session_goes_on_when_there_is_one() {
    let mut world = World::new(1);
    let tab = world.join(Machine::default());
    world.run_until(seconds(1));
    world.take_offline(tab, Duration::from_secs(600));
    world.run_until(seconds(600));
    let tries = world.observer.tabs[tab].connects.len();
    assert!((20..60).contains(&tries), "{tries} tries in ten minutes");
    world.run_until(seconds(640));
    assert_eq!(world.local(tab).link_state(), LinkState::Welcomed);
    world.leave(tab);
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.end_of(tab), Some(&bsp::local::End::Left));
    world.assert_all_is_settled(tab);
}
