//! Where the rows or the columns of a matrix lie: one stride for an ordinary one, several for the patches of an image.

use std::iter::zip;
use std::ops::Range;

/// How many levels an axis counts through.
const LEVELS: usize = 3;

/// An axis of a matrix: each index lies at an offset of its own from the one with the lowest address.
///
/// Up to three levels, the outermost first, like hours, minutes and seconds: the index counts through the sizes, and
/// each count takes its stride. So one axis can be the positions of a window on all images of a minibatch, another the
/// numbers that the window sees at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    sizes: [usize; LEVELS],
    /// Of a level that counts backwards the two's complement: sums of offsets wrap.
    strides: [usize; LEVELS],
    /// Where the first index lies, from the one with the lowest address.
    start: usize,
}

/// Indices that follow each other at the innermost level's stride.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// Of the first.
    pub(super) offset: usize,
    pub(super) length: usize,
}

impl Axis {
    /// Some of a view's axes, one inside the other, with their sizes and strides. Levels that together have one stride
    /// become one, for longer runs.
    ///
    /// # Panics
    /// Where more levels than three are left: the caller's error.
    pub(super) fn new(sizes: &[usize], strides: &[isize]) -> Axis {
        let mut axis = Axis {
            sizes: [1; LEVELS],
            strides: [0; LEVELS],
            start: 0,
        };
        let mut free = LEVELS;
        for (&size, &stride) in zip(sizes, strides).rev().filter(|(size, _)| **size != 1) {
            if stride < 0 {
                axis.start += size.saturating_sub(1) * stride.unsigned_abs();
            }
            let stride = stride as usize;
            match axis.sizes.get(free) {
                Some(inner) if axis.strides[free].wrapping_mul(*inner) == stride => axis.sizes[free] *= size,
                _ => {
                    assert!(free > 0, "an axis of a product has at most {LEVELS} strides");
                    free -= 1;
                    (axis.sizes[free], axis.strides[free]) = (size, stride);
                }
            }
        }
        axis
    }

    /// How many indices there are.
    pub(super) fn len(&self) -> usize {
        self.sizes.iter().product()
    }

    /// From one index to the next, within a run.
    pub(super) fn stride(&self) -> usize {
        self.strides[LEVELS - 1]
    }

    /// Where the first index lies, from the one with the lowest address: 0 unless a level counts backwards.
    pub(super) fn start(&self) -> usize {
        self.start
    }

    /// How far the index with the highest address lies from that with the lowest.
    pub(super) fn reach(&self) -> usize {
        let levels = zip(self.sizes, self.strides);
        levels
            .map(|(size, stride)| size.saturating_sub(1) * (stride as isize).unsigned_abs())
            .sum()
    }

    /// The runs that a range of indices falls into.
    #[inline(always)]
    pub(super) fn runs(&self, range: Range<usize>) -> Runs<'_> {
        let [_, middle, inner] = self.sizes;
        // Divisions take as long as dozens of sums, and mostly there is nothing to divide.
        let counts = if range.start < inner || range.is_empty() {
            [0, 0, range.start]
        } else {
            let outer = range.start / inner;
            [outer / middle, outer % middle, range.start % inner]
        };
        Runs {
            axis: self,
            remaining: range.len(),
            counts,
        }
    }

    /// The offsets of the indices from `first` on, as many as there is room for.
    #[inline(always)]
    pub(super) fn write_offsets(&self, first: usize, offsets: &mut [usize]) {
        let range = first..first + offsets.len();
        let mut offsets = offsets.iter_mut();
        for Run { offset, length } in self.runs(range) {
            for (index, slot) in offsets.by_ref().take(length).enumerate() {
                *slot = offset.wrapping_add(index.wrapping_mul(self.stride()));
            }
        }
    }
}

/// See [`Axis::runs`].
#[derive(Debug)]
pub(super) struct Runs<'a> {
    axis: &'a Axis,
    remaining: usize,
    counts: [usize; LEVELS],
}

impl Iterator for Runs<'_> {
    type Item = Run;

    #[inline(always)]
    fn next(&mut self) -> Option<Run> {
        if self.remaining == 0 {
            return None;
        }
        let [_, middle, inner] = self.axis.sizes;
        let offset = zip(self.counts, self.axis.strides).fold(self.axis.start, |offset, (count, stride)| {
            offset.wrapping_add(count.wrapping_mul(stride))
        });
        let length = self.remaining.min(inner - self.counts[2]);
        self.remaining -= length;
        self.counts[2] = 0;
        self.counts[1] += 1;
        if self.counts[1] == middle {
            self.counts[1] = 0;
            self.counts[0] += 1;
        }
        Some(Run { offset, length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_axis_counts_through_its_levels(
            sizes in any::<[u8; 3]>(), strides in any::<[i8; 3]>(),
            is_dense in any::<[bool; 2]>(), part in any::<[u8; 2]>(),
        ) {
            let sizes = sizes.map(|size| usize::from(size % 5));
            let mut strides = strides.map(|stride| isize::from(stride % 7));
            for level in [1, 0] {
                if is_dense[level] {
                    strides[level] = strides[level + 1] * sizes[level + 1] as isize;
                }
            }
            let axis = Axis::new(&sizes, &strides);
            let mut expected = Vec::new();
            for outer in 0..sizes[0] as isize {
                for middle in 0..sizes[1] as isize {
                    for inner in 0..sizes[2] as isize {
                        expected.push(outer * strides[0] + middle * strides[1] + inner * strides[2]);
                    }
                }
            }
            prop_assert_eq!(axis.len(), expected.len());
            let lowest = expected.iter().copied().min().unwrap_or(0);
            let expected: Vec<usize> = expected.iter().map(|offset| (offset - lowest) as usize).collect();
            if let (Some(first), Some(highest)) = (expected.first(), expected.iter().max()) {
                prop_assert_eq!((axis.start(), axis.reach()), (*first, *highest));
            }
            let [start, end] = part.map(|part| usize::from(part).min(expected.len()));
            let range = start.min(end)..end;
            let runs = axis.runs(range.clone());
            let offsets = runs.flat_map(|run| {
                (0..run.length).map(move |index| run.offset.wrapping_add(index.wrapping_mul(axis.stride())))
            });
            prop_assert_eq!(offsets.collect::<Vec<_>>(), &expected[range.clone()]);
            let mut offsets = vec![0; range.len()];
            axis.write_offsets(range.start, &mut offsets);
            prop_assert_eq!(offsets, &expected[range]);
        }
    }

    #[test]
    #[should_panic(expected = "at most 3 strides")]
    fn an_axis_of_more_levels_is_refused() {
        Axis::new(&[2, 2, 2, 2], &[50, 20, 5, 1]);
    }
}
