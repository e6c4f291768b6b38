//! The matrices of a product: slices, seen through their two axes.

use super::axis::{Axis, Run};
use crate::lanes::{LANES, Lanes};
use crate::scalar::Scalar;
use ndarray::{ArrayView2, ArrayViewMut2};
use std::ops::Range;

/// How many numbers packing may write behind a panel: what does not fit a whole square, or a whole vector.
pub(super) const PACKING_SLACK: usize = 32;

/// A matrix that a product reads: a whole one, [a part](Operand::part) of a larger one, or
/// [anything](Operand::new) that two axes can describe.
#[derive(Clone, Copy, Debug)]
pub struct Operand<'a, S> {
    values: &'a [S],
    pub(super) rows: Axis,
    pub(super) columns: Axis,
}

impl<'a, S> Operand<'a, S> {
    /// A matrix whose element (i, j) lies at the sum of the axes' offsets of i and j. Elements may share a number.
    ///
    /// # Panics
    /// Where an element lies beyond the values: the caller's error.
    pub fn new(values: &'a [S], rows: Axis, columns: Axis) -> Self {
        assert!(
            rows.len() * columns.len() == 0 || rows.reach() + columns.reach() < values.len(),
            "a product's operand lies within its slice"
        );
        Operand { values, rows, columns }
    }

    /// Some rows and columns of a larger matrix that lies row by row, `width` numbers to a row.
    ///
    /// # Panics
    /// Where the part reaches beyond the matrix: the caller's error.
    pub fn part(matrix: &'a [S], width: usize, rows: Range<usize>, columns: Range<usize>) -> Self {
        let values = &matrix[within(width, &rows, &columns)];
        Operand::new(values, Axis::new(rows.len(), width), Axis::new(columns.len(), 1))
    }

    /// Rows for columns; nothing is moved.
    pub fn transposed(self) -> Self {
        Operand {
            rows: self.columns,
            columns: self.rows,
            ..self
        }
    }
}

impl<'a, S> From<ArrayView2<'a, S>> for Operand<'a, S> {
    /// A view that lies in one piece, row by row or column by column.
    fn from(view: ArrayView2<'a, S>) -> Self {
        let Some(values) = view.to_slice_memory_order() else {
            panic!("a product's operand lies in one piece")
        };
        // Of an axis that has at most one element the stride says nothing.
        let stride = |axis: usize| usize::try_from(view.strides()[axis]).unwrap_or(0);
        let (rows, columns) = view.dim();
        Operand::new(values, Axis::new(rows, stride(0)), Axis::new(columns, stride(1)))
    }
}

/// A matrix that a product writes: a whole one, or [a part](Target::part) of a larger one, the rest of which it leaves alone.
#[derive(Debug)]
pub struct Target<'a, S> {
    pub(super) values: &'a mut [S],
    pub(super) rows: usize,
    pub(super) row_stride: usize,
    pub(super) columns: Axis,
}

impl<'a, S> Target<'a, S> {
    /// A matrix whose rows lie at a stride, and whose columns as their axis says. No two elements may share a number.
    ///
    /// # Panics
    /// Where an element lies beyond the values: the caller's error.
    pub fn new(values: &'a mut [S], rows: usize, row_stride: usize, columns: Axis) -> Self {
        assert!(
            rows * columns.len() == 0 || (rows - 1) * row_stride + columns.reach() < values.len(),
            "a product's result lies within its slice"
        );
        Target {
            values,
            rows,
            row_stride,
            columns,
        }
    }

    /// Some rows and columns of a larger matrix that lies row by row, `width` numbers to a row.
    ///
    /// # Panics
    /// Where the part reaches beyond the matrix: the caller's error.
    pub fn part(matrix: &'a mut [S], width: usize, rows: Range<usize>, columns: Range<usize>) -> Self {
        let values = &mut matrix[within(width, &rows, &columns)];
        Target::new(values, rows.len(), width, Axis::new(columns.len(), 1))
    }
}

impl<'a, S> From<ArrayViewMut2<'a, S>> for Target<'a, S> {
    /// A view that lies row by row.
    fn from(view: ArrayViewMut2<'a, S>) -> Self {
        let (rows, columns) = view.dim();
        let Some(values) = view.into_slice() else {
            panic!("a product's result lies row by row")
        };
        Target::new(values, rows, columns, Axis::new(columns, 1))
    }
}

/// From a part's first number to behind its last.
fn within(width: usize, rows: &Range<usize>, columns: &Range<usize>) -> Range<usize> {
    assert!(columns.end <= width, "a part has columns of its matrix only");
    if rows.is_empty() || columns.is_empty() {
        return 0..0;
    }
    rows.start * width + columns.start..(rows.end - 1) * width + columns.end
}

/// How a panel's vectors lie to each other.
enum Neighbours {
    /// Each beside the one before.
    All,
    /// As `All` up to this one, and from it on again.
    Until(usize),
    /// Neither.
    Apart,
}

/// A block of an operand's depth.
pub(super) struct DepthBlock<'a> {
    range: Range<usize>,
    /// Where each number lies, from its vector's first. Counted once, for all panels.
    offsets: &'a [usize],
    /// The largest of them.
    reach: usize,
}

/// What packing sees of an operand: its rows, vectors along the depth, side by side.
impl<S: Scalar> Operand<'_, S> {
    /// A range of the depth; `offsets` has room for it.
    #[inline(always)]
    pub(super) fn depth_block<'a>(&self, range: Range<usize>, offsets: &'a mut [usize]) -> DepthBlock<'a> {
        let offsets = &mut offsets[..range.len()];
        self.columns.write_offsets(range.start, offsets);
        DepthBlock {
            range,
            reach: offsets.iter().copied().max().unwrap_or(0),
            offsets,
        }
    }

    /// Copies `WIDTH` vectors from the `first` on, in a block of the depth, as (depth, WIDTH); what lies beyond the last
    /// vector is zero. It may leave anything in the panel's slack behind that.
    #[inline(always)]
    pub(super) fn pack<L: Lanes<Scalar = S>, const WIDTH: usize>(
        &self,
        first: usize,
        depth: &DepthBlock<'_>,
        panel: &mut [S],
    ) {
        let width = WIDTH.min(self.rows.len() - first);
        let mut vectors = [0; WIDTH];
        self.rows.write_offsets(first, &mut vectors[..width]);
        if width < WIDTH {
            return self.gather::<WIDTH>(&vectors[..width], depth.offsets, panel);
        }
        let is_packed = match neighbours(&vectors) {
            Neighbours::All => return self.pack_whole::<WIDTH>(vectors[0], depth, panel),
            Neighbours::Until(split) => self.pack_halves::<WIDTH>([vectors[0], vectors[split]], split, depth, panel),
            Neighbours::Apart if self.columns.stride() == 1 => {
                return self.pack_runs::<L, WIDTH>(&vectors, depth, panel);
            }
            Neighbours::Apart => false,
        };
        if !is_packed {
            self.gather::<WIDTH>(&vectors, depth.offsets, panel);
        }
    }

    /// Vectors that lie side by side.
    #[inline(always)]
    fn pack_whole<const WIDTH: usize>(&self, vector: usize, depth: &DepthBlock<'_>, panel: &mut [S]) {
        let values = &self.values[vector..];
        // `Operand::new` has seen the last vector's end to lie within the values.
        debug_assert!(depth.reach + WIDTH <= values.len(), "a panel lies within its operand");
        for (place, offset) in panel.as_chunks_mut::<WIDTH>().0.iter_mut().zip(depth.offsets) {
            if let Some(from) = values[*offset..].first_chunk::<WIDTH>() {
                *place = *from;
            }
        }
    }

    /// Vectors in two pieces, each of which lies side by side: the first is copied in full width, and what is too much of
    /// it is overwritten by the second, whose excess the next row of the panel overwrites. `false` where that would reach
    /// beyond the values.
    #[inline(always)]
    fn pack_halves<const WIDTH: usize>(
        &self,
        pieces: [usize; 2],
        split: usize,
        depth: &DepthBlock<'_>,
        panel: &mut [S],
    ) -> bool {
        let reach = depth.reach + WIDTH;
        let piece = |vector: usize| self.values.get(vector..)?.get(..reach);
        let (Some(left), Some(right)) = (piece(pieces[0]), piece(pieces[1])) else {
            return false;
        };
        let panel = &mut panel[..depth.offsets.len() * WIDTH + split];
        for (place, offset) in (0..).step_by(WIDTH).zip(depth.offsets) {
            panel[place..place + WIDTH].copy_from_slice(&left[*offset..*offset + WIDTH]);
            panel[place + split..place + split + WIDTH].copy_from_slice(&right[*offset..*offset + WIDTH]);
        }
        true
    }

    /// Vectors that lie along the depth, in runs without a gap.
    #[inline(always)]
    fn pack_runs<L: Lanes<Scalar = S>, const WIDTH: usize>(
        &self,
        vectors: &[usize; WIDTH],
        depth: &DepthBlock<'_>,
        panel: &mut [S],
    ) {
        let mut packed = 0;
        for run in self.columns.runs(depth.range.clone()) {
            let panel = &mut panel[packed * WIDTH..];
            if !self.pack_squares::<L, WIDTH>(vectors, run, panel) {
                self.gather::<WIDTH>(vectors, &depth.offsets[packed..][..run.length], panel);
            }
            packed += run.length;
        }
    }

    /// One of these runs: squares of 4×4 are turned in registers. With one number at a time X·Wᵀ of 64×784×256 ran at 42
    /// instead of 50 GFLOP/s (`throughput` example). The last square may be more than is left of the run: what follows
    /// overwrites it. `false` where that would reach beyond the values.
    #[inline(always)]
    fn pack_squares<L: Lanes<Scalar = S>, const WIDTH: usize>(
        &self,
        vectors: &[usize; WIDTH],
        run: Run,
        panel: &mut [S],
    ) -> bool {
        let length = run.length.next_multiple_of(LANES);
        let (squares, _) = panel[..length * WIDTH]
            .as_chunks_mut::<WIDTH>()
            .0
            .as_chunks_mut::<LANES>();
        if vectors
            .iter()
            .any(|vector| vector + run.offset + length > self.values.len())
        {
            return false;
        }
        for (group, vectors) in vectors.as_chunks::<LANES>().0.iter().enumerate() {
            let vectors = vectors.map(|vector| self.values[vector + run.offset..][..length].as_chunks::<LANES>().0);
            for (square, places) in squares.iter_mut().enumerate() {
                let rows = L::transpose(vectors.map(|vector| L::load(&vector[square])));
                for (lanes, place) in rows.into_iter().zip(places) {
                    lanes.store(&mut place.as_chunks_mut::<LANES>().0[group]);
                }
            }
        }
        true
    }

    /// One number after the other, wherever it lies.
    #[inline(always)]
    fn gather<const WIDTH: usize>(&self, vectors: &[usize], offsets: &[usize], panel: &mut [S]) {
        for (place, offset) in panel.as_chunks_mut::<WIDTH>().0.iter_mut().zip(offsets) {
            *place = [S::ZERO; WIDTH];
            for (place, vector) in place.iter_mut().zip(vectors) {
                *place = self.values[vector + offset];
            }
        }
    }
}

/// Whether each offset is one more than the one before.
#[inline(always)]
pub(super) fn are_neighbours(offsets: &[usize]) -> bool {
    offsets
        .iter()
        .zip(offsets[0]..)
        .all(|(offset, expected)| *offset == expected)
}

#[inline(always)]
fn neighbours<const WIDTH: usize>(vectors: &[usize; WIDTH]) -> Neighbours {
    let pairs = vectors.iter().zip(vectors[0]..);
    let split = pairs.take_while(|(vector, expected)| *vector == expected).count();
    if split == WIDTH {
        Neighbours::All
    } else if are_neighbours(&vectors[split..]) {
        Neighbours::Until(split)
    } else {
        Neighbours::Apart
    }
}
