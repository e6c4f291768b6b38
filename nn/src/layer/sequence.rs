//! What the layers of sequences have in common.

use super::shape_text;

/// The two sizes of a sequence, or an error with the fix.
pub(crate) fn sequence(incoming: &[usize], from: &str) -> Result<[usize; 2], String> {
    <[usize; 2]>::try_from(incoming).map_err(|_| {
        format!(
            "expects a sequence (positions, width), but {from} gives {}; put an embedding layer before it, or a \
             patchify layer where the input is an image",
            shape_text(incoming)
        )
    })
}
