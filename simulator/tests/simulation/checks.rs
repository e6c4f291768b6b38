//! The invariants, checked with every event: at most one model and one contribution on their way, a hello before a
//! read-out, the same bytes when a contribution is sent again, nothing that is not finite, versions that count
//! supersteps, one model for each version in all tabs, and under local steps at most one contribution of a tab that has
//! neither come back in a model nor was refused. (The world itself checks that no state machine asks to be woken for
//! nothing.)

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bsp::central::{ClosedSuperstep, ConnectionId};
use bsp::protocol::message::{Contribution, ContributionRefusal, FromCentral, FromVolunteer, SessionId};
use bsp::shared_memory::ModelStamp;
use bsp::time::Time;
use bytes::Bytes;
use simulator::random::mix;
use simulator::{GradientName, Observer};

use super::gradients::{Gradients, Name, name};
use super::ledger::Ledger;
use super::replicas::Replicas;

/// A tab that was frozen for longer must notice it.
const UNMISTAKABLE: Duration = Duration::from_secs(7);

/// The observer of these tests.
pub(super) struct Checks {
    pub(super) gradients: Gradients,
    pub(super) ledger: Ledger,
    pub(super) closed: Vec<(Time, ClosedSuperstep)>,
    pub(super) refusals: Vec<(SessionId, ContributionRefusal)>,
    /// A hash of all frames and their instants.
    pub(super) fingerprint: u64,
    pub(super) tabs: Vec<TabChecks>,
    pub(super) replicas: Replicas,
    on_their_way: BTreeMap<ConnectionId, OnItsWay>,
}

/// The observations of a tab.
#[derive(Default)]
pub(super) struct TabChecks {
    /// Every gradient that was added.
    pub(super) added: BTreeSet<Name>,
    /// The bytes of each contribution that was sent.
    pub(super) sent: BTreeMap<u64, Bytes>,
    /// It must say hello before it sends a contribution.
    pub(super) must_say_hello: bool,
    /// One of its ML modules is dead.
    has_dead: bool,
    is_leaving: bool,
    /// It may close at any moment, and waits for no acknowledgement.
    pub(super) may_close: bool,
    unsettled: Unsettled,
    /// The arrival of each model.
    pub(super) models: Vec<(Time, ModelStamp)>,
    pub(super) connects: Vec<Time>,
}

/// The contributions of a tab that are in no model which has arrived.
#[derive(Default)]
struct Unsettled {
    /// Those that were sent and are not known to be refused.
    outstanding: BTreeSet<u64>,
    next_model_settles: u64,
}

/// The load of a connection.
#[derive(Default)]
struct OnItsWay {
    has_model: bool,
    has_contribution: bool,
}

impl Checks {
    pub(super) fn new(gradients: Gradients) -> Checks {
        Checks {
            gradients,
            ledger: Ledger::default(),
            closed: Vec::new(),
            refusals: Vec::new(),
            fingerprint: 0,
            tabs: Vec::new(),
            replicas: Replicas::default(),
            on_their_way: BTreeMap::new(),
        }
    }
}

impl Observer for Checks {
    fn on_join(&mut self, tab: usize) {
        assert_eq!(tab, self.tabs.len());
        self.tabs.push(TabChecks::default());
    }

    fn on_connect(&mut self, now: Time, tab: usize) {
        self.tabs[tab].connects.push(now);
    }

    fn on_open(&mut self, tab: usize) {
        self.tabs[tab].must_say_hello = true;
    }

    fn on_freeze(&mut self, tab: usize, duration: Duration, is_welcomed: bool) {
        self.tabs[tab].must_say_hello |= is_welcomed && duration >= UNMISTAKABLE;
    }

    fn on_leave(&mut self, tab: usize) {
        self.tabs[tab].is_leaving = true;
    }

    fn on_ml_module_died(&mut self, tab: usize) {
        self.tabs[tab].has_dead = true;
    }

    fn on_gradient(&mut self, tab: usize, gradient: GradientName, is_finite: bool) {
        assert!(is_finite, "a gradient that is not finite");
        self.tabs[tab].added.insert(name(gradient));
    }

    fn on_sent(&mut self, tab: usize, frame: &Bytes) {
        let message = FromVolunteer::decode(frame).expect("a tab's own frame").message;
        if let FromVolunteer::Hello(_) = message {
            self.tabs[tab].must_say_hello = false;
        }
    }

    fn on_contribution_sent(&mut self, tab: usize, connection: Option<ConnectionId>, sequence: u64, frame: &Bytes) {
        let tab = &mut self.tabs[tab];
        assert!(!tab.must_say_hello, "a contribution was sent before the hello");
        let first = tab.sent.entry(sequence).or_insert_with(|| frame.clone());
        assert_eq!(first, frame, "other bytes under the same number");
        if self.gradients == Gradients::Descending && !tab.is_leaving && !tab.may_close && !tab.has_dead {
            let outstanding = &mut tab.unsettled.outstanding;
            outstanding.insert(sequence);
            assert_eq!(outstanding.len(), 1, "one more, before the last came back in a model");
        }
        if let Some(connection) = connection {
            let on_its_way = self.on_their_way.entry(connection).or_default();
            // After a death, and before a close, it does not wait for an acknowledgement.
            assert!(
                tab.has_dead || tab.may_close || !on_its_way.has_contribution,
                "a second contribution on its way"
            );
            on_its_way.has_contribution = true;
        }
    }

    fn on_frame_at_central(&mut self, now: Time, connection: ConnectionId, frame: &Bytes) {
        self.fingerprint = frame
            .iter()
            .fold(mix(self.fingerprint ^ now.as_micros()), |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
            });
        let message = FromVolunteer::decode(frame).expect("a tab's own frame").message;
        if let FromVolunteer::Stored(_) = message {
            self.on_their_way.entry(connection).or_default().has_model = false;
        }
    }

    fn on_settled(&mut self, contribution: &Contribution, payload: &Bytes, is_accepted: bool) {
        self.ledger.settle(contribution, payload, is_accepted, self.gradients);
    }

    fn on_sent_by_central(&mut self, connection: ConnectionId, frame: &Bytes) {
        let received = FromCentral::decode(frame).expect("the central module's own frame");
        if let FromCentral::StoreModel(model) = received.message {
            let on_its_way = self.on_their_way.entry(connection).or_default();
            assert!(!on_its_way.has_model, "a second model on its way");
            self.replicas.on_model(connection, &model, frame, &received.payload);
            on_its_way.has_model = true;
        }
    }

    fn on_frame_at_tab(&mut self, now: Time, tab: usize, connection: ConnectionId, frame: &Bytes) {
        let message = FromCentral::decode(frame)
            .expect("the central module's own frame")
            .message;
        match message {
            FromCentral::Ack(ack) => {
                self.on_their_way.entry(connection).or_default().has_contribution = false;
                if ack.refused.is_some() {
                    self.tabs[tab].unsettled.outstanding.remove(&ack.through);
                }
            }
            FromCentral::StoreModel(model) => {
                let tab = &mut self.tabs[tab];
                tab.models.push((now, model.stamp));
                let settled = tab.unsettled.next_model_settles;
                tab.unsettled.outstanding.retain(|sequence| *sequence > settled);
            }
            FromCentral::NextModelSettles { through } => self.tabs[tab].unsettled.next_model_settles = through,
            _ => {}
        }
    }

    fn on_superstep(&mut self, now: Time, closed: &ClosedSuperstep) {
        assert_eq!(
            closed.version,
            self.closed.len() as u64 + 1,
            "versions count supersteps"
        );
        assert!(closed.samples > 0, "a superstep without samples");
        assert!(closed.staleness >= 0.0 && closed.loss.is_finite());
        self.closed.push((now, *closed));
    }

    fn on_refused(&mut self, session: SessionId, reason: ContributionRefusal) {
        self.refusals.push((session, reason));
    }
}
