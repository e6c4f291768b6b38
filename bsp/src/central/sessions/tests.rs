//! The promises of sessions: expiry, absence, and which model is due.

use super::*;
use crate::central::test_config::test_config;
use crate::protocol::message::{PROTOCOL, Token};

const TTL: Duration = Duration::from_secs(60);

fn hello(session: Option<(SessionId, Token)>, ml_modules: u16) -> Hello {
    Hello {
        protocol: PROTOCOL,
        run: test_config().run,
        spec_hash: test_config().spec_hash,
        incarnation: None,
        session,
        durable: 0,
        codecs: Vec::new(),
        report: Report {
            ml_modules,
            ..Report::default()
        },
    }
}

/// The proof of this session.
fn token(session: u64) -> Token {
    test_config().token_key.token(SessionId(session))
}

fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

/// Sessions 1, 2, … with connections of the same numbers, which said hello at 1, 2, … seconds.
fn joined(count: u64) -> Sessions {
    let config = test_config();
    let mut sessions = Sessions::new(ModelStamp::default());
    for number in 1..=count {
        let joined = sessions
            .on_hello(at(number), ConnectionId(number), &hello(None, 1), &config)
            .unwrap();
        assert_eq!(
            (joined.session, joined.replaced, joined.gap),
            (SessionId(number), None, 0)
        );
    }
    sessions
}

#[test]
fn a_connection_has_its_session_from_the_hello_to_its_end() {
    let (config, mut sessions) = (test_config(), joined(2));
    assert_eq!(sessions.of_connection(ConnectionId(2)), Some(SessionId(2)));
    assert_eq!(
        (sessions.of_connection(ConnectionId(3)), sessions.connected_count()),
        (None, 2)
    );
    sessions.on_disconnected(Some(at(20)), ConnectionId(2), &config);
    assert_eq!(
        (sessions.of_connection(ConnectionId(2)), sessions.connected_count()),
        (None, 1)
    );
}

#[test]
fn a_session_expires_a_while_after_its_connection_has_ended_and_not_before() {
    let (config, mut sessions) = (test_config(), joined(2));
    sessions.expire(at(10_000));
    assert!(sessions.get(SessionId(1)).is_some(), "it is connected");
    sessions.on_disconnected(Some(at(20)), ConnectionId(1), &config);
    assert_eq!(sessions.next_timeout(at(20)), Some(at(20) + TTL));
    sessions.expire(at(20) + TTL - Duration::from_micros(1));
    assert!(sessions.get(SessionId(1)).is_some());
    sessions.expire(at(20) + TTL);
    assert!(sessions.get(SessionId(1)).is_none() && sessions.get(SessionId(2)).is_some());
    assert_eq!(sessions.next_timeout(at(99)), None);
}

#[test]
fn a_session_that_is_taken_up_again_does_not_expire() {
    let (config, mut sessions) = (test_config(), joined(1));
    sessions.on_disconnected(Some(at(2)), ConnectionId(1), &config);
    let again = hello(Some((SessionId(1), token(1))), 1);
    let joined = sessions.on_hello(at(3), ConnectionId(7), &again, &config);
    assert_eq!(joined.unwrap().session, SessionId(1));
    sessions.expire(at(100_000));
    assert_eq!(sessions.on_heard(at(4), ConnectionId(7), &config), Ok(SessionId(1)));
}

#[test]
fn a_session_of_a_connection_that_says_hello_for_another_one_expires() {
    let (config, mut sessions) = (test_config(), joined(2));
    let other = hello(Some((SessionId(2), token(2))), 1);
    let joined = sessions.on_hello(at(5), ConnectionId(1), &other, &config).unwrap();
    assert_eq!((joined.session, joined.replaced), (SessionId(2), Some(ConnectionId(2))));
    assert_eq!(sessions.connected_count(), 1);
    sessions.expire(at(1) + TTL);
    assert!(sessions.get(SessionId(1)).is_none());
}

#[test]
fn the_first_absence_is_that_of_the_volunteer_that_is_silent_for_longest_and_still_expected() {
    let (config, mut sessions) = (test_config(), joined(3));
    let live_for = Duration::from_secs(2);
    let just_after = |seconds| at(seconds) + live_for + Duration::from_micros(1);
    assert_eq!(sessions.next_absence(at(3), live_for), Some(just_after(1)));
    assert_eq!(
        sessions.next_absence(at(4), live_for),
        Some(just_after(2)),
        "the first is absent"
    );
    assert_eq!(sessions.on_heard(at(4), ConnectionId(2), &config), Ok(SessionId(2)));
    assert_eq!(sessions.next_absence(at(4), live_for), Some(just_after(3)));
    let paused = Report {
        is_paused: true,
        ..hello(None, 1).report
    };
    sessions.change(SessionId(3), &config, |session| session.activity.on_report(paused));
    assert_eq!(sessions.next_absence(at(4), live_for), Some(just_after(4)));
    sessions.on_leave(ConnectionId(2)).unwrap();
    assert_eq!(sessions.next_absence(at(4), live_for), None);
}

#[test]
fn a_volunteer_is_absent_once_when_it_stops_computing() {
    let (config, mut sessions) = (test_config(), joined(2));
    let computing = hello(None, 1).report;
    let paused = Report {
        is_paused: true,
        ..computing
    };
    for (report, absent) in [
        (computing, None),
        (paused, Some(SessionId(1))),
        (paused, None),
        (computing, None),
        (paused, Some(SessionId(1))),
    ] {
        assert_eq!(
            sessions.on_heartbeat(at(3), ConnectionId(1), report, &config),
            Ok(absent)
        );
    }
    assert_eq!(
        sessions.on_disconnected(None, ConnectionId(1), &config),
        None,
        "it has paused"
    );
    assert_eq!(sessions.on_leave(ConnectionId(2)), Ok(Some(SessionId(2))));
    assert_eq!(
        sessions.on_disconnected(None, ConnectionId(3), &config),
        None,
        "it was nobody's"
    );
}

#[test]
fn a_model_is_due_when_the_link_has_rested_and_once() {
    let (config, mut sessions) = (test_config(), joined(1));
    let rest = Duration::from_secs(5);
    let stamp = |version| ModelStamp {
        incarnation: 1,
        version,
    };
    let ask = |sessions: &mut Sessions, now| sessions.ask_for_model(now, SessionId(1), &config, |_| rest);
    sessions.on_version_made(stamp(1), &config);
    assert!(ask(&mut sessions, at(1)).is_some());
    assert!(ask(&mut sessions, at(1)).is_none(), "one is on its way");
    sessions.change(SessionId(1), &config, |session| session.on_stored(at(2), stamp(1)));
    assert!(sessions.due_deliveries(at(100)).is_empty(), "it has the newest");
    sessions.on_version_made(stamp(2), &config);
    assert_eq!(sessions.next_timeout(at(3)), Some(at(6)));
    assert!(sessions.due_deliveries(at(5)).is_empty());
    assert_eq!(sessions.due_deliveries(at(6)), [SessionId(1)]);
    let due = ask(&mut sessions, at(6)).unwrap();
    assert_eq!((due.to, due.settles), (ConnectionId(1), 0));
    assert!(sessions.due_deliveries(at(100)).is_empty());
}

#[test]
#[should_panic(expected = "each connected session has one connection")]
fn a_session_that_lost_its_connection_on_one_side_only_is_noticed() {
    let mut sessions = joined(2);
    sessions.assert_consistent();
    sessions.connected.remove(&SessionId(1));
    sessions.assert_consistent();
}

#[test]
#[should_panic(expected = "each session has its timers")]
fn a_session_without_timers_is_noticed() {
    let mut sessions = joined(2);
    sessions.timers.forget(SessionId(1));
    sessions.assert_consistent();
}
