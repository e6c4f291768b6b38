//! What a frame promises.

use super::*;
use proptest::prelude::*;

fn read_out() -> ReadOut {
    ReadOut {
        run: RunId(u64::MAX),
        spec_hash: u64::MAX,
        incarnation: u32::MAX,
        session: SessionId(u64::MAX),
        sequence: u64::MAX,
        samples: u64::MAX,
        gradients: u64::MAX,
        loss_sum: f64::MAX,
        version_sum: u128::MAX,
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
        },
    }
}

#[test]
fn the_longest_read_out_header_fits_in_a_frame() {
    let mut frame = ReadOutFrame::new(3);
    frame.store(&[1.0, 2.0, 3.0]);
    frame.add(&[0.5, 0.5, -3.0]);
    frame.seal(&read_out()).expect("the longest header fits");
    let received = FromVolunteer::decode(&Bytes::copy_from_slice(frame.as_bytes())).expect("our own frame");
    assert_eq!(received.message, FromVolunteer::ReadOut(read_out()));
    assert_eq!(floats(&received.payload).collect::<Vec<_>>(), [1.5, 2.5, 0.0]);
}

#[test]
fn a_frame_buffer_that_is_used_again_holds_only_the_new_read_out() {
    let mut frame = ReadOutFrame::new(1);
    frame.seal(&read_out()).expect("fits");
    let short = ReadOut {
        step_runs: Vec::new(),
        ..read_out()
    };
    frame.store(&[7.0]);
    frame.seal(&short).expect("fits");
    let received = FromVolunteer::decode(&Bytes::copy_from_slice(frame.as_bytes())).expect("our own frame");
    assert_eq!(received.message, FromVolunteer::ReadOut(short));
}

#[test]
fn a_model_arrives_as_it_was_sent() {
    let stamp = ModelStamp {
        incarnation: 1,
        version: 7,
    };
    let frame = FromCentral::encode_model(stamp, &[1.0, -0.0, f32::MIN_POSITIVE]);
    let received = FromCentral::decode(&frame).expect("our own frame");
    assert_eq!(received.message, FromCentral::StoreModel(stamp));
    let bits: Vec<u32> = floats(&received.payload).map(f32::to_bits).collect();
    assert_eq!(bits, [1.0f32, -0.0, f32::MIN_POSITIVE].map(f32::to_bits));
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
    fn a_cut_frame_is_an_error_or_loses_whole_floats_only(cut in 0usize..40) {
        let frame = FromCentral::encode_model(ModelStamp { incarnation: 1, version: 300 }, &[1.0; 4]);
        let cut = cut.min(frame.len());
        if let Ok(received) = FromCentral::decode(&frame.slice(..cut)) {
            prop_assert_eq!(received.payload.len() % 4, 0);
        }
    }
}
