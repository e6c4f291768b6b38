//! The matrices of a product: slices, with how far apart their rows and columns lie.

use ndarray::{ArrayView2, ArrayViewMut2};
use std::ops::Range;

/// A matrix that a product reads: a whole one, or [a part](Operand::part) of a larger one.
#[derive(Clone, Copy, Debug)]
pub struct Operand<'a, S> {
    pub(super) values: &'a [S],
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
}

impl<'a, S> Operand<'a, S> {
    /// Some rows and columns of a larger matrix that lies row by row, `width` numbers to a row.
    ///
    /// # Panics
    /// Where the part reaches beyond the matrix: the caller's error.
    pub fn part(matrix: &'a [S], width: usize, rows: Range<usize>, columns: Range<usize>) -> Self {
        Operand {
            values: &matrix[within(width, &rows, &columns)],
            rows: rows.len(),
            columns: columns.len(),
            row_stride: width,
            column_stride: 1,
        }
    }

    /// Rows for columns; nothing is moved.
    pub fn transposed(self) -> Self {
        Operand {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
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
        // Of an axis that has at most one element the stride says nothing, and is taken for the ordinary.
        let stride = |axis: usize| usize::try_from(view.strides()[axis]).unwrap_or(0);
        Operand {
            values,
            rows: view.nrows(),
            columns: view.ncols(),
            row_stride: stride(0),
            column_stride: stride(1),
        }
    }
}

/// A matrix that a product writes: a whole one, or [a part](Target::part) of a larger one, the rest of which it leaves alone.
#[derive(Debug)]
pub struct Target<'a, S> {
    pub(super) values: &'a mut [S],
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_stride: usize,
}

impl<'a, S> Target<'a, S> {
    /// Some rows and columns of a larger matrix that lies row by row, `width` numbers to a row.
    ///
    /// # Panics
    /// Where the part reaches beyond the matrix: the caller's error.
    pub fn part(matrix: &'a mut [S], width: usize, rows: Range<usize>, columns: Range<usize>) -> Self {
        Target {
            values: &mut matrix[within(width, &rows, &columns)],
            rows: rows.len(),
            columns: columns.len(),
            row_stride: width,
        }
    }
}

impl<'a, S> From<ArrayViewMut2<'a, S>> for Target<'a, S> {
    /// A view that lies row by row.
    fn from(view: ArrayViewMut2<'a, S>) -> Self {
        let (rows, columns) = view.dim();
        let Some(values) = view.into_slice() else {
            panic!("a product's result lies row by row")
        };
        Target {
            values,
            rows,
            columns,
            row_stride: columns,
        }
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
