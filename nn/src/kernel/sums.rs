//! Sums in one written order.

use super::scalar::Scalar;
use super::tensor::{flat, flat_mut};
use ndarray::{ArrayView2, ArrayViewMut1};
use std::ops::Range;

/// The sum of a slice in its one written order: number i goes to column i mod 8, the columns are then added in pairs.
///
/// Eight columns instead of one, because additions wait for each other: a compiler may not reorder them, so the order
/// that vectors like has to be written.
pub(crate) fn sum<S: Scalar>(values: &[S]) -> S {
    let mut columns = [S::ZERO; 8];
    let (rows, rest) = values.as_chunks::<8>();
    for row in rows {
        for (column, value) in columns.iter_mut().zip(row) {
            *column += *value;
        }
    }
    for (column, value) in columns.iter_mut().zip(rest) {
        *column += *value;
    }
    let [a, b, c, d, e, f, g, h] = columns;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// The sum of the products of two vectors' elements, in the order of [`sum`].
pub(crate) fn dot<S: Scalar>(left: &[S], right: &[S]) -> S {
    let mut columns = [S::ZERO; 8];
    let (left_rows, left_rest) = left.as_chunks::<8>();
    let (right_rows, right_rest) = right.as_chunks::<8>();
    for (left, right) in left_rows.iter().zip(right_rows) {
        for ((column, left), right) in columns.iter_mut().zip(left).zip(right) {
            *column += *left * *right;
        }
    }
    for ((column, left), right) in columns.iter_mut().zip(left_rest).zip(right_rest) {
        *column += *left * *right;
    }
    sum(&columns)
}

/// The largest number of a slice, if it has any. Where one is not a number, so is the result, or it is one of the
/// others; the same on every machine.
pub(crate) fn largest<S: Scalar>(values: &[S]) -> Option<S> {
    let larger = |column: &mut S, value: &S| *column = if *value > *column { *value } else { *column };
    let mut columns = [*values.first()?; 8];
    let (rows, rest) = values.as_chunks::<8>();
    for row in rows {
        for (column, value) in columns.iter_mut().zip(row) {
            larger(column, value);
        }
    }
    for (column, value) in columns.iter_mut().zip(rest) {
        larger(column, value);
    }
    let [mut best, others @ ..] = columns;
    others.iter().for_each(|other| larger(&mut best, other));
    Some(best)
}

/// Adds the products of two vectors' elements to `sums`, element by element.
pub(crate) fn add_products<S: Scalar>(sums: &mut [S], left: &[S], right: &[S]) {
    for ((sum, left), right) in sums.iter_mut().zip(left).zip(right) {
        *sum += *left * *right;
    }
}

/// Adds `values` to `sums`, element by element.
pub(crate) fn add<S: Scalar>(sums: &mut [S], values: &[S]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += *value;
    }
}

/// How many rows are added one after the other. In `f32` 262,144 rows of 0.1 come to 2.5 thousandths less than they
/// are; in blocks of 4,096 the error stays that of a block.
const BLOCK_ROWS: usize = 4096;

/// How many columns of such a block are added up side by side, on the stack.
const BLOCK_COLUMNS: usize = 64;

/// Adds a row to the sums that it is given, which are those of a range of columns.
type AddRow<'a, S, const N: usize> = dyn Fn(usize, Range<usize>, &mut [&mut [S]; N]) + 'a;

/// Overwrites each of the vectors `sums`, all of one length, with a sum over rows: the rows of a block in order, then
/// the blocks in order.
///
/// `add` is called through a pointer, so that a browser downloads this once.
pub(crate) fn sum_in_blocks<S: Scalar, const N: usize>(rows: usize, mut sums: [&mut [S]; N], add: &AddRow<'_, S, N>) {
    let columns = sums.first().map_or(0, |sums| sums.len());
    sums.iter_mut().for_each(|sums| sums.fill(S::ZERO));
    if rows <= BLOCK_ROWS {
        return (0..rows).for_each(|row| add(row, 0..columns, &mut sums));
    }
    for first_row in (0..rows).step_by(BLOCK_ROWS) {
        for first_column in (0..columns).step_by(BLOCK_COLUMNS) {
            let columns = first_column..columns.min(first_column + BLOCK_COLUMNS);
            let mut block_sums = [[S::ZERO; BLOCK_COLUMNS]; N];
            let mut block_sums = block_sums.each_mut().map(|sums| &mut sums[..columns.len()]);
            for row in first_row..rows.min(first_row + BLOCK_ROWS) {
                add(row, columns.clone(), &mut block_sums);
            }
            for (sums, block_sums) in sums.iter_mut().zip(&block_sums) {
                self::add(&mut sums[columns.clone()], block_sums);
            }
        }
    }
}

/// Overwrites `sums` with the sums of the columns, [in blocks](sum_in_blocks).
pub(crate) fn sum_rows<S: Scalar>(rows: ArrayView2<'_, S>, sums: ArrayViewMut1<'_, S>) {
    sum_in_blocks(rows.nrows(), [flat_mut(sums)], &|row, columns, [sums]| {
        add(sums, &flat(rows.row(row))[columns]);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::tensor::matrix;

    #[test]
    fn the_largest_is_found_wherever_it_stands() {
        assert_eq!(largest::<f32>(&[]), None);
        for (length, place) in (1..20).flat_map(|length| (0..length).map(move |place| (length, place))) {
            let mut values = vec![-3.0; length];
            values[place] = -2.5;
            assert_eq!(largest(&values), Some(-2.5));
        }
    }

    #[test]
    fn a_dot_product_takes_every_pair_once() {
        for length in 0..40_u16 {
            let values: Vec<f64> = (1..=length).map(f64::from).collect();
            let ones = vec![2.0; values.len()];
            assert_eq!(dot(&values, &ones), f64::from(length) * f64::from(length + 1));
        }
    }

    #[test]
    fn a_sum_adds_every_element_once() {
        for length in 0..40_u16 {
            let values: Vec<f64> = (1..=length).map(f64::from).collect();
            assert_eq!(sum(&values), f64::from(length) * f64::from(length + 1) / 2.0);
        }
    }

    #[test]
    fn the_sum_of_many_rows_is_as_exact_as_that_of_a_few() {
        let (rows, columns) = (262_144, BLOCK_COLUMNS + 3);
        let values = vec![0.1_f32; rows * columns];
        let mut sums = vec![f32::NAN; columns];
        sum_rows(matrix(&values, rows, columns), ArrayViewMut1::from(&mut sums));
        let expected = rows as f64 * f64::from(0.1_f32);
        for sum in sums {
            assert!((f64::from(sum) / expected - 1.0).abs() < 1e-4, "{sum} for {expected}");
        }
    }

    #[test]
    fn a_few_rows_are_added_in_order() {
        let values: Vec<f32> = (0..BLOCK_ROWS).map(|row| 1.0 / (row as f32 + 3.0)).collect();
        let mut sums = [f32::NAN];
        sum_rows(matrix(&values, BLOCK_ROWS, 1), ArrayViewMut1::from(&mut sums));
        assert_eq!(sums[0], values.iter().fold(0.0, |sum, value| sum + value));
    }
}
