//! Sums in one written order.

use super::scalar::Scalar;
use ndarray::{ArrayView2, ArrayViewMut1, Axis};

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

/// Adds `values` to `sums`, element by element.
pub(crate) fn add<S: Scalar>(sums: &mut [S], values: &[S]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += *value;
    }
}

/// How many rows are added one after the other. In `f32` 262,144 rows of 0.1 come to 2.5 thousandths less than they
/// are; in blocks of so many the error stays that of a block.
const ROWS_OF_A_SUM: usize = 4096;

/// How many columns of such a block are added up side by side, on the stack.
const COLUMNS_OF_A_SUM: usize = 64;

/// Overwrites `sums` with the sums of the columns: the rows of a block in order, then the blocks in order.
pub(crate) fn sum_rows<S: Scalar>(rows: ArrayView2<'_, S>, mut sums: ArrayViewMut1<'_, S>) {
    sums.fill(S::ZERO);
    if rows.nrows() <= ROWS_OF_A_SUM {
        return rows.rows().into_iter().for_each(|row| sums += &row);
    }
    for block in rows.axis_chunks_iter(Axis(0), ROWS_OF_A_SUM) {
        let columns = block.axis_chunks_iter(Axis(1), COLUMNS_OF_A_SUM);
        for (block, mut sums) in columns.zip(sums.axis_chunks_iter_mut(Axis(0), COLUMNS_OF_A_SUM)) {
            let mut of_block = [S::ZERO; COLUMNS_OF_A_SUM];
            let mut of_block = ArrayViewMut1::from(&mut of_block[..sums.len()]);
            block.rows().into_iter().for_each(|row| of_block += &row);
            sums += &of_block;
        }
    }
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
        let (rows, columns) = (262_144, COLUMNS_OF_A_SUM + 3);
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
        let values: Vec<f32> = (0..ROWS_OF_A_SUM).map(|row| 1.0 / (row as f32 + 3.0)).collect();
        let mut sums = [f32::NAN];
        sum_rows(matrix(&values, ROWS_OF_A_SUM, 1), ArrayViewMut1::from(&mut sums));
        assert_eq!(sums[0], values.iter().fold(0.0, |sum, value| sum + value));
    }
}
