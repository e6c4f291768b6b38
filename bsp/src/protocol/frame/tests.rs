//! The promises of a frame.

use proptest::prelude::*;

use super::*;
use crate::protocol::message::{Contribution, MAX_STEP_RUNS, ModuleStepRun, Report, RunId, SessionId};
use crate::shared_memory::PhaseTimes;

fn contribution() -> Contribution {
    Contribution {
        run: RunId(u64::MAX),
        spec_hash: u64::MAX,
        incarnation: u32::MAX,
        session: SessionId(u64::MAX),
        sequence: u64::MAX,
        samples: u64::MAX,
        gradients: u64::MAX,
        loss_sum: f64::MAX,
        version_sum: u128::MAX,
        step_sum: u128::MAX,
        codec: Codec::TopK,
        step_runs: vec![
            ModuleStepRun {
                ml_module: u16::MAX,
                first_step: u64::MAX,
                count: u32::MAX,
                version: u64::MAX
            };
            MAX_STEP_RUNS
        ],
        step_runs_not_listed: u32::MAX,
        report: Report {
            ml_modules: u16::MAX,
            is_paused: true,
            not_finite: u64::MAX,
            discarded: u64::MAX,
            time_us: PhaseTimes {
                gradient: u64::MAX,
                add: u64::MAX,
                read: u64::MAX,
                wait: u64::MAX,
            },
            upload_us: u64::MAX,
            round_trip_us: u64::MAX,
        },
    }
}

#[test]
fn the_longest_contribution_header_fits_in_a_frame() {
    let mut frame = ContributionFrame::new(3);
    frame.payload_mut(12).copy_from_slice(&[7; 12]);
    frame.seal(&contribution()).expect("the longest header fits");
    let received = FromVolunteer::decode(&Bytes::copy_from_slice(frame.as_bytes())).expect("our own frame");
    assert_eq!(received.message, FromVolunteer::Contribution(contribution()));
    assert_eq!(received.payload[..], [7; 12]);
}

#[test]
fn a_frame_buffer_that_is_used_again_holds_only_the_new_contribution() {
    let mut frame = ContributionFrame::new(1);
    frame.payload_mut(4).fill(1);
    frame.seal(&contribution()).expect("fits");
    let short = Contribution {
        step_runs: Vec::new(),
        ..contribution()
    };
    frame.payload_mut(3).fill(2);
    frame.seal(&short).expect("fits");
    let received = FromVolunteer::decode(&Bytes::copy_from_slice(frame.as_bytes())).expect("our own frame");
    assert_eq!(received.message, FromVolunteer::Contribution(short));
    assert_eq!(received.payload[..], [2; 3]);
}

#[test]
fn a_payload_is_as_long_as_any_codec_makes_it() {
    for parameters in [1, 2, 31, 33, 1000] {
        let mut frame = ContributionFrame::new(parameters);
        for codec in Codec::ALL {
            let bytes = codec.encoded_bytes(parameters);
            assert_eq!(frame.payload_mut(bytes).len(), bytes);
        }
    }
}

#[test]
fn a_model_arrives_as_it_was_sent() {
    let stamp = ModelStamp {
        incarnation: 1,
        version: 7,
    };
    let frame = FromCentral::encode_model(stamp, &[1.0, -0.0, f32::MIN_POSITIVE]);
    let received = FromCentral::decode(&frame).expect("our own frame");
    let encoding = ModelEncoding::Whole;
    let message = StoreModel { stamp, encoding };
    assert_eq!(received.message, FromCentral::StoreModel(message));
    message.check(&received.payload, 3).expect("a model of 3 parameters");
    let mut model = [0.0; 3];
    message.store(&received.payload, &[], &mut model);
    assert_eq!(
        model.map(f32::to_bits),
        [1.0f32, -0.0, f32::MIN_POSITIVE].map(f32::to_bits)
    );
}

#[test]
fn a_frame_that_is_not_ours_says_where_it_is_wrong() {
    let error = |bytes: &[u8]| FromVolunteer::decode(&Bytes::copy_from_slice(bytes)).expect_err("not a frame");
    assert_eq!(error(&[]), FrameError::Truncated { got: 0, needed: 4 });
    assert_eq!(error(&[9, 0, 0, 0, 1]), FrameError::Truncated { got: 5, needed: 13 });
    assert_eq!(error(&[0, 0, 1, 0]), FrameError::HeaderTooLong { got: 65_536 });
    assert!(matches!(error(&[1, 0, 0, 0, 99]), FrameError::Header(_)));
    let leave = FromVolunteer::Leave.encode();
    assert_eq!(error(&[&leave[..], &[0; 4]].concat()), FrameError::Payload(4));
    let mut longer = leave.to_vec();
    longer[0] += 1;
    longer.push(0);
    assert_eq!(error(&longer), FrameError::HeaderRest(1));
}

proptest! {
    #[test]
    fn any_bytes_are_a_message_or_an_error_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from(bytes);
        let _ = FromVolunteer::decode(&bytes);
        let _ = FromCentral::decode(&bytes);
    }

    #[test]
    fn a_cut_frame_is_an_error_or_a_model_that_is_refused(cut in 0usize..40) {
        let frame = FromCentral::encode_model(ModelStamp { incarnation: 1, version: 300 }, &[1.0; 4]);
        let cut = cut.min(frame.len());
        if let Ok(received) = FromCentral::decode(&frame.slice(..cut)) {
            let FromCentral::StoreModel(message) = received.message else { panic!("another message") };
            prop_assert_eq!(message.check(&received.payload, 4).is_ok(), cut == frame.len());
        }
    }
}
