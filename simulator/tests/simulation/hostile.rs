//! Hostile frames: the server goes on, does not grow, and does not spin.

use std::time::Duration;

use bsp::central::{Action, Central, Config, ConnectionId};
use bsp::protocol::codec::Codec;
use bsp::protocol::frame::Received;
use bsp::protocol::message::{
    Contribution, ContributionRefusal, FromCentral, FromVolunteer, Hello, Mode, Report, SessionId,
};
use bsp::shared_memory::{ModelStamp, PhaseTimes};
use bsp::time::Time;
use proptest::prelude::*;

use super::gradients::{PARAMETERS, Sgd};
use super::peer::{contribution, frame, frame_with, hello, join, plain, say};
use super::tab::Machine;
use super::world::{World, config, ms, seconds};

fn edge() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..5, Just(u64::MAX), Just(u64::MAX / 8), Just(1 << 40), any::<u64>()]
}

fn report() -> impl Strategy<Value = Report> {
    (edge(), any::<bool>(), any::<u16>()).prop_map(|(edge, is_paused, ml_modules)| Report {
        ml_modules,
        is_paused,
        not_finite: edge,
        discarded: edge,
        time_us: PhaseTimes {
            gradient: edge,
            add: edge,
            read: edge,
            wait: edge,
        },
        upload_us: edge,
        round_trip_us: edge / 2,
    })
}

/// A sum of steps: one that can be, the edges, or any.
fn step_sum() -> impl Strategy<Value = u128> {
    prop_oneof![
        Just(0),
        (1u128..40),
        edge().prop_map(u128::from),
        any::<u128>(),
        Just(u128::MAX)
    ]
}

fn codec() -> impl Strategy<Value = Codec> {
    prop::sample::select(Codec::ALL.to_vec())
}

/// Payloads of contributions: any bytes, or encoded values, in the right codec or another.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let encoded = (codec(), prop::collection::vec(any::<f32>(), PARAMETERS)).prop_map(|(codec, values)| {
        let finite: Vec<f32> = values
            .iter()
            .map(|value| if value.is_finite() { *value } else { f32::MAX })
            .collect();
        let mut payload = vec![0; codec.encoded_bytes(PARAMETERS)];
        codec.encode(&finite, &mut payload);
        payload
    });
    prop_oneof![4 => encoded, 1 => prop::collection::vec(any::<u8>(), 0..30)]
}

fn message() -> impl Strategy<Value = bytes::Bytes> {
    let claims = (
        edge(),
        edge(),
        1u64..40,
        any::<f32>(),
        any::<u128>(),
        any::<bool>(),
        report(),
        any::<f64>(),
    );
    prop_oneof![
        6 => claims.prop_map(|(samples, gradients, sequence, value, version_sum, is_plain, report, loss_sum)| {
            let version_sum = if is_plain { 0 } else { version_sum };
            let honest = contribution(SessionId(1), sequence);
            let lie = Contribution { samples, gradients, version_sum, report, loss_sum, ..honest };
            frame(&lie, &[value; PARAMETERS])
        }),
        2 => (edge(), any::<u32>()).prop_map(|(version, incarnation)| {
            FromVolunteer::Stored(ModelStamp { incarnation: incarnation % 3, version }).encode()
        }),
        1 => report().prop_map(|report| FromVolunteer::Heartbeat(report).encode()),
        1 => report().prop_map(|report| FromVolunteer::Hello(Hello { report, ..hello() }).encode()),
        1 => (0u64..3, 0u64..4).prop_map(|(session, token)| {
            let token = config().token_key.token(SessionId(token));
            let session = Some((SessionId(session), token));
            FromVolunteer::Hello(Hello { session, ..hello() }).encode()
        }),
        6 => (edge(), edge(), 1u64..40, step_sum(), codec(), payload()).prop_map(
            |(samples, gradients, sequence, step_sum, codec, payload)| {
                let lie = Contribution { samples, gradients, step_sum, codec, ..contribution(SessionId(1), sequence) };
                frame_with(&lie, &payload)
            }
        ),
        4 => (1u64..40, 1u64..9, codec(), payload()).prop_map(|(sequence, steps, codec, payload)| {
            let (samples, step_sum) = (2 * steps, u128::from(2 * steps * steps));
            let honest = contribution(SessionId(1), sequence);
            let lie = Contribution { samples, gradients: steps, step_sum, codec, ..honest };
            frame_with(&lie, &payload)
        }),
        1 => prop::collection::vec(codec(), 0..9).prop_map(|codecs| {
            FromVolunteer::Hello(Hello { codecs, ..hello() }).encode()
        }),
        1 => Just(FromVolunteer::Leave.encode()),
    ]
}

proptest! {
    #[test]
    fn no_bytes_make_the_central_module_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..100) {
        let mut central = Central::new(Time::ZERO, config(), vec![0.0; PARAMETERS], Box::new(Sgd { rate: 0.1 }));
        let session = join(&mut central, Time::ZERO, ConnectionId(1)).session;
        say(&mut central, seconds(1), ConnectionId(1), &bytes::Bytes::from(bytes.clone()));
        // And an honest frame of which some are other ones.
        let mut frame = plain(&contribution(session, 1)).to_vec();
        let begin = cut.min(frame.len());
        for (byte, other) in frame[begin..].iter_mut().zip(bytes) {
            *byte = other;
        }
        join(&mut central, Time::ZERO, ConnectionId(2));
        say(&mut central, seconds(1), ConnectionId(2), &bytes::Bytes::from(frame));
        prop_assert!(central.model().iter().all(|parameter| parameter.is_finite()));
    }

    #[test]
    fn no_list_of_messages_makes_the_central_module_panic_spin_or_send_a_model_that_is_not_finite(
        messages in prop::collection::vec((message(), 0u64..3, 0u64..3000), 0..60),
        mode in prop::sample::select(vec![Mode::Decoupled, Mode::Lockstep, Mode::Asynchronous]),
        has_local_steps: bool,
        backup_workers in 0usize..3,
        codecs in (codec(), codec()),
    ) {
        let weighting = bsp::combine::Weighting { clip: 3.0, ..config().weighting };
        let (contribution_codec, model_codec) = codecs;
        let config = Config {
            mode, weighting, has_local_steps, backup_workers, contribution_codec, model_codec, ..config()
        };
        let mut central = Central::new(Time::ZERO, config, vec![0.0; PARAMETERS], Box::new(Sgd { rate: 0.1 }));
        let (mut now, mut actions) = (Time::ZERO, Vec::new());
        for (frame, from, wait) in messages {
            let end = now + ms(wait);
            let mut wakes = 0;
            while let Some(at) = central.next_timeout(now).filter(|at| *at <= end) {
                wakes += 1;
                prop_assert!(wakes < 200, "it asks again and again to be woken");
                now = at;
                central.on_timeout(now, &mut actions);
            }
            now = end;
            central.on_frame(now, ConnectionId(from), &frame, &mut actions);
            for action in &actions {
                if let Action::Send { frame, .. } = action {
                    let Received { message, payload } = FromCentral::decode(frame).unwrap();
                    if let FromCentral::StoreModel(model) = message {
                        prop_assert_eq!(model.check(&payload, PARAMETERS), Ok(()));
                    }
                }
            }
            let disconnects: Vec<_> = actions.iter().filter_map(|action| match action {
                Action::Disconnect { from, .. } => Some(*from),
                _ => None,
            }).collect();
            actions.clear();
            for connection in disconnects {
                central.on_disconnected(now, connection, &mut actions);
            }
            prop_assert!(central.model().iter().all(|parameter| parameter.is_finite()));
            prop_assert!(central.volunteers(now).count() <= 3);
            let period = central.period();
            prop_assert!(period >= ms(50) && period <= Duration::from_secs(2));
        }
    }
}

#[test]
fn counts_up_to_the_bound_of_the_plausible_never_overflow_the_totals() {
    let mut central = Central::new(Time::ZERO, config(), vec![0.0; PARAMETERS], Box::new(Sgd { rate: 0.1 }));
    let session = join(&mut central, Time::ZERO, ConnectionId(1)).session;
    let mut sum = 0u64;
    for (sequence, shift) in (1..).zip([63, 60, 50, 41, 40, 39].into_iter().cycle().take(600)) {
        let (samples, version_sum) = (1 << shift, u128::from(central.stamp().version) << shift);
        let lie = Contribution {
            samples,
            gradients: samples,
            version_sum,
            ..contribution(session, sequence)
        };
        let before = central.totals().accepted;
        say(&mut central, seconds(sequence), ConnectionId(1), &plain(&lie));
        if central.totals().accepted > before {
            sum = sum.checked_add(lie.samples).expect("the accepted fit");
        }
        assert_eq!(central.totals().samples, sum);
    }
    assert!(sum > 0 && central.period() == config().min_period);
}

/// A peer that says an honest hello: its connection and its session.
fn join_liar(world: &mut World) -> (ConnectionId, SessionId) {
    let liar = ConnectionId(1 << 40);
    world.inject(liar, &FromVolunteer::Hello(hello()).encode());
    let sessions = world.central.volunteers(world.now).map(|volunteer| volunteer.session);
    (liar, sessions.max().unwrap())
}

#[test]
fn a_volunteer_that_floods_the_open_superstep_is_refused_before_the_server_grows_and_the_others_go_on() {
    for mode in [Mode::Decoupled, Mode::Lockstep] {
        let mut world = World::with(1, Config { mode, ..config() }, super::gradients::Gradients::Counting);
        let slow = world.join(Machine {
            step: ms(1500),
            ..Machine::default()
        });
        world.run_until(seconds(3));
        let (liar, session) = join_liar(&mut world);
        for sequence in 1..=1000 {
            let version = world.central.stamp().version;
            let lie = Contribution {
                version_sum: u128::from(version) * 4,
                ..contribution(session, sequence)
            };
            world.inject(liar, &plain(&lie));
        }
        let largest = world
            .observer
            .closed
            .iter()
            .map(|(_, closed)| closed.contributions)
            .max()
            .unwrap_or(0);
        assert!(largest <= 100, "{largest} contributions in one superstep");
        let too_many = |refusal: &(SessionId, ContributionRefusal)| match refusal.1 {
            ContributionRefusal::TooMany { max } if refusal.0 == session => {
                let cell =
                    "| contributions of one session in an open superstep | 16, and as many as a volunteer keeps |";
                assert!(include_str!("../../../docs/protocol.md").contains(cell), "{cell}");
                max == 16 + bsp::local::kept_contributions(PARAMETERS)
            }
            _ => false,
        };
        assert!(
            world
                .observer
                .refusals
                .iter()
                .filter(|refusal| too_many(refusal))
                .count()
                > 900
        );
        let settled = |world: &World| {
            world
                .observer
                .ledger
                .settled
                .get(&world.tabs[slow].session.unwrap())
                .copied()
                .unwrap_or(0)
        };
        let before = settled(&world);
        world.run_until(seconds(20));
        assert!(settled(&world) > before, "the honest one goes on");
    }
}

#[test]
fn a_run_whose_periods_make_no_sense_neither_panics_nor_spins() {
    for (min_period, max_period) in [
        (Duration::ZERO, Duration::ZERO),
        (Duration::ZERO, Duration::MAX),
        (Duration::from_secs(2), Duration::from_secs(1)),
        (Duration::MAX, Duration::MAX),
    ] {
        let config = Config {
            min_period,
            max_period,
            ..config()
        };
        let mut world = World::with(1, config, super::gradients::Gradients::Counting);
        world.join(Machine::default());
        world.run_until(seconds(5));
        if min_period < Duration::from_secs(3) {
            assert!(world.central.totals().accepted > 0);
        }
    }
}

#[test]
fn one_volunteer_with_a_gradient_beyond_measure_does_not_carry_the_model_off_when_norms_are_bounded() {
    let weighting = bsp::combine::Weighting {
        clip: 3.0,
        ..config().weighting
    };
    let mut world = World::with(
        1,
        Config { weighting, ..config() },
        super::gradients::Gradients::Quadratic,
    );
    for _ in 0..3 {
        world.join(Machine::default());
    }
    world.run_until(seconds(10));
    let (liar, session) = join_liar(&mut world);
    for sequence in 1..=20 {
        let version = world.central.stamp().version;
        let lie = Contribution {
            version_sum: u128::from(version) * 4,
            ..contribution(session, sequence)
        };
        world.inject(liar, &frame(&lie, &[f32::MAX; PARAMETERS]));
        world.run_for(ms(400));
    }
    assert!(!world.central.phase().has_diverged());
    world.run_until(seconds(40));
    assert!(
        world
            .central
            .model()
            .iter()
            .all(|parameter| (parameter - 3.0).abs() < 0.2),
        "{:?}",
        world.central.model()
    );
}
