//! Memory is bounded, in tabs and in the server.

use bsp::central::Checkpoint;
use bsp::local::kept_contributions;

use crate::gradients::PARAMETERS;

/// With this many contributions of one session an open superstep is full, as the central module has it. Beyond that it
/// has room for all that the session's volunteer has kept.
const FULL: usize = 16;

/// A checkpoint shows all that the server holds. `opened` hellos have asked for a session: a tab whose welcome is lost
/// asks again.
pub(super) fn check(checkpoint: &Checkpoint, opened: usize) {
    let kept = kept_contributions(PARAMETERS);
    let (sessions, awaited) = (checkpoint.sessions.sessions.len(), checkpoint.awaited.len());
    assert!(sessions <= opened, "{sessions} sessions after {opened} hellos");
    assert!(
        awaited <= opened * kept,
        "{awaited} contributions are awaited of {opened} sessions, and each keeps {kept}"
    );
    assert!(checkpoint.open.contributions.len() <= (FULL + kept) * opened);
    let incarnation = checkpoint.trainer.incarnation as usize;
    assert_eq!(checkpoint.last_versions.len() + 1, incarnation);
    assert_eq!(checkpoint.sessions.last_known.len() + 1, incarnation);
}
