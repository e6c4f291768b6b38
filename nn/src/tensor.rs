//! Views of flat vectors: ndarray's types over memory that belongs to somebody else.

use ndarray::{ArrayView2, ArrayViewMut2};

/// A matrix over a flat vector, row by row.
///
/// # Panics
/// Where the vector has another length: the caller's error.
pub fn matrix<S>(values: &[S], rows: usize, columns: usize) -> ArrayView2<'_, S> {
    match ArrayView2::from_shape((rows, columns), values) {
        Ok(view) => view,
        Err(_) => panic!("{} numbers are no matrix of {rows}×{columns}", values.len()),
    }
}

/// A matrix to write to, over a flat vector, row by row.
///
/// # Panics
/// Where the vector has another length: the caller's error.
pub fn matrix_mut<S>(values: &mut [S], rows: usize, columns: usize) -> ArrayViewMut2<'_, S> {
    let count = values.len();
    match ArrayViewMut2::from_shape((rows, columns), values) {
        Ok(view) => view,
        Err(_) => panic!("{count} numbers are no matrix of {rows}×{columns}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "5 numbers are no matrix of 2×3")]
    fn a_vector_of_another_length_is_no_matrix() {
        matrix(&[0.0; 5], 2, 3);
    }
}
