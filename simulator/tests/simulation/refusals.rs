//! Bad input: each is refused with its reason, and other volunteers are not affected.

use bsp::central::{Action, Central, Config, ConnectionId, Totals};
use bsp::protocol::message::{
    Ack, Contribution, ContributionRefusal, FromCentral, FromVolunteer, Hello, PROTOCOL, Refusal, Report, RunId,
    SessionId, Token,
};
use bsp::time::Time;
use bytes::Bytes;

use super::gradients::{PARAMETERS, Sgd};
use super::peer::{contribution, frame, hello, join, messages, plain, say};
use super::world::{config, seconds};

const LIAR: ConnectionId = ConnectionId(1);
const OTHER: ConnectionId = ConnectionId(2);

fn central() -> Central {
    Central::new(Time::ZERO, config(), vec![0.0; PARAMETERS], Box::new(Sgd { rate: 0.1 }))
}

/// An honest volunteer's contribution is taken, and makes a version.
fn the_other_goes_on(central: &mut Central, session: SessionId) {
    let version = central.stamp().version;
    let contribution = Contribution {
        version_sum: u128::from(version) * 4,
        ..contribution(session, 1)
    };
    let mut actions = say(central, seconds(5), OTHER, &plain(&contribution));
    central.on_timeout(seconds(10), &mut actions);
    assert_eq!(
        messages(&actions, OTHER)[0],
        FromCentral::Ack(Ack {
            through: 1,
            durable: 1,
            refused: None
        })
    );
    assert_eq!(central.stamp().version, version + 1);
    assert!(central.model().iter().all(|parameter| parameter.is_finite()));
}

/// `bytes` on a connection that has said hello, or not, ends it with `refusal`.
fn assert_turned_away(has_joined: bool, bytes: &Bytes, refusal: Refusal) {
    let mut central = central();
    let session = join(&mut central, Time::ZERO, OTHER).session;
    if has_joined {
        join(&mut central, Time::ZERO, LIAR);
    }
    let actions = say(&mut central, seconds(1), LIAR, bytes);
    assert_eq!(messages(&actions, LIAR), [FromCentral::Refused(refusal.clone())]);
    assert_eq!(
        actions.last(),
        Some(&Action::Disconnect {
            from: LIAR,
            reason: Some(refusal)
        })
    );
    assert!(messages(&actions, OTHER).is_empty());
    let mut actions = Vec::new();
    central.on_disconnected(seconds(1), LIAR, &mut actions);
    assert_eq!(central.volunteers(seconds(1)).count(), 1);
    the_other_goes_on(&mut central, session);
}

fn assert_hello_turned_away(hello: Hello, refusal: Refusal) {
    for has_joined in [false, true] {
        assert_turned_away(
            has_joined,
            &FromVolunteer::Hello(hello.clone()).encode(),
            refusal.clone(),
        );
    }
}

#[test]
fn a_hello_of_another_protocol_is_refused() {
    let refusal = Refusal::Protocol {
        theirs: PROTOCOL + 1,
        ours: PROTOCOL,
    };
    assert_hello_turned_away(
        Hello {
            protocol: PROTOCOL + 1,
            ..hello()
        },
        refusal,
    );
}

#[test]
fn a_hello_of_another_run_is_refused() {
    assert_hello_turned_away(
        Hello {
            run: RunId(78),
            ..hello()
        },
        Refusal::AnotherRun,
    );
}

#[test]
fn a_hello_of_another_model_is_refused() {
    assert_hello_turned_away(
        Hello {
            spec_hash: 1,
            ..hello()
        },
        Refusal::AnotherModel,
    );
}

#[test]
fn a_hello_with_a_wrong_token_is_refused_and_takes_nobodys_session_away() {
    // `OTHER` has session 1.
    let hello = Hello {
        session: Some((SessionId(1), Token(1))),
        ..hello()
    };
    assert_hello_turned_away(hello, Refusal::SessionOver(SessionId(1)));
}

#[test]
fn a_hello_of_an_unknown_session_is_refused() {
    let session = SessionId(999);
    assert_hello_turned_away(
        Hello {
            session: Some((session, config().token_key.token(session))),
            ..hello()
        },
        Refusal::SessionOver(session),
    );
}

#[test]
fn a_full_server_refuses_a_volunteer_and_has_room_again_when_one_has_left() {
    let config = Config {
        max_sessions: 1,
        ..config()
    };
    let mut central = Central::new(Time::ZERO, config, vec![0.0; PARAMETERS], Box::new(Sgd { rate: 0.1 }));
    let hello = FromVolunteer::Hello(hello()).encode();
    join(&mut central, Time::ZERO, OTHER);
    let actions = say(&mut central, Time::ZERO, LIAR, &hello);
    assert_eq!(
        messages(&actions, LIAR),
        [FromCentral::Refused(Refusal::Full { max: 1 })]
    );
    assert_eq!(
        messages(&say(&mut central, Time::ZERO, OTHER, &hello), OTHER).len(),
        1,
        "the volunteer that has joined stays"
    );
    say(&mut central, Time::ZERO, OTHER, &FromVolunteer::Leave.encode());
    join(&mut central, Time::ZERO, ConnectionId(3));
}

#[test]
fn whatever_comes_before_the_hello_is_refused() {
    for message in [
        FromVolunteer::Leave,
        FromVolunteer::Heartbeat(Report::default()),
        FromVolunteer::Stored(Default::default()),
    ] {
        assert_turned_away(false, &message.encode(), Refusal::HelloFirst);
    }
    assert_turned_away(false, &plain(&contribution(SessionId(1), 1)), Refusal::HelloFirst);
}

#[test]
fn a_frame_that_cannot_be_read_is_refused_with_what_is_wrong() {
    for bytes in [
        &b""[..],
        b"\x01",
        b"\xff\xff\xff\xff",
        b"\x01\0\0\0\x63",
        b"GET / HTTP/1.1\r\n\r\n",
    ] {
        let bytes = Bytes::copy_from_slice(bytes);
        let error = FromVolunteer::decode(&bytes).unwrap_err().to_string();
        for has_joined in [false, true] {
            assert_turned_away(has_joined, &bytes, Refusal::Malformed(error.clone()));
        }
    }
}

#[test]
fn a_contribution_of_another_session_is_refused() {
    // `OTHER` has session 1.
    assert_turned_away(
        true,
        &plain(&contribution(SessionId(1), 1)),
        Refusal::AnotherSession(SessionId(1)),
    );
}

#[test]
fn once_the_run_is_finished_everybody_is_told() {
    let mut central = central();
    join(&mut central, Time::ZERO, OTHER);
    let mut actions = Vec::new();
    central.finish(&mut actions);
    assert_eq!(messages(&actions, OTHER), [FromCentral::Refused(Refusal::Finished)]);
    assert_eq!(
        actions[1],
        Action::Disconnect {
            from: OTHER,
            reason: Some(Refusal::Finished)
        }
    );
    let actions = say(&mut central, seconds(1), LIAR, &FromVolunteer::Hello(hello()).encode());
    assert_eq!(messages(&actions, LIAR), [FromCentral::Refused(Refusal::Finished)]);
}

/// The contribution that `make` makes of an honest one is refused, acknowledged, and counted nowhere; its sender stays.
fn assert_refused(make: impl Fn(Contribution) -> (Contribution, Vec<f32>), reason: ContributionRefusal) {
    let mut central = central();
    let session = join(&mut central, Time::ZERO, OTHER).session;
    let liar = join(&mut central, Time::ZERO, LIAR).session;
    let (lie, gradient) = make(contribution(liar, 1));
    let actions = say(&mut central, seconds(1), LIAR, &frame(&lie, &gradient));
    let ack = Ack {
        through: 1,
        durable: 1,
        refused: Some(reason.clone()),
    };
    assert_eq!(messages(&actions, LIAR), [FromCentral::Ack(ack)]);
    assert_eq!(
        actions[0],
        Action::ContributionRefused {
            session: liar,
            sequence: 1,
            reason
        }
    );
    let totals = central.totals();
    assert_eq!(
        (totals.samples, totals.gradients, totals.accepted, totals.refused),
        (0, 0, 0, 1)
    );
    let again = say(&mut central, seconds(1), LIAR, &frame(&lie, &gradient));
    assert_eq!(messages(&again, LIAR).len(), 1, "a refusal is final");
    let duplicates = totals.duplicates + 1;
    assert_eq!(central.totals(), Totals { duplicates, ..totals });
    the_other_goes_on(&mut central, session);
    let honest = Contribution {
        version_sum: u128::from(central.stamp().version) * 4,
        ..contribution(liar, 2)
    };
    let actions = say(&mut central, seconds(11), LIAR, &plain(&honest));
    let ack = Ack {
        through: 2,
        durable: 2,
        refused: None,
    };
    assert_eq!(
        messages(&actions, LIAR)[0],
        FromCentral::Ack(ack),
        "it stays, and may do better"
    );
}

const ONES: [f32; PARAMETERS] = [1.0; PARAMETERS];

#[test]
fn a_gradient_of_the_wrong_length_is_refused() {
    for got in [0, PARAMETERS - 1, PARAMETERS + 1] {
        let reason = ContributionRefusal::WrongLength {
            got: 4 * got,
            expected: 4 * PARAMETERS,
        };
        assert_refused(|honest| (honest, vec![1.0; got]), reason);
    }
}

#[test]
fn a_gradient_or_a_loss_that_is_not_finite_is_refused() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for at in 0..PARAMETERS {
            let mut gradient = ONES.to_vec();
            gradient[at] = bad;
            assert_refused(|honest| (honest, gradient.clone()), ContributionRefusal::NotFinite);
        }
        let loss_sum = f64::from(bad);
        assert_refused(
            |honest| (Contribution { loss_sum, ..honest }, ONES.to_vec()),
            ContributionRefusal::NotFinite,
        );
    }
}

#[test]
fn a_contribution_from_the_future_is_refused() {
    for (version_sum, version) in [(4, 1), (1, 0), (u128::MAX, u64::MAX)] {
        let reason = ContributionRefusal::FromTheFuture { version };
        assert_refused(|honest| (Contribution { version_sum, ..honest }, ONES.to_vec()), reason);
    }
}

#[test]
fn a_contribution_of_another_run_model_or_incarnation_is_refused() {
    let lies: [fn(Contribution) -> Contribution; 3] = [
        |honest| Contribution {
            run: RunId(78),
            ..honest
        },
        |honest| Contribution { spec_hash: 1, ..honest },
        |honest| Contribution {
            incarnation: 2,
            ..honest
        },
    ];
    for lie in lies {
        assert_refused(|honest| (lie(honest), ONES.to_vec()), ContributionRefusal::AnotherRun);
    }
}

#[test]
fn a_contribution_whose_counts_cannot_be_is_refused() {
    let minibatch = config().minibatch;
    let counts = [
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 2),
        (minibatch + 1, 1),
        (u64::MAX, u64::MAX),
        (1 << 41, 1 << 40),
    ];
    for (samples, gradients) in counts {
        let reason = ContributionRefusal::Implausible { samples, gradients };
        assert_refused(
            |honest| {
                (
                    Contribution {
                        samples,
                        gradients,
                        ..honest
                    },
                    ONES.to_vec(),
                )
            },
            reason,
        );
    }
}

#[test]
fn a_contribution_that_is_too_stale_is_refused() {
    let config = Config {
        max_staleness: 3,
        superstep_samples: 1,
        ..config()
    };
    let mut central = Central::new(Time::ZERO, config, vec![0.0; PARAMETERS], Box::new(Sgd { rate: 0.1 }));
    let session = join(&mut central, Time::ZERO, OTHER).session;
    for sequence in 1..=3 {
        // All are of version 0: the staleness grows by one each time, and the last has the largest that is taken.
        say(
            &mut central,
            seconds(sequence),
            OTHER,
            &plain(&contribution(session, sequence)),
        );
    }
    assert_eq!(central.stamp().version, 3);
    say(&mut central, seconds(4), OTHER, &plain(&contribution(session, 4)));
    let actions = say(&mut central, seconds(5), OTHER, &plain(&contribution(session, 5)));
    let reason = ContributionRefusal::TooStale { staleness: 4, max: 3 };
    assert_eq!(
        actions[0],
        Action::ContributionRefused {
            session,
            sequence: 5,
            reason
        }
    );
    assert_eq!((central.totals().accepted, central.totals().refused), (4, 1));
}

#[test]
fn a_mean_version_that_no_float_can_hold_is_compared_exactly() {
    let mut central = central();
    let session = join(&mut central, Time::ZERO, OTHER).session;
    // Beyond 2¹³ versions the product leaves the whole numbers of f64.
    let samples = (1 << 40) - 1;
    for sequence in 1..=20_000 {
        let version_sum = u128::from(central.stamp().version) * u128::from(samples);
        let contribution = Contribution {
            samples,
            gradients: samples,
            version_sum,
            ..contribution(session, sequence)
        };
        let actions = say(&mut central, seconds(sequence), OTHER, &plain(&contribution));
        assert!(
            !actions
                .iter()
                .any(|action| matches!(action, Action::ContributionRefused { .. })),
            "{actions:?}"
        );
    }
    assert_eq!(central.stamp().version, 20_000);
}
