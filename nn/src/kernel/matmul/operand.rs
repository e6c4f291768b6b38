//! The matrices of a product: ndarray's views, seen through their two axes.

use super::axis::{Axis, Run};
use crate::kernel::lanes::{LANES, Lanes};
use crate::kernel::scalar::Scalar;
use ndarray::{ArrayView, ArrayView2, ArrayViewMut, ArrayViewMut2, Dimension, StrideShape};
use std::iter::zip;
use std::marker::PhantomData;
use std::ops::Range;

/// How many numbers packing may write behind a panel: what does not fit a whole square, or a whole vector.
pub(super) const PACKING_SLACK: usize = 32;

/// A matrix that a product reads: a view of two axes, or of more, of which the first ones together count its rows and
/// the others its columns.
#[derive(Clone, Copy, Debug)]
pub struct Operand<'a, S> {
    /// From the number with the lowest address to the one with the highest: `span` of them, all in one allocation.
    lowest: *const S,
    span: usize,
    /// Whether numbers of the span may be read that are no elements. Between the elements of a view with gaps may lie
    /// what another thread writes to.
    is_readable_between: bool,
    pub(super) rows: Axis,
    pub(super) columns: Axis,
    lifetime: PhantomData<&'a [S]>,
}

impl<'a, S> Operand<'a, S> {
    /// A view whose first `row_axes` axes count the rows; any strides.
    ///
    /// # Panics
    /// Where the rows or the columns have more than three strides: the caller's error.
    pub fn new<D: Dimension>(view: ArrayView<'a, S, D>, row_axes: usize) -> Self {
        let axes = Axes::new(view.shape(), view.strides(), row_axes);
        Operand {
            lowest: view.as_ptr().wrapping_sub(axes.start()),
            span: axes.span(),
            is_readable_between: has_no_gaps(view.shape(), view.strides()),
            rows: axes.rows,
            columns: axes.columns,
            lifetime: PhantomData,
        }
    }

    /// As [`Operand::new`], of a slice seen in a shape with strides, which may show a number several times. That the
    /// slice may be read as a whole makes views with gaps cheaper to pack.
    ///
    /// # Panics
    /// Where the shape reaches beyond the slice, too: the caller's error.
    pub fn of_slice<D: Dimension>(values: &'a [S], shape: impl Into<StrideShape<D>>, row_axes: usize) -> Self {
        let Ok(view) = ArrayView::from_shape(shape, values) else {
            panic!("a product's operand lies within its slice")
        };
        Operand {
            span: values.len(),
            is_readable_between: true,
            ..Operand::new(view, row_axes)
        }
    }

    /// Rows for columns; nothing is moved.
    pub(crate) fn transposed(self) -> Self {
        Operand {
            rows: self.columns,
            columns: self.rows,
            ..self
        }
    }

    /// Some numbers of the span from an offset on. They have to be elements, unless the span may be read between them.
    #[inline(always)]
    fn numbers(&self, offset: usize, length: usize) -> &'a [S] {
        assert!(
            offset <= self.span && length <= self.span - offset,
            "a panel lies within its operand"
        );
        // SAFETY: the numbers lie in the span, so in one allocation, and are elements of the view that the operand was
        // made from, or of a slice around it: nobody writes to them while the view lives.
        unsafe { std::slice::from_raw_parts(self.lowest.add(offset), length) }
    }
}

impl<'a, S> From<ArrayView2<'a, S>> for Operand<'a, S> {
    fn from(view: ArrayView2<'a, S>) -> Self {
        Operand::new(view, 1)
    }
}

/// A matrix that a product writes: a view of two axes, or of more, of which the first counts its rows and the others
/// together its columns.
#[derive(Debug)]
pub struct Target<'a, S> {
    lowest: *mut S,
    span: usize,
    pub(super) rows: usize,
    /// Where the first row lies, from the number with the lowest address.
    first_row: usize,
    pub(super) row_stride: usize,
    pub(super) columns: Axis,
    lifetime: PhantomData<&'a mut [S]>,
}

impl<'a, S> Target<'a, S> {
    /// A view whose first axis counts the rows; any strides.
    ///
    /// # Panics
    /// Where the columns have more than three strides: the caller's error.
    pub fn new<D: Dimension>(mut view: ArrayViewMut<'a, S, D>) -> Self {
        let axes = Axes::new(view.shape(), view.strides(), 1);
        Target {
            lowest: view.as_mut_ptr().wrapping_sub(axes.start()),
            span: axes.span(),
            rows: axes.rows.len(),
            first_row: axes.rows.start(),
            // One axis of a view has one stride.
            row_stride: axes.rows.stride(),
            columns: axes.columns,
            lifetime: PhantomData,
        }
    }

    /// Where a row lies, from the number with the lowest address.
    #[inline(always)]
    pub(super) fn row_offset(&self, row: usize) -> usize {
        self.first_row.wrapping_add(row.wrapping_mul(self.row_stride))
    }

    /// Some elements side by side, from an offset on.
    ///
    /// # Safety
    /// The offset is that of a row and of a column, added, and the columns after it lie beside it.
    #[inline(always)]
    pub(super) unsafe fn elements<const N: usize>(&mut self, offset: usize) -> &mut [S; N] {
        debug_assert!(offset + N <= self.span, "a tile lies within its result");
        // SAFETY: elements of the view that the target was made from lie in one allocation, and nobody else sees them.
        unsafe { &mut *self.lowest.add(offset).cast() }
    }
}

impl<'a, S> From<ArrayViewMut2<'a, S>> for Target<'a, S> {
    fn from(view: ArrayViewMut2<'a, S>) -> Self {
        Target::new(view)
    }
}

/// A view's axes, sorted into rows and columns.
struct Axes {
    rows: Axis,
    columns: Axis,
}

impl Axes {
    fn new(sizes: &[usize], strides: &[isize], row_axes: usize) -> Axes {
        let (row_sizes, column_sizes) = sizes.split_at(row_axes);
        let (row_strides, column_strides) = strides.split_at(row_axes);
        Axes {
            rows: Axis::new(row_sizes, row_strides),
            columns: Axis::new(column_sizes, column_strides),
        }
    }

    /// Where the first element lies, from the one with the lowest address.
    fn start(&self) -> usize {
        self.rows.start() + self.columns.start()
    }

    /// How many numbers lie between the elements with the lowest and the highest address, with them.
    fn span(&self) -> usize {
        match self.rows.len() * self.columns.len() {
            0 => 0,
            _ => self.rows.reach() + self.columns.reach() + 1,
        }
    }
}

/// Whether all numbers between the elements with the lowest and the highest address are elements: each axis's stride is
/// as many numbers as the axes of smaller strides hold.
fn has_no_gaps(sizes: &[usize], strides: &[isize]) -> bool {
    let axes = || zip(sizes, strides).filter(|(size, _)| **size != 1);
    axes().all(|(_, stride)| {
        let stride = stride.unsigned_abs();
        let inside = axes().filter(|(_, other)| other.unsigned_abs() < stride);
        inside.map(|(size, _)| size).product::<usize>() == stride
    })
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

    /// Copies `WIDTH` vectors from the `first` on, in a block of the depth, as (depth, WIDTH); what lies beyond the
    /// last vector is zero. It may leave anything in the panel's slack behind that.
    #[inline(always)]
    pub(super) fn pack<L: Lanes<Scalar = S>, const WIDTH: usize>(
        &self,
        first: usize,
        depth: &DepthBlock<'_>,
        panel: &mut [S],
    ) {
        if depth.offsets.is_empty() {
            return;
        }
        let width = WIDTH.min(self.rows.len() - first);
        let mut vectors = [0; WIDTH];
        self.rows.write_offsets(first, &mut vectors[..width]);
        if width < WIDTH {
            return self.gather::<WIDTH>(&vectors[..width], depth.reach, depth.offsets, panel);
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
            self.gather::<WIDTH>(&vectors, depth.reach, depth.offsets, panel);
        }
    }

    /// Vectors that lie side by side.
    #[inline(always)]
    fn pack_whole<const WIDTH: usize>(&self, vector: usize, depth: &DepthBlock<'_>, panel: &mut [S]) {
        assert!(
            vector + depth.reach + WIDTH <= self.span,
            "a panel lies within its operand"
        );
        let (values, panel) = (self.lowest.wrapping_add(vector), panel.as_chunks_mut::<WIDTH>().0);
        for (place, offset) in panel.iter_mut().zip(depth.offsets) {
            // SAFETY: no offset is larger than `reach`, and vectors side by side are elements: as in `numbers`.
            *place = *unsafe { &*values.add(*offset).cast::<[S; WIDTH]>() };
        }
    }

    /// Vectors in two pieces, each of which lies side by side: the first is copied in full width, and what is too much
    /// of it is overwritten by the second, whose excess the next row of the panel overwrites. `false` where that would
    /// read beyond the span or what is no element.
    #[inline(always)]
    fn pack_halves<const WIDTH: usize>(
        &self,
        pieces: [usize; 2],
        split: usize,
        depth: &DepthBlock<'_>,
        panel: &mut [S],
    ) -> bool {
        let reach = depth.reach + WIDTH;
        if !self.is_readable_between || pieces[0].max(pieces[1]) + reach > self.span {
            return false;
        }
        let [left, right] = pieces.map(|piece| self.numbers(piece, reach));
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
            let whole = self.pack_squares::<L, WIDTH>(vectors, run, panel);
            if whole < run.length {
                let offsets = &depth.offsets[packed..][whole..run.length];
                self.gather::<WIDTH>(vectors, depth.reach, offsets, &mut panel[whole * WIDTH..]);
            }
            packed += run.length;
        }
    }

    /// One of these runs: squares of 4×4 are turned in registers. With one number at a time X·Wᵀ of 64×784×256 ran at
    /// 42 instead of 50 GFLOP/s (`throughput` example). The last square may be more than is left of the run, and what
    /// follows overwrites it; it is left out where that would read beyond the span or what is no element. Returns how
    /// much of the run has been packed.
    #[inline(always)]
    fn pack_squares<L: Lanes<Scalar = S>, const WIDTH: usize>(
        &self,
        vectors: &[usize; WIDTH],
        run: Run,
        panel: &mut [S],
    ) -> usize {
        let mut length = run.length.next_multiple_of(LANES);
        let is_beyond = |vector: &usize| vector + run.offset + length > self.span;
        if length > run.length && (!self.is_readable_between || vectors.iter().any(is_beyond)) {
            length -= LANES;
        }
        let (squares, _) = panel[..length * WIDTH]
            .as_chunks_mut::<WIDTH>()
            .0
            .as_chunks_mut::<LANES>();
        for (group, vectors) in vectors.as_chunks::<LANES>().0.iter().enumerate() {
            let numbers = |vector| self.numbers(vector + run.offset, length).as_chunks::<LANES>().0;
            // Not `map`: browsers would call it for each run, which took 2 % of a convolution's time.
            let [a, b, c, d] = *vectors;
            let vectors = [numbers(a), numbers(b), numbers(c), numbers(d)];
            for (square, depths) in squares.iter_mut().enumerate() {
                let rows = L::transpose(vectors.map(|vector| L::load(&vector[square])));
                for (lanes, depth) in rows.into_iter().zip(depths) {
                    lanes.store(&mut depth.as_chunks_mut::<LANES>().0[group]);
                }
            }
        }
        length
    }

    /// One number after the other, wherever it lies. `offsets`: some of the depth's.
    #[inline(always)]
    fn gather<const WIDTH: usize>(&self, vectors: &[usize], reach: usize, offsets: &[usize], panel: &mut [S]) {
        assert!(
            vectors.iter().all(|vector| vector + reach < self.span),
            "a panel lies within its operand"
        );
        for (place, offset) in panel.as_chunks_mut::<WIDTH>().0.iter_mut().zip(offsets) {
            *place = [S::ZERO; WIDTH];
            for (place, vector) in place.iter_mut().zip(vectors) {
                // SAFETY: no offset is larger than `reach`, and it is an element: as in `numbers`.
                *place = unsafe { self.lowest.add(vector + offset).read() };
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
