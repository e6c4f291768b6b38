//! A volunteer written by hand, frame by frame: for what no volunteer of ours would send.

use bsp::central::{Action, Central, Config, ConnectionId};
use bsp::protocol::codec::Codec;
use bsp::protocol::frame::ContributionFrame;
use bsp::protocol::message::{Contribution, FromCentral, FromVolunteer, Hello, PROTOCOL, Report, SessionId, Welcome};
use bsp::time::Time;
use bytes::Bytes;

use super::gradients::{PARAMETERS, Sgd};
use super::world::{RUN, SPEC_HASH};

pub(super) fn hello() -> Hello {
    Hello {
        protocol: PROTOCOL,
        run: RUN,
        spec_hash: SPEC_HASH,
        incarnation: None,
        session: None,
        durable: 0,
        codecs: Codec::ALL.to_vec(),
        report: Report {
            ml_modules: 1,
            ..Report::default()
        },
    }
}

/// A contribution that is accepted, if it is the next of its session.
pub(super) fn contribution(session: SessionId, sequence: u64) -> Contribution {
    Contribution {
        run: RUN,
        spec_hash: SPEC_HASH,
        incarnation: 1,
        session,
        sequence,
        samples: 4,
        gradients: 1,
        loss_sum: 2.0,
        version_sum: 0,
        step_sum: 0,
        codec: Codec::F32,
        step_runs: Vec::new(),
        step_runs_not_listed: 0,
        report: Report {
            ml_modules: 1,
            ..Report::default()
        },
    }
}

pub(super) fn frame(contribution: &Contribution, gradient: &[f32]) -> Bytes {
    let mut frame = ContributionFrame::new(gradient.len());
    Codec::F32.encode(gradient, frame.payload_mut(4 * gradient.len()));
    frame.seal(contribution).expect("it fits");
    Bytes::copy_from_slice(frame.as_bytes())
}

/// The frame of a contribution whose payload is these bytes.
pub(super) fn frame_with(contribution: &Contribution, payload: &[u8]) -> Bytes {
    let mut frame = ContributionFrame::new(payload.len());
    frame.payload_mut(payload.len()).copy_from_slice(payload);
    frame.seal(contribution).expect("it fits");
    Bytes::copy_from_slice(frame.as_bytes())
}

/// A central module of these tests. Volunteer 1 has joined.
pub(super) fn central_and_peer(config: Config, hello: Hello) -> (Central, Welcome) {
    let mut central = Central::new(Time::ZERO, config, vec![0.0; PARAMETERS], Box::new(Sgd { rate: 0.1 }));
    let actions = say(&mut central, Time::ZERO, PEER, &FromVolunteer::Hello(hello).encode());
    match messages(&actions, PEER).into_iter().next() {
        Some(FromCentral::Welcome(welcome)) => (central, welcome),
        other => panic!("no welcome but {other:?}"),
    }
}

/// The connection of [`central_and_peer`].
pub(super) const PEER: ConnectionId = ConnectionId(1);

pub(super) fn plain(contribution: &Contribution) -> Bytes {
    frame(contribution, &[1.0; PARAMETERS])
}

/// The messages to `to` among the actions.
pub(super) fn messages(actions: &[Action], to: ConnectionId) -> Vec<FromCentral> {
    let frames = actions.iter().filter_map(|action| match action {
        Action::Send { to: connection, frame } if *connection == to => Some(frame),
        _ => None,
    });
    frames
        .map(|frame| {
            FromCentral::decode(frame)
                .expect("the central module's own frame")
                .message
        })
        .collect()
}

/// Hands a frame in and returns what comes out.
pub(super) fn say(central: &mut Central, now: Time, from: ConnectionId, frame: &Bytes) -> Vec<Action> {
    let mut actions = Vec::new();
    central.on_frame(now, from, frame, &mut actions);
    actions
}

/// Says hello and returns the welcome.
pub(super) fn join(central: &mut Central, now: Time, from: ConnectionId) -> Welcome {
    let actions = say(central, now, from, &FromVolunteer::Hello(hello()).encode());
    match messages(&actions, from).into_iter().next() {
        Some(FromCentral::Welcome(welcome)) => welcome,
        other => panic!("no welcome but {other:?}"),
    }
}
