//! How a run goes on under another name.

use bsp::central::Checkpoint;

use super::Adapt;
use crate::clock::now_ms;
use crate::disk::{Access, Disk};
use crate::error::OpenError;
use crate::identity::{self, Identity, Secrets, Wanted};
use crate::newest::Newest;
use crate::open::{newest_checkpoint, read_identity};
use crate::writing::{replace_file, write_checkpoint};

/// Begins the run `wanted` in `target` with the newest checkpoint of the run in `source`, if their models
/// are the same. A fork that has begun stays as it is. Returns what an operator should know.
///
/// The checkpoint is written for the new run as `adapt` leaves it: its number of samples goes on. Its sessions can't be
/// resumed, since the new run has another number and another key.
pub(super) fn begin(
    source: &mut dyn Disk,
    target: &mut dyn Disk,
    wanted: &Wanted,
    secrets: Secrets,
    adapt: &Adapt<'_>,
) -> Result<Vec<String>, OpenError> {
    let mut warnings = Vec::new();
    if read_identity(target)?.is_some() {
        return Ok(warnings);
    }
    let mut forked = checkpoint_of(source, wanted, &mut warnings)?;
    warnings.extend(forked.as_mut().and_then(adapt));
    let identity = Identity {
        secrets,
        run: wanted.clone(),
        created_at_ms: now_ms(),
    };
    if let Some(checkpoint) = forked {
        let incarnation = checkpoint.trainer.incarnation;
        let mut newest = Newest::new(incarnation, now_ms());
        newest.point_to(&checkpoint);
        write_checkpoint(target, &identity.about(incarnation), &checkpoint, &newest, 1)?;
    }
    // Last: without it the fork has not begun, and is begun again.
    replace_file(target, identity::FILE, Access::Owner, identity.to_json())?;
    Ok(warnings)
}

/// The newest checkpoint of the run in the folder, if it is of the same model.
fn checkpoint_of(
    source: &mut dyn Disk,
    wanted: &Wanted,
    warnings: &mut Vec<String>,
) -> Result<Option<Checkpoint>, OpenError> {
    let place = source.path("");
    let Some(identity) = read_identity(source)? else {
        warnings.push(format!(
            "{}: is no run to go on from; the fork begins anew",
            place.display()
        ));
        return Ok(None);
    };
    if (identity.run.spec_hash, identity.run.parameters) != (wanted.spec_hash, wanted.parameters) {
        warnings.push(format!("{}: has another model; the fork begins anew", place.display()));
        return Ok(None);
    }
    let (checkpoint, more) = newest_checkpoint(source, &identity)?;
    warnings.extend(more);
    Ok(checkpoint)
}
