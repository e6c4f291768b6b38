//! Observers: tests check with every event what must always hold. A run that is only measured has no observer, and pays
//! for none.

use std::time::Duration;

use bsp::central::{Awaited, Checkpoint, ClosedSuperstep, ConnectionId};
use bsp::protocol::message::{Contribution, ContributionRefusal, Refusal, SessionId};
use bsp::time::Time;
use bytes::Bytes;

use crate::damage::Damage;
use crate::gradients::GradientName;
use crate::server::Crash;

/// The events of a run. A tab is named by its number.
#[allow(unused_variables)]
pub trait Observer {
    /// A tab was opened.
    fn on_join(&mut self, tab: usize) {}
    /// It opens a connection, or tries to.
    fn on_connect(&mut self, now: Time, tab: usize) {}
    /// Its connection is open.
    fn on_open(&mut self, tab: usize) {}
    /// Nothing of it runs for `duration`.
    fn on_freeze(&mut self, tab: usize, duration: Duration, is_welcomed: bool) {}
    /// Its volunteer leaves.
    fn on_leave(&mut self, tab: usize) {}
    /// One of its ML modules has died.
    fn on_ml_module_died(&mut self, tab: usize) {}
    /// One of its ML modules has finished a gradient. It was added only if it is finite.
    fn on_gradient(&mut self, tab: usize, name: GradientName, is_finite: bool) {}
    /// It sends a frame that is no contribution.
    fn on_sent(&mut self, tab: usize, frame: &Bytes) {}
    /// It sends a contribution. `connection` carries it, if there is one.
    fn on_contribution_sent(&mut self, tab: usize, connection: Option<ConnectionId>, sequence: u64, frame: &Bytes) {}
    /// A frame has come to the central module, which has not seen it yet.
    fn on_frame_at_central(&mut self, now: Time, connection: ConnectionId, frame: &Bytes) {}
    /// A contribution was settled, for the first and only time.
    fn on_settled(&mut self, contribution: &Contribution, payload: &Bytes, is_accepted: bool) {}
    /// The central module sends a frame.
    fn on_sent_by_central(&mut self, connection: ConnectionId, frame: &Bytes) {}
    /// A frame has come to a tab, which has not seen it yet.
    fn on_frame_at_tab(&mut self, now: Time, tab: usize, connection: ConnectionId, frame: &Bytes) {}
    /// The server has started as this incarnation, from this checkpoint or from the run's beginning. `awaited` are the
    /// contributions that were accepted since, as far as the disk knows.
    fn on_server_started(&mut self, now: Time, incarnation: u32, checkpoint: Option<&Checkpoint>, awaited: &[Awaited]) {
    }
    /// The server has crashed, and its disk is as `damage` says.
    fn on_server_crashed(&mut self, now: Time, crash: Crash, damage: &Damage) {}
    /// It has made a checkpoint, which is not written yet.
    fn on_checkpoint_made(&mut self, now: Time, checkpoint: &Checkpoint) {}
    /// The checkpoint of this number is written.
    fn on_checkpoint_written(&mut self, now: Time, number: u64) {}
    /// The checkpoint of this number could not be written.
    fn on_checkpoint_failed(&mut self, now: Time, number: u64) {}
    /// The disk did not take the note that this contribution was accepted.
    fn on_ledger_failed(&mut self, contribution: Awaited) {}
    /// A superstep has closed.
    fn on_superstep(&mut self, now: Time, closed: &ClosedSuperstep) {}
    /// A contribution was refused.
    fn on_refused(&mut self, session: SessionId, reason: ContributionRefusal) {}
    /// The central module closes a connection.
    fn on_disconnect(&mut self, connection: ConnectionId, reason: Option<Refusal>) {}
}

/// No observer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nobody;

impl Observer for Nobody {}
