//! Memory is bounded, in tabs and in the server.

use bsp::central::Checkpoint;
use bsp::local::kept_contributions;

use super::invariants::{Checks, Invariant};
use crate::small_model::PARAMETERS;

/// With this many contributions of one session an open superstep is full, as the central module has it. Beyond that it
/// has room for all that the session's volunteer has kept.
const FULL: usize = 16;

/// A checkpoint shows all that the server holds. `opened` hellos have asked for a session: a tab whose welcome is lost
/// asks again.
pub(super) fn check(checks: &mut Checks, checkpoint: &Checkpoint, opened: usize) {
    let kept = kept_contributions(PARAMETERS);
    let (sessions, awaited) = (checkpoint.sessions.sessions.len(), checkpoint.awaited.len());
    let mut bounded = |what: &str, count: usize, most: usize| {
        checks.require(Invariant::Memory, count <= most, || {
            format!("{count} {what}, at most {most} after {opened} hellos that asked for a session")
        });
    };
    bounded("sessions", sessions, opened);
    bounded("contributions that are awaited", awaited, opened * kept);
    let open = checkpoint.open.contributions.len();
    bounded("contributions of the open superstep", open, (FULL + kept) * opened);
    let earlier = (checkpoint.trainer.incarnation as usize).saturating_sub(1);
    let known = (checkpoint.last_versions.len(), checkpoint.sessions.last_known.len());
    checks.require_eq(Invariant::Memory, known, (earlier, earlier), || {
        "last versions and last sessions, for each earlier incarnation".to_owned()
    });
}
