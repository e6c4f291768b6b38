//! A volunteer written by hand, frame by frame: for what no volunteer of ours would send.

use bsp::central::{Action, Central, ConnectionId};
use bsp::codec::Codec;
use bsp::message::{
    FromCentral, FromVolunteer, Hello, PROTOCOL, ReadOut, ReadOutFrame, Report, SessionId, Token, Welcome,
};
use bsp::time::Time;
use bytes::Bytes;

use super::gradients::PARAMETERS;
use super::world::{RUN, SPEC_HASH};

pub(super) fn hello() -> Hello {
    Hello {
        protocol: PROTOCOL,
        run: RUN,
        spec_hash: SPEC_HASH,
        incarnation: None,
        session: None,
        codecs: Codec::ALL.to_vec(),
        report: Report {
            ml_modules: 1,
            ..Report::default()
        },
    }
}

/// A contribution that is accepted, if it is the next of its session.
pub(super) fn read_out(session: SessionId, sequence: u64) -> ReadOut {
    ReadOut {
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

pub(super) fn frame(read_out: &ReadOut, gradient: &[f32]) -> Bytes {
    let mut frame = ReadOutFrame::new(gradient.len());
    Codec::F32.encode(gradient, frame.payload_mut(4 * gradient.len()));
    frame.seal(read_out).expect("it fits");
    Bytes::copy_from_slice(frame.as_bytes())
}

pub(super) fn plain(read_out: &ReadOut) -> Bytes {
    frame(read_out, &[1.0; PARAMETERS])
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
    central.on_frame(now, from, frame, Token(1000 + from.0), &mut actions);
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
