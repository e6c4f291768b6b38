//! Images with zeros around them, and what a window sees of them.

use crate::extent::Extent;
use crate::kernel::{Axis, Operand};
use crate::layer::count;
use crate::scalar::Scalar;

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
    pub(crate) fn padded<'a, S: Scalar>(&self, images: &'a [S], samples: usize, room: &'a mut [S]) -> &'a [S] {
        if self.padding == 0.into() {
            return images;
        }
        let (plane, padding, padded) = (self.plane, self.padding, self.padded_plane());
        let room = &mut room[..samples * self.channels * padded.height * padded.width];
        room.fill(S::ZERO);
        let planes = images.chunks_exact(plane.height * plane.width);
        for (to, from) in room.chunks_exact_mut(padded.height * padded.width).zip(planes) {
            let rows = to.chunks_exact_mut(padded.width).skip(padding.height);
            for (to, from) in rows.zip(from.chunks_exact(plane.width)) {
                to[padding.width..][..plane.width].copy_from_slice(from);
            }
        }
        room
    }

    /// Row (channel, window row, window column), column (sample, place row, place column): what that corner of a window sees
    /// at that place, of `channels` channels from the `first` on. Nothing is copied: each number of a padded image is seen
    /// from all places that the window sees it from.
    pub(crate) fn unfolded<'a, S>(
        &self,
        padded: &'a [S],
        samples: usize,
        channels: std::ops::Range<usize>,
        (size, stride, places): (Extent, Extent, Extent),
    ) -> Operand<'a, S> {
        let Extent { height, width } = self.padded_plane();
        let area = height * width;
        Operand::new(
            &padded[channels.start * area..],
            Axis::levels([(channels.len(), area), (size.height, width), (size.width, 1)]),
            Axis::levels([
                (samples, self.channels * area),
                (places.height, stride.height * width),
                (places.width, stride.width),
            ]),
        )
    }
}
