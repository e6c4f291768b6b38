//! The promises of the central module as a whole: frames go in, actions come out.

mod checkpoints;
mod crowd;
mod going_back;

use super::test_config::{Descent, test_config};
use super::*;
use crate::protocol::codec::{Codec, PAYLOADS_READ};
use crate::protocol::frame::ContributionFrame;
use crate::protocol::message::{Ack, Contribution, Hello, PROTOCOL, Report};

const LINK: ConnectionId = ConnectionId(1);
const PARAMETERS: usize = 2;

/// A run with one volunteer, which has said hello, and all parameters at 1.
fn central() -> Central {
    let mut central = Central::new(Time::ZERO, test_config(), vec![1.0; PARAMETERS], Box::new(Descent));
    receive(&mut central, &FromVolunteer::Hello(hello(report())).encode());
    central
}

/// The first hello of a volunteer.
fn hello(report: Report) -> Hello {
    Hello {
        protocol: PROTOCOL,
        run: test_config().run,
        spec_hash: test_config().spec_hash,
        incarnation: None,
        session: None,
        durable: 0,
        codecs: Vec::new(),
        report,
    }
}

fn report() -> Report {
    Report {
        ml_modules: 1,
        ..Report::default()
    }
}

fn receive(central: &mut Central, frame: &Bytes) -> Vec<Action> {
    let mut actions = Vec::new();
    central.on_frame(Time::ZERO, LINK, frame, &mut actions);
    actions
}

/// Contribution `sequence` of session 1, of `samples` samples on version 0, whose mean gradient is `slope` for each
/// parameter.
fn contribution(sequence: u64, samples: u64, slope: f32) -> Bytes {
    contribution_of(SessionId(1), sequence, 0, samples, slope)
}

/// The same of a session, on a version.
fn contribution_of(session: SessionId, sequence: u64, version: u64, samples: u64, slope: f32) -> Bytes {
    contribution_with(session, sequence, version * samples, samples, slope)
}

/// A contribution of several versions: a sample for each, the sum of which is `versions`.
fn contribution_spanning(session: SessionId, sequence: u64, versions: u64, samples: u64) -> Bytes {
    contribution_with(session, sequence, versions, samples, 0.0)
}

fn contribution_with(session: SessionId, sequence: u64, version_sum: u64, samples: u64, slope: f32) -> Bytes {
    let sum = [slope * samples as f32; PARAMETERS];
    let mut frame = ContributionFrame::new(PARAMETERS);
    let payload = frame.payload_mut(Codec::F32.encoded_bytes(PARAMETERS));
    payload.copy_from_slice(sum.map(f32::to_le_bytes).as_flattened());
    let header = Contribution {
        run: test_config().run,
        spec_hash: test_config().spec_hash,
        incarnation: 1,
        session,
        sequence,
        samples,
        gradients: samples,
        loss_sum: 1.0,
        version_sum: u128::from(version_sum),
        step_sum: 0,
        codec: Codec::F32,
        step_runs: Vec::new(),
        step_runs_not_listed: 0,
        report: report(),
    };
    frame.seal(&header).unwrap();
    Bytes::copy_from_slice(frame.as_bytes())
}

/// The messages among these actions.
fn messages(actions: &[Action]) -> Vec<FromCentral> {
    let frames = actions.iter().filter_map(|action| match action {
        Action::Send { frame, .. } => Some(frame),
        _ => None,
    });
    frames
        .map(|frame| FromCentral::decode(frame).unwrap().message)
        .collect()
}

#[test]
fn a_last_superstep_moves_the_model_by_the_share_of_its_samples() {
    for samples in [4, 16, 64, 96] {
        let mut central = central();
        receive(&mut central, &contribution(1, samples, 1.0));
        assert_eq!(central.model(), [1.0; PARAMETERS], "too small to close by itself");
        let mut actions = Vec::new();
        central.close_superstep(Time::ZERO, &mut actions);
        let share = samples as f32 / test_config().superstep_samples as f32;
        assert_eq!(central.model(), [1.0 - share; PARAMETERS], "{samples} samples");
        assert_eq!(central.totals().samples_in_model, samples);
        actions.clear();
        central.close_superstep(Time::ZERO, &mut actions);
        assert_eq!((actions, central.stamp().version), (Vec::new(), 1), "nothing is left");
    }
}

#[test]
fn a_last_superstep_that_holds_all_its_samples_makes_a_whole_step() {
    let mut central = central();
    receive(&mut central, &contribution(1, 2 * test_config().superstep_samples, 1.0));
    central.close_superstep(Time::ZERO, &mut Vec::new());
    assert_eq!(central.model(), [0.0; PARAMETERS]);
}

/// The number of payloads that are read while `work` runs.
fn payloads_read(work: impl FnOnce()) -> u64 {
    let before = PAYLOADS_READ.get();
    work();
    PAYLOADS_READ.get() - before
}

#[test]
fn the_payload_of_a_contribution_that_comes_again_is_not_read() {
    let mut central = central();
    let first = payloads_read(|| drop(receive(&mut central, &contribution(1, 8, 1.0))));
    assert_eq!(first, 1, "the reading of a payload is noticed");
    // Whatever its payload holds this time, the answer is the acknowledgement that was lost.
    for slope in [1.0, f32::NAN] {
        let mut actions = Vec::new();
        let again = payloads_read(|| actions = receive(&mut central, &contribution(1, 8, slope)));
        let (through, durable, refused) = (1, 1, None);
        let ack = FromCentral::Ack(Ack {
            through,
            durable,
            refused,
        });
        assert_eq!((messages(&actions), again), (vec![ack], 0));
    }
    assert_eq!((central.totals().accepted, central.totals().refused), (1, 0));
}

#[test]
fn the_payload_of_a_contribution_that_comes_before_its_turn_is_not_read() {
    let mut central = central();
    let mut actions = Vec::new();
    let read = payloads_read(|| actions = receive(&mut central, &contribution(2, 8, f32::NAN)));
    let refusal = Refusal::OutOfOrder { got: 2, expected: 1 };
    assert_eq!((messages(&actions), read), (vec![FromCentral::Refused(refusal)], 0));
    assert_eq!(central.totals(), Totals::default());
}

#[test]
fn the_payload_of_a_contribution_with_an_impossible_header_is_not_read() {
    let mut central = central();
    let mut actions = Vec::new();
    let read = payloads_read(|| actions = receive(&mut central, &contribution(1, 0, 1.0)));
    assert_eq!((central.totals().refused, read), (1, 0), "{actions:?}");
}

#[test]
#[should_panic(expected = "sessions are sent the trainer's model")]
fn a_version_of_which_no_session_hears_is_noticed() {
    let mut central = central();
    let (incarnation, version) = (1, 5);
    central.sessions = Sessions::new(ModelStamp { incarnation, version });
    central.assert_consistent();
}
