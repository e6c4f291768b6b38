//! Encoded contributions and models in whole runs. With every model it is checked that all tabs hold the same bits for
//! the same version.

use std::time::Duration;

use bsp::central::{Action, Config, ConnectionId};
use bsp::local;
use bsp::protocol::codec::Codec;
use bsp::protocol::frame::{FrameError, Received};
use bsp::protocol::message::{
    Ack, Contribution, FromCentral, FromVolunteer, Hello, ModelEncoding, SessionId, StoreModel,
};
use bsp::shared_memory::{Gradient, ModelStamp, shared_memory};
use bsp::time::Time;
use bytes::Bytes;

use super::gradients::{Gradients, PARAMETERS, Sgd};
use super::local_steps::local_steps;
use super::peer::{PEER, central_and_peer, contribution, frame_with, hello, messages, plain, say};
use super::replicas::bits;
use super::tab::{Machine, joined};
use super::world::{World, config, ms, seconds};

const LOSSY: [Codec; 3] = [Codec::F16, Codec::Int8, Codec::TopK];

/// Both directions in this codec.
pub(super) fn encoded(codec: Codec, config: Config) -> Config {
    Config {
        contribution_codec: codec,
        model_codec: codec,
        ..config
    }
}

/// The model that each tab holds is what was sent as that version.
fn assert_tabs_hold_what_was_sent(world: &World) {
    for tab in &world.tabs {
        for training in tab.ml.iter().filter_map(|ml| ml.training.as_ref()) {
            if let Some(stamp) = training.stamp() {
                let sent = world.observer.replicas.of_version(stamp.version);
                assert_eq!(bits(&training.model()), bits(&sent), "version {}", stamp.version);
            }
        }
    }
}

#[test]
fn a_volunteer_that_joins_late_or_misses_versions_computes_on_the_same_bits_as_the_others() {
    for codec in LOSSY {
        let mut world = World::with(1, encoded(codec, config()), Gradients::Quadratic);
        let tabs: Vec<_> = [1, 20, 70, 150, 400]
            .map(|latency| {
                world.join(Machine {
                    latency: ms(latency),
                    ..Machine::default()
                })
            })
            .into();
        for second in 1..12 {
            world.run_until(seconds(second));
            world.cut(tabs[second as usize % tabs.len()], Some(ms(3)), Some(ms(5)));
            assert_tabs_hold_what_was_sent(&world);
            if second % 3 == 0 {
                world.join(Machine::default());
            }
        }
        for _ in 0..200 {
            world.run_for(ms(7));
            assert_tabs_hold_what_was_sent(&world);
        }
        let replicas = &world.observer.replicas;
        assert!(replicas.differences > 100, "{codec:?}: {}", replicas.differences);
        // (Two differences of so small a model are longer than the whole in F16.)
        let several = replicas.differences_over_several;
        assert!(several > 5 || codec == Codec::F16, "{codec:?}: {several}");
        assert!(replicas.wholes >= 5 + 3 + 11, "{codec:?}");
    }
}

#[test]
fn the_model_is_learned_whatever_the_codec() {
    for config in [config(), local_steps()] {
        for codec in LOSSY {
            let (gradients, rate) = match config.has_local_steps {
                true => (Gradients::Descending, 1.0),
                false => (Gradients::Quadratic, 0.1),
            };
            let config = encoded(codec, config.clone());
            let mut world = World::with_optimizer(1, config, gradients, Box::new(Sgd { rate }));
            for _ in 0..3 {
                world.join(Machine {
                    ml_modules: 2,
                    ..Machine::default()
                });
            }
            world.run_until(seconds(60));
            let model = world.central.model();
            let is_learned = model.iter().all(|parameter| (parameter - 3.0).abs() < 0.1);
            assert!(is_learned, "{codec:?}, {gradients:?}: {model:?}");
            let version = world.central.stamp().version;
            let held = world.observer.replicas.of_version(version);
            let is_close = held.iter().zip(model).all(|(held, model)| (held - model).abs() < 0.05);
            assert!(
                is_close,
                "{codec:?}: volunteers hold {held:?}, and the server {model:?}"
            );
        }
    }
}

#[test]
fn whatever_the_codec_every_gradient_is_in_exactly_one_settled_contribution_through_120_schedules_of_faults() {
    for seed in 0..120 {
        let codec = LOSSY[seed as usize % LOSSY.len()];
        super::exactly_once::check(seed, encoded(codec, config()), Gradients::Quadratic);
    }
    for seed in 0..60 {
        let codec = LOSSY[seed as usize % LOSSY.len()];
        super::exactly_once::check(seed, encoded(codec, local_steps()), Gradients::Descending);
    }
}

/// The models among the messages to a connection, with their payloads' lengths.
fn models(actions: &[Action], to: ConnectionId) -> Vec<(StoreModel, usize)> {
    let frames = actions.iter().filter_map(|action| match action {
        Action::Send { to: connection, frame } if *connection == to => FromCentral::decode(frame).ok(),
        _ => None,
    });
    let models = frames.filter_map(|Received { message, payload }| match message {
        FromCentral::StoreModel(model) => Some((model, payload.len())),
        _ => None,
    });
    models.collect()
}

#[test]
fn a_volunteer_that_names_no_codec_gets_and_gives_plain_f32() {
    for codec in LOSSY {
        let config = Config {
            superstep_samples: 1,
            ..encoded(codec, config())
        };
        let knows = |codecs: Vec<Codec>| Hello { codecs, ..hello() };
        let (mut central, welcome) = central_and_peer(config, knows(Vec::new()));
        assert_eq!(welcome.codec, Codec::F32);
        let stored = FromVolunteer::Stored(central.stamp()).encode();
        say(&mut central, seconds(1), PEER, &stored);
        let actions = say(
            &mut central,
            seconds(1),
            PEER,
            &plain(&contribution(welcome.session, 1)),
        );
        assert_eq!(central.totals().accepted, 1);
        let [(model, bytes)] = models(&actions, PEER)[..] else {
            panic!("{actions:?}")
        };
        assert_eq!((model.encoding, bytes), (ModelEncoding::Whole, 4 * PARAMETERS));
        // The other volunteer knows the run's codec.
        let other = ConnectionId(2);
        let hello = FromVolunteer::Hello(knows(vec![codec])).encode();
        let actions = say(&mut central, seconds(1), other, &hello);
        assert!(matches!(&messages(&actions, other)[0], FromCentral::Welcome(welcome) if welcome.codec == codec));
    }
}

#[test]
fn a_hello_that_names_other_codecs_than_the_runs_is_welcomed_with_f32() {
    let codecs = vec![Codec::F16, Codec::TopK];
    let (_, welcome) = central_and_peer(encoded(Codec::Int8, config()), Hello { codecs, ..hello() });
    assert_eq!(welcome.codec, Codec::F32);
}

#[test]
fn the_sockets_of_all_volunteers_on_one_version_share_one_frame() {
    for codec in Codec::ALL {
        let config = Config {
            superstep_samples: 1,
            ..encoded(codec, config())
        };
        let (mut central, welcome) = central_and_peer(config, hello());
        let connections: Vec<_> = (1..=5).map(ConnectionId).collect();
        for connection in &connections[1..] {
            super::peer::join(&mut central, seconds(0), *connection);
        }
        let stored = FromVolunteer::Stored(central.stamp()).encode();
        for connection in &connections {
            say(&mut central, seconds(0), *connection, &stored);
        }
        let contribution = Contribution {
            codec,
            ..contribution(welcome.session, 1)
        };
        let mut payload = vec![0; codec.encoded_bytes(PARAMETERS)];
        codec.encode(&[1.0; PARAMETERS], &mut payload);
        let mut actions = say(&mut central, seconds(0), PEER, &frame_with(&contribution, &payload));
        central.close_superstep(seconds(0), &mut actions);
        let is_model =
            |frame: &Bytes| matches!(FromCentral::decode(frame).unwrap().message, FromCentral::StoreModel(_));
        let frames: Vec<_> = actions
            .iter()
            .filter_map(|action| match action {
                Action::Send { frame, .. } if is_model(frame) => Some(frame.as_ptr()),
                _ => None,
            })
            .collect();
        assert_eq!(frames.len(), connections.len(), "{codec:?}");
        assert!(frames.iter().all(|frame| *frame == frames[0]), "{codec:?}");
    }
}

/// The frame of version 7 as a difference from version `from`.
fn difference(from: u64, payload: &[u8]) -> Bytes {
    let stamp = ModelStamp {
        incarnation: 1,
        version: 7,
    };
    let encoding = ModelEncoding::Differences {
        from,
        codec: Codec::Int8,
    };
    let header = FromCentral::StoreModel(StoreModel { stamp, encoding }).encode();
    [&header[..], payload].concat().into()
}

#[test]
fn a_difference_from_a_model_that_the_tab_does_not_have_breaks_the_link() {
    let mut payload = vec![0; Codec::Int8.encoded_bytes(PARAMETERS)];
    Codec::Int8.encode(&[1.0; PARAMETERS], &mut payload);
    let sixth = ModelStamp {
        incarnation: 1,
        version: 6,
    };
    let whole = FromCentral::encode_model(sixth, &[2.0; PARAMETERS]);
    let earlier = FromCentral::encode_model(
        ModelStamp {
            incarnation: 0,
            ..sixth
        },
        &[2.0; PARAMETERS],
    );
    let cases = [
        (None, difference(6, &payload), Some("leads on from version 6")),
        (
            Some(&whole),
            difference(5, &[&payload[..], &payload[..]].concat()),
            Some("leads on from version 5"),
        ),
        (Some(&whole), difference(7, &[]), Some("leads on from version 7")),
        (Some(&whole), difference(8, &[]), Some("leads on from version 8")),
        (
            Some(&earlier),
            difference(6, &payload),
            Some("version 6 of incarnation 1"),
        ),
        (
            Some(&whole),
            difference(6, &payload[1..]),
            Some("model can't be decoded"),
        ),
        (
            Some(&whole),
            difference(6, &[&[0, 0, 0x80, 0x7f][..], &payload[4..]].concat()),
            Some("model can't be decoded"),
        ),
        (Some(&whole), difference(6, &payload), None),
    ];
    for (case, (before, frame, refused)) in cases.into_iter().enumerate() {
        let (memory, mut sides) = shared_memory(PARAMETERS, 1);
        let mut local = joined(memory, Codec::F32);
        let mut actions = Vec::new();
        if let Some(before) = before {
            local.on_frame(Time::ZERO, before, &mut actions).unwrap();
        }
        let held = sides[0].model().map(|model| model.to_vec());
        actions.clear();
        let used = local.on_frame(Time::ZERO, &frame, &mut actions);
        match (&used, refused) {
            (Ok(()), None) => {}
            (Err(error), Some(words)) if error.to_string().contains(words) => {}
            _ => panic!("case {case}: {used:?}"),
        }
        let now = sides[0].model().map(|model| model.to_vec());
        if refused.is_none() {
            assert_eq!(now, Some(vec![3.0; PARAMETERS]));
        } else {
            assert_eq!((actions, now), (vec![local::Action::Disconnect], held), "case {case}");
        }
    }
}

#[test]
fn after_a_difference_that_leads_on_from_nothing_a_tab_reconnects_and_gets_a_whole_model() {
    let mut world = World::with(1, encoded(Codec::Int8, config()), Gradients::Quadratic);
    let tab = world.join(Machine::default());
    world.run_until(seconds(3));
    let mut payload = vec![0; Codec::Int8.encoded_bytes(PARAMETERS)];
    Codec::Int8.encode(&[1.0; PARAMETERS], &mut payload);
    let wholes = world.observer.replicas.wholes;
    world.with_local(tab, |local, now, actions| {
        let used = local.on_frame(now, &difference(6, &payload), actions);
        assert!(
            matches!(
                used,
                Err(FrameError::LeadsOnFrom {
                    incarnation: 1,
                    from: 6
                })
            ),
            "{used:?}"
        );
    });
    assert!(!world.is_welcomed(tab));
    world.run_until(seconds(6));
    assert!(world.is_welcomed(tab));
    assert_eq!(world.observer.tabs[tab].connects.len(), 2);
    assert_eq!(world.observer.replicas.wholes, wholes + 1);
    assert_tabs_hold_what_was_sent(&world);
    world.leave(tab);
    world.run_for(Duration::from_secs(2));
    world.assert_all_is_settled(tab);
}

/// Two ML modules whose gradients are finite, and whose sum is not.
#[test]
fn a_sum_beyond_an_f32_is_refused_once_and_what_follows_counts() {
    for codec in Codec::ALL {
        let (mut central, welcome) = central_and_peer(encoded(codec, config()), hello());
        let (memory, mut sides) = shared_memory(PARAMETERS, 2);
        let mut local = joined(memory, codec);
        let mut answers = Vec::new();
        for step in 0..4 {
            for side in &mut sides {
                let gradient = Gradient {
                    stamp: central.stamp(),
                    step,
                    samples: 1,
                    loss_sum: 0.0,
                };
                let value = if step == 0 { f32::MAX } else { 1.0 };
                side.add(&[value; PARAMETERS], gradient).unwrap();
            }
            let now = seconds(step + 1);
            let mut actions = Vec::new();
            local.on_timeout(now, &mut actions);
            let Some(local::Action::SendContribution { sequence }) = actions
                .iter()
                .find(|action| matches!(action, local::Action::SendContribution { .. }))
            else {
                panic!("nothing was read out: {actions:?}")
            };
            let frame = Bytes::copy_from_slice(local.contribution_frame(*sequence).unwrap());
            for message in messages(&say(&mut central, now, PEER, &frame), PEER) {
                if let FromCentral::Ack(Ack { refused, .. }) = &message {
                    answers.push(refused.is_some());
                    local.on_frame(now, &message.encode(), &mut actions).unwrap();
                }
            }
        }
        assert_eq!(welcome.session, SessionId(1));
        assert_eq!(answers, [true, false, false, false], "{codec:?}");
        assert!(
            central.model().iter().all(|parameter| parameter.abs() < 1.0),
            "{codec:?}"
        );
    }
}
