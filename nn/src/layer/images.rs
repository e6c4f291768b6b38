//! Images with zeros around them, and what a window sees of them.

use crate::extent::Extent;
use crate::kernel::Operand;
use crate::kernel::scalar::Scalar;
use crate::kernel::tensor::{flat, flat_mut, reshaped, take_mut, tensor, tensor_mut};
use crate::layer::count;
use ndarray::{ArrayView4, ShapeBuilder, s};
use std::ops::Range;

/// The shape of images that lie one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Images {
    pub(crate) channels: usize,
    /// Without the padding.
    pub(crate) plane: Extent,
    pub(crate) padding: Extent,
}

impl Images {
    fn padded_plane(&self) -> Extent {
        Extent {
            height: self.plane.height + 2 * self.padding.height,
            width: self.plane.width + 2 * self.padding.width,
        }
    }

    /// How many numbers `padded` needs, if they can be counted.
    pub(crate) fn room(&self, samples: usize) -> Option<usize> {
        if self.padding == 0.into() {
            return Some(0);
        }
        let Extent { height, width } = self.padded_plane();
        count(&[samples, self.channels, height, width])
    }

    /// Puts the zeros around several images, in the room; images without padding stay where they are.
    pub(crate) fn padded<'a, S: Scalar>(&self, images: ArrayView4<'a, S>, mut room: &'a mut [S]) -> ArrayView4<'a, S> {
        if self.padding == 0.into() {
            return images;
        }
        let Extent { height, width } = self.padding;
        let padded = self.padded_plane();
        let shape = [images.dim().0, self.channels, padded.height, padded.width];
        let room = flat_mut(take_mut(&mut room, shape));
        room.fill(S::ZERO);
        let inside = s![.., height..height + self.plane.height, width..width + self.plane.width];
        let planes = shape[0] * self.channels;
        let mut to = tensor_mut(room, [planes, shape[2], shape[3]]);
        let from = reshaped(images, [planes, self.plane.height, self.plane.width]);
        let mut to = to.slice_mut(inside);
        for (mut to, from) in to.outer_iter_mut().zip(from.outer_iter()) {
            for (to, from) in to.rows_mut().into_iter().zip(from.rows()) {
                flat_mut(to).copy_from_slice(flat(from));
            }
        }
        tensor(room, shape)
    }

    /// Row (channel, window row, window column), column (sample, place row, place column): what that corner of a window
    /// sees at that place, of some of the channels. Nothing is copied: each number of a padded image is seen from all
    /// places that the window sees it from.
    pub(crate) fn unfolded<'a, S>(
        &self,
        padded: ArrayView4<'a, S>,
        channels: Range<usize>,
        (size, stride, places): (Extent, Extent, Extent),
    ) -> Operand<'a, S> {
        let Extent { height, width } = self.padded_plane();
        let area = height * width;
        let shape = [
            channels.len(),
            size.height,
            size.width,
            padded.dim().0,
            places.height,
            places.width,
        ];
        let image = self.channels * area;
        let strides = [area, width, 1, image, stride.height * width, stride.width];
        Operand::of_slice(&flat(padded)[channels.start * area..], shape.strides(strides), 3)
    }
}
