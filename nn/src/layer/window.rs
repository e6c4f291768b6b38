//! What convolution and pooling have in common: a window that moves over an image.

use super::shape_text;
use crate::extent::Extent;
use crate::kernel::tensor::{OnePiece, shaped};
use ndarray::{ArrayBase, Ix1, Ix2, Ix3, RawData, s};
use std::ops::Range;

/// A window on its way over a plane with zeros around it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// The plane without its padding.
    pub(crate) plane: Extent,
    pub(crate) size: Extent,
    pub(crate) stride: Extent,
    pub(crate) padding: Extent,
    /// How many positions the window takes.
    pub(crate) positions: Extent,
}

impl Window {
    /// `name` is what the run file calls the window's size.
    pub(crate) fn new(
        plane: Extent,
        name: &str,
        size: Extent,
        stride: Extent,
        padding: Extent,
    ) -> Result<Window, String> {
        for (name, extent) in [(name, size), ("stride", stride)] {
            if extent.height == 0 || extent.width == 0 {
                return Err(format!("has {name} = {extent}; set {name} to 1 or more"));
            }
        }
        let positions = |plane: usize, size: usize, stride: usize, padding: usize| {
            let padded = padding.checked_mul(2).and_then(|both| both.checked_add(plane));
            let Some(padded) = padded else {
                return Err(format!(
                    "has padding = {padding}, which cannot be counted; make it smaller"
                ));
            };
            let room = padded.checked_sub(size).ok_or_else(|| {
                let fix = if padded == 0 {
                    String::new()
                } else {
                    format!("; set {name} to {padded} or less")
                };
                let zeros = if padding == 0 {
                    String::new()
                } else {
                    format!(", {padded} with its padding")
                };
                format!("has {name} = {size}, but what comes in measures {plane}{zeros}{fix}")
            })?;
            Ok(room / stride + 1)
        };
        Ok(Window {
            plane,
            size,
            stride,
            padding,
            positions: Extent {
                height: positions(plane.height, size.height, stride.height, padding.height)?,
                width: positions(plane.width, size.width, stride.width, padding.width)?,
            },
        })
    }

    /// The numbers of the window, row by row: each one's row and column.
    pub(crate) fn corners(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let Extent { height, width } = self.size;
        (0..height).flat_map(move |row| (0..width).map(move |column| (row, column)))
    }

    /// What one number of the window sees of a plane without padding, from all positions of a row of them.
    pub(crate) fn seen<R: RawData>(
        &self,
        plane: ArrayBase<R, Ix2>,
        position_y: usize,
        row: usize,
        column: usize,
    ) -> ArrayBase<R, Ix1> {
        let end = column + (self.positions.width - 1) * self.stride.width + 1;
        plane.slice_move(s![
            position_y * self.stride.height + row,
            column..end;self.stride.width
        ])
    }

    /// The rows of positions at which row `offset` of the window lies on the plane, not on its padding.
    pub(crate) fn rows(&self, offset: usize) -> Range<usize> {
        inside(
            offset,
            self.padding.height,
            self.stride.height,
            self.plane.height,
            self.positions.height,
        )
    }

    /// The columns of positions at which column `offset` of the window lies on the plane, not on its padding.
    pub(crate) fn columns(&self, offset: usize) -> Range<usize> {
        inside(
            offset,
            self.padding.width,
            self.stride.width,
            self.plane.width,
            self.positions.width,
        )
    }
}

/// The positions p with 0 ≤ p·stride + offset − padding < length.
fn inside(offset: usize, padding: usize, stride: usize, length: usize, positions: usize) -> Range<usize> {
    let first = padding.saturating_sub(offset).div_ceil(stride).min(positions);
    let end = (length + padding)
        .saturating_sub(offset)
        .div_ceil(stride)
        .min(positions);
    first..end.max(first)
}

/// All planes of a minibatch of images, those of a sample one after the other.
pub(crate) fn planes<R: RawData>(images: impl OnePiece<Line = ArrayBase<R, Ix1>>, plane: Extent) -> ArrayBase<R, Ix3> {
    let Extent { height, width } = plane;
    let images = images.line();
    let count = images.len() / (height * width);
    shaped(images, [count, height, width])
}

/// The three sizes of an image, or an error with the fix.
pub(crate) fn image(incoming: &[usize], from: &str) -> Result<[usize; 3], String> {
    <[usize; 3]>::try_from(incoming).map_err(|_| {
        format!(
            "expects an image (channels, height, width), but {from} gives {}; put it before any flatten or linear \
             layer, and give the model an input of three sizes",
            shape_text(incoming)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_window_is_inside_exactly_where_its_formula_says(
            offset in 0..9_usize, padding in 0..6_usize, stride in 1..5_usize, length in 0..9_usize,
            positions in 0..9_usize,
        ) {
            let range = inside(offset, padding, stride, length, positions);
            for place in 0..positions {
                let at = place * stride + offset;
                prop_assert_eq!(range.contains(&place), at >= padding && at < length + padding);
            }
        }
    }
}
