//! Headers that lie about local steps or the encoding, and payloads that don't fit their header. Each is refused with
//! its reason, and has no other effect.

use bsp::central::{Action, Config, ConnectionId};
use bsp::protocol::codec::Codec;
use bsp::protocol::message::{Ack, Contribution, ContributionRefusal, FromCentral, FromVolunteer, Hello};
use bytes::Bytes;

use super::gradients::PARAMETERS;
use super::local_steps::local_steps;
use super::peer::{PEER, central_and_peer, contribution, frame_with, hello, messages, plain, say};
use super::world::{config, seconds};

/// The answer to a volunteer's first contribution, in a run of its own. Checks that a refused one has no other effect.
fn answer(config: Config, make: impl FnOnce(Contribution) -> Bytes) -> Option<ContributionRefusal> {
    let (mut central, welcome) = central_and_peer(config, hello());
    let actions = say(&mut central, seconds(1), PEER, &make(contribution(welcome.session, 1)));
    let Some(FromCentral::Ack(ack)) = messages(&actions, PEER).into_iter().next() else {
        panic!("it is not acknowledged: {actions:?}")
    };
    assert_eq!((ack.through, ack.durable), (1, 1));
    if let Some(reason) = &ack.refused {
        let refused = Action::ContributionRefused {
            session: welcome.session,
            sequence: 1,
            reason: reason.clone(),
        };
        // A sum that is not finite makes the central module ask whether gradients still are.
        let asks = actions
            .iter()
            .filter(|action| **action == Action::CheckGradients)
            .count();
        assert_eq!((actions.len() - asks, &actions[0]), (2, &refused));
        let totals = central.totals();
        assert_eq!((totals.samples, totals.accepted, totals.refused), (0, 0, 1));
        assert_eq!(central.model(), [0.0; PARAMETERS]);
        assert_eq!(central.volunteers(seconds(1)).count(), 1, "its sender stays");
    }
    ack.refused
}

#[test]
fn a_sum_of_steps_that_cannot_be_is_refused() {
    // 12 samples in 3 gradients: each sample's ML module made 1 to 3 steps.
    let answer_to = |config, step_sum| {
        answer(config, |honest| {
            plain(&Contribution {
                samples: 12,
                gradients: 3,
                step_sum,
                ..honest
            })
        })
    };
    let refused = Some(ContributionRefusal::Implausible {
        samples: 12,
        gradients: 3,
    });
    for step_sum in [0, 1, 11, 37, u128::MAX] {
        assert_eq!(
            answer_to(local_steps(), step_sum),
            refused,
            "{step_sum} with local steps"
        );
    }
    for step_sum in [1, 12, 36, u128::MAX] {
        assert_eq!(answer_to(config(), step_sum), refused, "{step_sum} without local steps");
    }
    for (config, step_sum) in [(local_steps(), 12), (local_steps(), 36), (config(), 0)] {
        assert_eq!(answer_to(config, step_sum), None, "{step_sum} can be");
    }
}

fn encoded(codec: Codec) -> Config {
    Config {
        contribution_codec: codec,
        model_codec: codec,
        ..config()
    }
}

/// A payload of ones.
fn ones(codec: Codec) -> Vec<u8> {
    let mut payload = vec![0; codec.encoded_bytes(PARAMETERS)];
    codec.encode(&[1.0; PARAMETERS], &mut payload);
    payload
}

#[test]
fn a_contribution_in_another_codec_than_the_welcomes_is_refused() {
    for expected in Codec::ALL {
        for got in Codec::ALL {
            let answer = answer(encoded(expected), |honest| {
                frame_with(&Contribution { codec: got, ..honest }, &ones(got))
            });
            let refused = (got != expected).then_some(ContributionRefusal::AnotherCodec { got, expected });
            assert_eq!(answer, refused);
        }
    }
}

#[test]
fn a_payload_that_cannot_be_decoded_is_refused_with_what_is_wrong() {
    let entry = |index: u32, value: f32| [index.to_le_bytes(), value.to_le_bytes()].concat();
    let block = |scale: f32| [&scale.to_le_bytes()[..], &[1; PARAMETERS]].concat();
    let cases = [
        (Codec::Int8, block(-1.0), "scale -1"),
        (Codec::Int8, block(f32::NAN), "scale NaN"),
        (Codec::F16, [&[255][..], &[0; 2 * PARAMETERS]].concat(), "scale inf"),
        (Codec::TopK, entry(PARAMETERS as u32, 1.0), "index 5"),
    ];
    for (codec, payload, what) in cases {
        match answer(encoded(codec), |honest| {
            frame_with(&Contribution { codec, ..honest }, &payload)
        }) {
            Some(ContributionRefusal::Undecodable(reason)) => assert!(reason.contains(what), "{reason}"),
            other => panic!("{codec:?}, {what}: {other:?}"),
        }
    }
    let not_finite = [
        (Codec::TopK, entry(0, f32::INFINITY)),
        (Codec::Int8, [&f32::MAX.to_le_bytes()[..], &[2; PARAMETERS]].concat()),
        (Codec::F16, [&[1][..], &[0, 0x7c].repeat(PARAMETERS)].concat()),
    ];
    for (codec, payload) in not_finite {
        let answer = answer(encoded(codec), |honest| {
            frame_with(&Contribution { codec, ..honest }, &payload)
        });
        assert_eq!(answer, Some(ContributionRefusal::NotFinite), "{codec:?}");
    }
    for codec in Codec::ALL {
        let (mut payload, expected) = (ones(codec), codec.encoded_bytes(PARAMETERS));
        payload.push(0);
        let answer = answer(encoded(codec), |honest| {
            frame_with(&Contribution { codec, ..honest }, &payload)
        });
        let got = expected + 1;
        assert_eq!(
            answer,
            Some(ContributionRefusal::WrongLength { got, expected }),
            "{codec:?}"
        );
    }
}

#[test]
fn a_refusal_that_was_not_heard_of_comes_with_the_model_after_the_reconnect() {
    let (mut central, welcome) = central_and_peer(local_steps(), hello());
    // Without a sum of steps: refused. The link is cut before its sender hears of it.
    say(
        &mut central,
        seconds(1),
        PEER,
        &plain(&contribution(welcome.session, 1)),
    );
    let again = Hello {
        session: Some((welcome.session, welcome.token)),
        ..hello()
    };
    let newer = ConnectionId(2);
    let actions = say(&mut central, seconds(2), newer, &FromVolunteer::Hello(again).encode());
    let messages = messages(&actions, newer);
    assert!(matches!(&messages[0], FromCentral::Welcome(welcome) if welcome.settled == 1));
    assert_eq!(messages[1], FromCentral::NextModelSettles { through: 1 });
    assert!(matches!(messages[2], FromCentral::StoreModel(_)));
}

#[test]
fn a_model_settles_what_is_in_it_and_not_what_was_accepted_since() {
    let config = Config {
        superstep_samples: 1,
        ..local_steps()
    };
    let (mut central, welcome) = central_and_peer(config, hello());
    super::peer::join(&mut central, seconds(0), ConnectionId(2));
    let honest = |sequence| Contribution {
        step_sum: 4,
        ..contribution(welcome.session, sequence)
    };
    // The superstep waits for the other volunteer, which is silent: contribution 1 is in the open superstep only.
    say(&mut central, seconds(0), PEER, &plain(&honest(1)));
    assert_eq!(central.stamp().version, 0);
    let lie = plain(&contribution(welcome.session, 2));
    let actions = say(&mut central, seconds(0), PEER, &lie);
    assert!(matches!(
        messages(&actions, PEER)[..],
        [FromCentral::Ack(Ack {
            through: 2,
            refused: Some(_),
            ..
        })]
    ));
    let again = Hello {
        session: Some((welcome.session, welcome.token)),
        ..hello()
    };
    let newer = ConnectionId(3);
    let actions = say(&mut central, seconds(0), newer, &FromVolunteer::Hello(again).encode());
    assert!(messages(&actions, newer).contains(&FromCentral::NextModelSettles { through: 0 }));
    let stored = FromVolunteer::Stored(central.stamp()).encode();
    say(&mut central, seconds(0), newer, &stored);
    let mut actions = Vec::new();
    central.close_superstep(seconds(1), &mut actions);
    assert!(messages(&actions, newer).contains(&FromCentral::NextModelSettles { through: 2 }));
}
