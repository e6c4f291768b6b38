//! The promises of checkpoints: nothing lost, nothing counted twice.

use super::*;
use crate::central::test_config::test_config;
use crate::protocol::message::{Hello, Token, Welcome};

const INTERVAL: Duration = Duration::from_secs(5);

pub(super) fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

pub(super) fn config() -> Config {
    Config {
        checkpoint_interval: Some(INTERVAL),
        token_key: TokenKey([7; 32]),
        ..test_config()
    }
}

fn begun() -> Central {
    Central::new(Time::ZERO, config(), vec![1.0; PARAMETERS], Box::new(Descent))
}

pub(super) fn resumed(checkpoint: Checkpoint, incarnation: u32, awaited: Vec<Awaited>) -> Central {
    let optimizer = Box::new(Descent);
    Central::resume(Time::ZERO, config(), checkpoint, incarnation, optimizer, awaited).unwrap()
}

/// A frame of this connection arrives at this time.
pub(super) fn arrive(central: &mut Central, now: Time, from: u64, frame: &Bytes) -> Vec<Action> {
    let mut actions = Vec::new();
    central.on_frame(now, ConnectionId(from), frame, &mut actions);
    actions
}

/// A volunteer says hello, with the session and what is durable of it if it has one.
pub(super) fn join(
    central: &mut Central,
    from: u64,
    session: Option<(SessionId, Token)>,
    durable: u64,
) -> Result<Welcome, Refusal> {
    let hello = Hello {
        session,
        durable,
        ..hello(report())
    };
    let actions = arrive(central, Time::ZERO, from, &FromVolunteer::Hello(hello).encode());
    match messages(&actions).remove(0) {
        FromCentral::Welcome(welcome) => Ok(welcome),
        FromCentral::Refused(refusal) => Err(refusal),
        other => panic!("{other:?}"),
    }
}

/// The checkpoint among these actions.
pub(super) fn made(actions: Vec<Action>) -> Option<Checkpoint> {
    actions.into_iter().find_map(|action| match action {
        Action::WriteCheckpoint(checkpoint) => Some(*checkpoint),
        _ => None,
    })
}

pub(super) fn make(central: &mut Central, now: Time) -> Checkpoint {
    let mut actions = Vec::new();
    central.make_checkpoint(now, &mut actions);
    made(actions).unwrap()
}

#[test]
fn what_is_settled_is_durable_when_its_checkpoint_is_written_and_not_before() {
    let mut central = begun();
    let session = join(&mut central, 1, None, 0).unwrap().session;
    let actions = arrive(&mut central, at(1), 1, &contribution_of(session, 1, 0, 8, 1.0));
    let ack = |through, durable| {
        FromCentral::Ack(Ack {
            through,
            durable,
            refused: None,
        })
    };
    assert_eq!(messages(&actions), [ack(1, 0)]);
    assert_eq!(
        central.next_timeout(at(1)),
        Some(at(5)).min(central.next_timeout(at(1)))
    );
    let mut actions = Vec::new();
    central.on_timeout(at(5), &mut actions);
    let checkpoint = made(actions).unwrap();
    assert_eq!((checkpoint.number, checkpoint.sessions.sessions[0].settled), (1, 1));
    // One more comes while it is being written.
    let actions = arrive(&mut central, at(6), 1, &contribution_of(session, 2, 0, 8, 1.0));
    assert_eq!(messages(&actions)[0], ack(2, 0));
    assert!(!central.is_durable());
    let mut actions = Vec::new();
    central.on_checkpoint_written(at(6), 1, &mut actions);
    assert_eq!(messages(&actions), [FromCentral::Durable { through: 1 }]);
    let checkpoint = make(&mut central, at(7));
    assert_eq!(checkpoint.number, 2);
    central.on_checkpoint_failed(at(8), 2);
    let again = join(&mut central, 2, Some((session, config().token_key.token(session))), 1).unwrap();
    assert_eq!(
        (again.settled, again.durable),
        (2, 1),
        "a checkpoint that failed makes nothing durable"
    );
}

#[test]
fn a_volunteer_that_has_sent_half_of_what_it_keeps_has_a_checkpoint_made() {
    let mut central = begun();
    let session = join(&mut central, 1, None, 0).unwrap().session;
    let kept = kept_contributions(PARAMETERS) as u64;
    for sequence in 1..kept / 2 {
        let actions = arrive(&mut central, at(1), 1, &contribution_of(session, sequence, 0, 1, 0.0));
        assert_eq!(made(actions), None);
    }
    let actions = arrive(&mut central, at(1), 1, &contribution_of(session, kept / 2, 0, 1, 0.0));
    assert!(made(actions).is_some());
}

/// The whole state that a restart must keep, but for what names the restart itself.
fn essence(central: &mut Central) -> Checkpoint {
    let mut checkpoint = make(central, at(50));
    checkpoint.number = 0;
    checkpoint.trainer.incarnation = 0;
    checkpoint.last_versions.clear();
    (checkpoint.sessions.last_known, checkpoint.sessions.last_session) = (Vec::new(), 0);
    checkpoint
}

#[test]
fn a_run_that_is_resumed_makes_the_bits_that_it_would_have_made() {
    // All before the interval of checkpoints has passed.
    let moment = |step| Time::ZERO + Duration::from_millis(100 * step);
    let train = |central: &mut Central, sessions: &[SessionId], sequences: std::ops::RangeInclusive<u64>| {
        for sequence in sequences {
            for (index, session) in sessions.iter().enumerate() {
                let slope = 0.01 * (sequence as f32 + index as f32);
                let frame = contribution_of(*session, sequence, 0, 40, slope);
                arrive(central, moment(sequence), index as u64 + 1, &frame);
            }
        }
    };
    let mut whole = begun();
    let sessions: Vec<_> = (1..=3)
        .map(|from| join(&mut whole, from, None, 0).unwrap().session)
        .collect();
    train(&mut whole, &sessions, 1..=4);
    // In the middle of a superstep, so that the checkpoint holds contributions.
    arrive(&mut whole, moment(5), 1, &contribution_of(sessions[0], 5, 0, 40, 0.5));
    let checkpoint = make(&mut whole, moment(5));
    assert!(!checkpoint.open.contributions.is_empty() && checkpoint.trainer.version > 0);
    whole.on_checkpoint_written(moment(5), 1, &mut Vec::new());

    let mut after = resumed(checkpoint, 2, Vec::new());
    for (from, session) in (1..).zip(&sessions) {
        let token = config().token_key.token(*session);
        let welcome = join(&mut after, from, Some((*session, token)), 0).unwrap();
        assert_eq!(welcome.session, *session);
    }
    for central in [&mut whole, &mut after] {
        arrive(central, moment(6), 2, &contribution_of(sessions[1], 5, 0, 40, 0.2));
        arrive(central, moment(6), 3, &contribution_of(sessions[2], 5, 0, 40, 0.3));
        central.close_superstep(moment(7), &mut Vec::new());
    }
    assert_eq!(after.totals().resent, 2, "they were computed under incarnation 1");
    let mut expected = essence(&mut whole);
    expected.totals.resent = 2;
    assert_eq!(essence(&mut after), expected);
    assert_eq!((after.stamp().incarnation, after.model()), (2, whole.model()));
}

#[test]
fn a_session_goes_on_where_the_checkpoint_stands_also_one_that_no_checkpoint_knows() {
    let mut central = begun();
    let known = join(&mut central, 1, None, 0).unwrap();
    arrive(&mut central, at(1), 1, &contribution_of(known.session, 1, 0, 8, 1.0));
    let checkpoint = make(&mut central, at(2));
    central.on_checkpoint_written(at(2), 1, &mut Vec::new());
    arrive(&mut central, at(3), 1, &contribution_of(known.session, 2, 0, 8, 1.0));
    let unknown = join(&mut central, 2, None, 0).unwrap();
    arrive(&mut central, at(3), 2, &contribution_of(unknown.session, 1, 0, 16, 1.0));
    let lost = [(known.session, 2, 8), (unknown.session, 1, 16)].map(|(session, sequence, samples)| Awaited {
        session,
        sequence,
        samples,
    });

    let mut central = resumed(checkpoint, 2, lost.to_vec());
    assert_eq!(
        (central.samples_awaited(at(0)), central.samples_lost(at(0)).total()),
        (24, 0)
    );
    let new = join(&mut central, 9, None, 0).unwrap();
    assert!(
        new.session.0 > unknown.session.0 + 1_000_000,
        "no number is given twice"
    );
    let welcome = join(&mut central, 1, Some((known.session, known.token)), 1).unwrap();
    assert_eq!((welcome.settled, welcome.durable), (1, 1));
    let welcome = join(&mut central, 2, Some((unknown.session, unknown.token)), 0).unwrap();
    assert_eq!((welcome.settled, welcome.durable), (0, 0));
    arrive(&mut central, at(1), 1, &contribution_of(known.session, 2, 0, 8, 1.0));
    assert_eq!((central.totals().samples, central.samples_awaited(at(1))), (16, 16));
    assert_eq!(
        central.samples_lost(Time::ZERO + config().session_ttl).with_volunteers,
        16,
        "its volunteer is gone"
    );
    arrive(
        &mut central,
        at(99),
        2,
        &contribution_of(unknown.session, 1, 0, 16, 1.0),
    );
    assert_eq!(
        (central.totals().samples, central.samples_lost(at(99)).total()),
        (32, 0),
        "it has come after all"
    );
    let guessed = Token(unknown.token.0 ^ 1);
    let refusal = join(&mut central, 5, Some((unknown.session, guessed)), 0).unwrap_err();
    assert_eq!(refusal, Refusal::SessionOver(unknown.session));
}

#[test]
fn all_that_a_volunteer_has_kept_is_taken_at_once() {
    let mut central = begun();
    let session = join(&mut central, 1, None, 0).unwrap().session;
    // Another volunteer is waited for, so that the superstep stays open.
    join(&mut central, 2, None, 0).unwrap();
    let kept = kept_contributions(PARAMETERS) as u64;
    for sequence in 1..=kept {
        arrive(&mut central, at(1), 1, &contribution_of(session, sequence, 0, 8, 0.0));
    }
    assert_eq!((central.totals().accepted, central.totals().refused), (kept, 0));
}

#[test]
fn a_session_that_has_been_away_for_long_goes_on_and_counts_nothing_twice() {
    let mut central = begun();
    let Welcome { session, token, .. } = join(&mut central, 1, None, 0).unwrap();
    arrive(&mut central, at(1), 1, &contribution_of(session, 1, 0, 8, 1.0));
    central.on_disconnected(at(2), LINK, &mut Vec::new());
    central.on_timeout(at(10_000), &mut Vec::new());
    let welcome = join(&mut central, 2, Some((session, token)), 0).unwrap();
    assert_eq!((welcome.session, welcome.settled), (session, 1));
    arrive(&mut central, at(10_001), 2, &contribution_of(session, 1, 0, 8, 1.0));
    assert_eq!((central.totals().samples, central.totals().duplicates), (8, 1));
}

#[test]
fn a_session_whose_durable_contributions_were_lost_with_the_disk_goes_on_behind_the_gap() {
    let checkpoint = make(&mut begun(), at(1));
    let mut central = resumed(checkpoint, 2, Vec::new());
    let session = SessionId(1);
    let token = config().token_key.token(session);
    let welcome = join(&mut central, 1, Some((session, token)), 5).unwrap();
    assert_eq!(welcome.settled, 5);
    let actions = arrive(&mut central, at(1), 1, &contribution_of(session, 6, 0, 8, 1.0));
    assert!(matches!(
        messages(&actions)[0],
        FromCentral::Ack(Ack { through: 6, .. })
    ));
}

#[test]
fn a_number_that_no_session_reaches_is_not_believed() {
    let mut central = begun();
    let Welcome { session, token, .. } = join(&mut central, 1, None, 0).unwrap();
    let refusal = join(&mut central, 1, Some((session, token)), u64::MAX).unwrap_err();
    assert!(matches!(refusal, Refusal::Malformed(_)), "{refusal:?}");
    // A number of 0 would be the next one after all numbers, and nothing comes before it.
    let lie = contribution_of(session, 0, 0, 8, 1.0);
    assert!(join(&mut central, 1, Some((session, token)), 0).is_ok());
    arrive(&mut central, at(1), 1, &lie);
    assert_eq!((central.totals().accepted, central.totals().duplicates), (0, 1));
}

#[test]
fn a_gap_is_believed_once_and_within_reason() {
    let mut central = resumed(make(&mut begun(), at(1)), 2, Vec::new());
    let proof = |session| Some((SessionId(session), config().token_key.token(SessionId(session))));
    let over = join(&mut central, 1, proof(1), 1 << 30).unwrap_err();
    assert_eq!(over, Refusal::SessionOver(SessionId(1)));
    for (durable, settled) in [(5, 5), (500, 5), (5, 5)] {
        assert_eq!(join(&mut central, 2, proof(2), durable).unwrap().settled, settled);
    }
    assert_eq!(central.totals().lost_with_disk, 5);
}

#[test]
fn what_a_volunteer_that_left_has_contributed_is_lost_with_its_cause_if_no_checkpoint_held_it() {
    let mut central = begun();
    let session = join(&mut central, 1, None, 0).unwrap().session;
    let before = make(&mut central, at(1));
    let actions = arrive(&mut central, at(1), 1, &contribution_of(session, 1, 0, 8, 1.0));
    let noted: Vec<Awaited> = actions
        .iter()
        .filter_map(|action| match action {
            Action::NoteAccepted(noted) => Some(*noted),
            _ => None,
        })
        .collect();
    arrive(&mut central, at(2), 1, &FromVolunteer::Leave.encode());
    central.on_checkpoint_written(at(2), 1, &mut Vec::new());
    assert!(!central.is_durable(), "a checkpoint is due for what it has left");
    // The server is killed before that.
    let mut central = resumed(before, 2, noted);
    assert_eq!(
        (central.samples_awaited(at(0)), central.samples_lost(at(0)).total()),
        (8, 0)
    );
    let end = Time::ZERO + config().session_ttl;
    central.on_timeout(end, &mut Vec::new());
    assert_eq!(
        (central.samples_awaited(end), central.samples_lost(end).with_volunteers),
        (0, 8)
    );
}

#[test]
fn a_volunteer_that_has_seen_a_later_incarnation_shows_that_the_state_is_an_older_one() {
    let mut central = resumed(make(&mut begun(), at(1)), 2, Vec::new());
    let mut seen_by = |from, incarnation| {
        let hello = Hello {
            incarnation: Some(incarnation),
            ..hello(report())
        };
        let actions = arrive(&mut central, at(1), from, &FromVolunteer::Hello(hello).encode());
        actions.into_iter().find_map(|action| match action {
            Action::LaterIncarnationSeen { incarnation } => Some(incarnation),
            _ => None,
        })
    };
    assert_eq!([seen_by(1, 1), seen_by(2, 2), seen_by(3, 7)], [None, None, Some(7)]);
}

#[test]
fn a_server_that_goes_away_tells_its_volunteers_and_keeps_their_sessions() {
    let mut central = begun();
    let Welcome { session, token, .. } = join(&mut central, 1, None, 0).unwrap();
    let mut actions = Vec::new();
    central.go_away(&mut actions);
    assert_eq!(messages(&actions), [FromCentral::BackSoon]);
    assert!(matches!(actions[1], Action::Disconnect { reason: None, .. }));
    assert!(join(&mut central, 2, Some((session, token)), 0).is_ok());
}

#[test]
fn a_checkpoint_of_another_model_is_refused() {
    let mut checkpoint = make(&mut begun(), at(1));
    checkpoint.replica = vec![0.0; 3];
    let config = Config {
        model_codec: Codec::Int8,
        ..config()
    };
    let optimizer = Box::new(Descent);
    let outcome = Central::resume(Time::ZERO, config, checkpoint, 2, optimizer, Vec::new());
    let misfit = RecordError::AnotherModel { got: 3, expected: 2 };
    assert_eq!(outcome.err(), Some(misfit));
}
