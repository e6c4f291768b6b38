//! What holds beside very many volunteers, when reviews are far between.

use super::*;
use crate::protocol::message::Mode;

/// So many that ten events pay for one review.
const VOLUNTEERS: u64 = 640;

/// A run in this mode whose volunteers 1, 2, … have said hello. The first `computing` of them compute.
struct Crowd(Central);

impl Crowd {
    fn join(mode: Mode, computing: u64) -> Crowd {
        let config = Config {
            mode,
            max_sessions: VOLUNTEERS as usize,
            ..test_config()
        };
        let mut crowd = Crowd(Central::new(
            Time::ZERO,
            config,
            vec![1.0; PARAMETERS],
            Box::new(Descent),
        ));
        for volunteer in 1..=VOLUNTEERS {
            let report = Report {
                is_paused: volunteer > computing,
                ..report()
            };
            crowd.receive(volunteer, &FromVolunteer::Hello(hello(report)).encode());
        }
        assert_eq!(crowd.0.volunteers(Time::ZERO).count() as u64, VOLUNTEERS);
        crowd
    }

    fn receive(&mut self, volunteer: u64, frame: &Bytes) -> Vec<Action> {
        let mut actions = Vec::new();
        let from = ConnectionId(volunteer);
        self.0.on_frame(Time::ZERO, from, frame, &mut actions);
        actions
    }

    /// This volunteer's contribution to the current version arrives. Returns the version that it made.
    fn contribute(&mut self, volunteer: u64, sequence: u64) -> Option<ClosedSuperstep> {
        let version = self.0.stamp().version;
        let frame = contribution_of(SessionId(volunteer), sequence, version, 8, 0.0);
        let closed = |action| match action {
            Action::SuperstepClosed(closed) => Some(closed),
            _ => None,
        };
        self.receive(volunteer, &frame).into_iter().find_map(closed)
    }
}

#[test]
fn the_last_arrival_closes_each_superstep_at_once() {
    let computing = 5;
    let mut crowd = Crowd::join(Mode::Lockstep, computing);
    for sequence in 1..=3 {
        for volunteer in 1..computing {
            assert_eq!(crowd.contribute(volunteer, sequence), None);
        }
        let closed = crowd.contribute(computing, sequence).unwrap();
        assert_eq!((closed.version, closed.contributions), (sequence, 5));
    }
}

#[test]
fn the_pause_of_the_last_missing_volunteer_closes_the_superstep_at_once() {
    let mut crowd = Crowd::join(Mode::Lockstep, 3);
    let versions = [1, 2, 3].map(|volunteer| crowd.contribute(volunteer, 1).map(|closed| closed.version));
    assert_eq!(versions, [None, None, Some(1)]);
    assert!(crowd.contribute(1, 2).is_none() && crowd.contribute(2, 2).is_none());
    let paused = Report {
        is_paused: true,
        ..report()
    };
    crowd.receive(3, &FromVolunteer::Heartbeat(paused).encode());
    assert_eq!(crowd.0.stamp().version, 2);
}

#[test]
fn asynchronously_each_contribution_makes_a_version_of_its_own() {
    let mut crowd = Crowd::join(Mode::Asynchronous, VOLUNTEERS);
    for volunteer in 1..=20 {
        let closed = crowd.contribute(volunteer, 1).unwrap();
        assert_eq!((closed.version, closed.contributions), (volunteer, 1));
    }
}
