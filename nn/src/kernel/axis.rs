//! Where the rows or the columns of a matrix lie: one stride for an ordinary one, several for the patches of an image.

use std::ops::Range;

/// How many levels an axis counts through.
const LEVELS: usize = 3;

/// An axis of a matrix: each index lies at an offset of its own from the first.
///
/// Up to three levels, the outermost first, like hours, minutes and seconds: the index counts through the sizes, and each
/// count takes its stride. So one axis can be the places of a window on all images of a minibatch, another the numbers that
/// the window sees at once.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    sizes: [usize; LEVELS],
    strides: [usize; LEVELS],
}

/// Indices that follow each other at the innermost level's stride.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// Of the first.
    pub(super) offset: usize,
    pub(super) length: usize,
}

impl Axis {
    /// Of one level.
    pub fn new(size: usize, stride: usize) -> Axis {
        Axis::levels([(1, 0), (1, 0), (size, stride)])
    }

    /// Of three levels, each with its size and stride. Levels that together have one stride become one, for longer runs.
    pub fn levels(levels: [(usize, usize); LEVELS]) -> Axis {
        let mut axis = Axis {
            sizes: [1; LEVELS],
            strides: [0; LEVELS],
        };
        let mut free = LEVELS;
        for (size, stride) in levels.into_iter().rev().filter(|(size, _)| *size != 1) {
            match axis.sizes.get(free) {
                Some(inner) if axis.strides[free] * inner == stride => axis.sizes[free] *= size,
                _ => {
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

    /// How far the last index lies from the first.
    pub(super) fn reach(&self) -> usize {
        let levels = self.sizes.iter().zip(self.strides);
        levels.map(|(size, stride)| size.saturating_sub(1) * stride).sum()
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
        let mut places = offsets.iter_mut();
        for Run { offset, length } in self.runs(range) {
            for (index, place) in places.by_ref().take(length).enumerate() {
                *place = offset + index * self.stride();
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
        let counts = self.counts.iter().zip(self.axis.strides);
        let offset = counts.map(|(count, stride)| count * stride).sum();
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
            sizes in any::<[u8; 3]>(), strides in any::<[u8; 3]>(), is_dense in any::<[bool; 2]>(), part in any::<[u8; 2]>(),
        ) {
            let sizes = sizes.map(|size| usize::from(size % 5));
            let mut strides = strides.map(|stride| usize::from(stride % 7));
            for level in [1, 0] {
                if is_dense[level] {
                    strides[level] = strides[level + 1] * sizes[level + 1];
                }
            }
            let axis = Axis::levels([0, 1, 2].map(|level| (sizes[level], strides[level])));
            let mut expected = Vec::new();
            for outer in 0..sizes[0] {
                for middle in 0..sizes[1] {
                    for inner in 0..sizes[2] {
                        expected.push(outer * strides[0] + middle * strides[1] + inner * strides[2]);
                    }
                }
            }
            prop_assert_eq!(axis.len(), expected.len());
            prop_assert!(expected.is_empty() || expected.iter().max() == Some(&axis.reach()));
            let [start, end] = part.map(|part| usize::from(part).min(expected.len()));
            let range = start.min(end)..end;
            let runs = axis.runs(range.clone());
            let offsets = runs.flat_map(|run| (0..run.length).map(move |index| run.offset + index * axis.stride()));
            prop_assert_eq!(offsets.collect::<Vec<_>>(), &expected[range.clone()]);
            let mut offsets = vec![0; range.len()];
            axis.write_offsets(range.start, &mut offsets);
            prop_assert_eq!(offsets, &expected[range]);
        }
    }
}
