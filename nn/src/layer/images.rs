//! Images with zeros around them, and what a window sees of them.

use crate::extent::Extent;
use crate::kernel::Operand;
use crate::kernel::scalar::Scalar;
use crate::kernel::tensor::{flat, tensor};
use crate::layer::count;
use ndarray::{ArrayView4, ShapeBuilder};
use std::ops::Range;

/// Puts zeros around images in the same memory again and again. The zeros are written once.
pub(crate) struct Padder<'a, S> {
    images: Images,
    room: &'a mut [S],
}

impl<S: Scalar> Padder<'_, S> {
    /// The shape of the images.
    pub(crate) fn images(&self) -> Images {
        self.images
    }

    /// Puts the zeros around a few samples' images; images without padding stay where they are.
    pub(crate) fn padded<'a>(&'a mut self, images: ArrayView4<'a, S>) -> ArrayView4<'a, S> {
        let Images {
            channels,
            plane,
            padding,
        } = self.images;
        if padding == 0.into() {
            return images;
        }
        let padded = self.images.padded_plane();
        let samples = images.dim().0;
        let room = &mut self.room[..samples * channels * padded.height * padded.width];
        let planes = flat(images).chunks_exact(plane.height * plane.width);
        for (to, from) in room.chunks_exact_mut(padded.height * padded.width).zip(planes) {
            let rows = to.chunks_exact_mut(padded.width).skip(padding.height);
            for (to, from) in rows.zip(from.chunks_exact(plane.width)) {
                to[padding.width..][..plane.width].copy_from_slice(from);
            }
        }
        tensor(room, [samples, channels, padded.height, padded.width])
    }
}

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

    /// How many numbers a [`Padder`] needs, if they can be counted.
    pub(crate) fn room(&self, samples: usize) -> Option<usize> {
        if self.padding == 0.into() {
            return Some(0);
        }
        let Extent { height, width } = self.padded_plane();
        count(&[samples, self.channels, height, width])
    }

    /// Puts zeros around these images, up to `samples` samples at a time, in the room.
    pub(crate) fn padder<'a, S: Scalar>(self, samples: usize, room: &'a mut [S]) -> Padder<'a, S> {
        let Extent { height, width } = self.padded_plane();
        let room = match self.padding == 0.into() {
            true => Default::default(),
            false => &mut room[..samples * self.channels * height * width],
        };
        room.fill(S::ZERO);
        Padder { images: self, room }
    }

    /// Row (channel, window row, window column), column (sample, place row, place column): what that corner of a window
    /// sees at that place, of some of the channels. Nothing is copied: each number of a padded image is seen from all
    /// positions that the window sees it from.
    pub(crate) fn unfolded<'a, S>(
        &self,
        padded: ArrayView4<'a, S>,
        channels: Range<usize>,
        (size, stride, positions): (Extent, Extent, Extent),
    ) -> Operand<'a, S> {
        let Extent { height, width } = self.padded_plane();
        let area = height * width;
        let shape = [
            channels.len(),
            size.height,
            size.width,
            padded.dim().0,
            positions.height,
            positions.width,
        ];
        let image = self.channels * area;
        let strides = [area, width, 1, image, stride.height * width, stride.width];
        Operand::of_slice(&flat(padded)[channels.start * area..], shape.strides(strides), 3)
    }
}
