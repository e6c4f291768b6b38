//! Views of flat vectors: ndarray's types over memory that belongs to somebody else.

use ndarray::{
    ArrayBase, ArrayView, ArrayView1, ArrayView2, ArrayViewMut, ArrayViewMut1, ArrayViewMut2, Dimension, IntoDimension,
    Ix1, Ix2, RawData,
};

/// A matrix over a flat vector, row by row.
///
/// # Panics
/// Where the vector has another length: the caller's error.
pub fn matrix<S>(values: &[S], rows: usize, columns: usize) -> ArrayView2<'_, S> {
    tensor(values, (rows, columns))
}

/// A matrix to write to, over a flat vector, row by row.
///
/// # Panics
/// Where the vector has another length: the caller's error.
pub fn matrix_mut<S>(values: &mut [S], rows: usize, columns: usize) -> ArrayViewMut2<'_, S> {
    tensor_mut(values, (rows, columns))
}

/// A flat vector in a shape, row-major. Panics where it has another length.
pub(crate) fn tensor<S, I: IntoDimension>(values: &[S], shape: I) -> ArrayView<'_, S, I::Dim> {
    let shape = shape.into_dimension();
    match ArrayView::from_shape(shape.clone(), values) {
        Ok(view) if view.len() == values.len() => view,
        _ => refuse(values.len(), shape.slice()),
    }
}

/// A flat vector in a shape, row-major, to write to. Panics where it has another length.
pub(crate) fn tensor_mut<S, I: IntoDimension>(values: &mut [S], shape: I) -> ArrayViewMut<'_, S, I::Dim> {
    let (shape, length) = (shape.into_dimension(), values.len());
    match ArrayViewMut::from_shape(shape.clone(), values) {
        Ok(view) if view.len() == length => view,
        _ => refuse(length, shape.slice()),
    }
}

/// Takes a tensor off a flat vector's front. Panics where the vector is too short.
pub(crate) fn take<'a, S, I: IntoDimension>(values: &mut &'a [S], shape: I) -> ArrayView<'a, S, I::Dim> {
    let shape = shape.into_dimension();
    match values.split_off(..shape.size()) {
        Some(front) => tensor(front, shape),
        None => refuse(values.len(), shape.slice()),
    }
}

/// Takes a tensor to write to off a flat vector's front. Panics where the vector is too short.
pub(crate) fn take_mut<'a, S, I: IntoDimension>(values: &mut &'a mut [S], shape: I) -> ArrayViewMut<'a, S, I::Dim> {
    let shape = shape.into_dimension();
    match values.split_off_mut(..shape.size()) {
        Some(front) => tensor_mut(front, shape),
        None => refuse(values.len(), shape.slice()),
    }
}

/// A view that lies in one piece, row-major, whatever its axes.
pub(crate) trait OnePiece {
    /// Its numbers one after the other.
    type Line;

    /// What is done to each number alike needs no shape, and [`Zip`](ndarray::Zip) over one axis is a tenth of the code
    /// that it is over any number of them. Panics where the view has gaps or another order.
    fn line(self) -> Self::Line;
}

impl<'a, S, D: Dimension> OnePiece for ArrayView<'a, S, D> {
    type Line = ArrayView1<'a, S>;

    #[inline(never)]
    fn line(self) -> ArrayView1<'a, S> {
        flat(self).into()
    }
}

impl<'a, S, D: Dimension> OnePiece for ArrayViewMut<'a, S, D> {
    type Line = ArrayViewMut1<'a, S>;

    #[inline(never)]
    fn line(self) -> ArrayViewMut1<'a, S> {
        flat_mut(self).into()
    }
}

/// Numbers one after the other, in a shape. Panics where it has another length.
pub(crate) fn shaped<R: RawData, I: IntoDimension>(line: ArrayBase<R, Ix1>, shape: I) -> ArrayBase<R, I::Dim> {
    let (shape, length) = (shape.into_dimension(), line.len());
    match line.into_shape_with_order(shape.clone()) {
        Ok(view) => view,
        Err(_) => refuse(length, shape.slice()),
    }
}

/// A view that lies in one piece, in another shape. Panics where it does not, or has another length.
pub(crate) fn reshaped<R, V, I>(view: V, shape: I) -> ArrayBase<R, I::Dim>
where
    R: RawData,
    V: OnePiece<Line = ArrayBase<R, Ix1>>,
    I: IntoDimension,
{
    shaped(view.line(), shape)
}

/// A view that lies in one piece, as the rows of a matrix with this many columns. Panics where it does not.
pub(crate) fn rows<R: RawData, V: OnePiece<Line = ArrayBase<R, Ix1>>>(view: V, columns: usize) -> ArrayBase<R, Ix2> {
    let line = view.line();
    let rows = line.len() / columns;
    shaped(line, (rows, columns))
}

/// The numbers of a view that lies in one piece, row-major. Panics where it does not.
#[inline]
pub(crate) fn flat<'a, S, D: Dimension>(view: ArrayView<'a, S, D>) -> &'a [S] {
    match view.to_slice() {
        Some(values) => values,
        None => panic!("a view lies in one piece"),
    }
}

/// The numbers to write to of a view that lies in one piece, row-major. Panics where it does not.
#[inline]
pub(crate) fn flat_mut<'a, S, D: Dimension>(view: ArrayViewMut<'a, S, D>) -> &'a mut [S] {
    match view.into_slice() {
        Some(values) => values,
        None => panic!("a view lies in one piece"),
    }
}

#[cold]
fn refuse(length: usize, shape: &[usize]) -> ! {
    panic!("{length} numbers are no tensor of {shape:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "5 numbers are no tensor of [2, 3]")]
    fn a_vector_of_another_length_is_no_matrix() {
        matrix(&[0.0; 5], 2, 3);
    }

    #[test]
    fn tensors_are_taken_off_a_vector_one_after_the_other() {
        let mut values = &[1, 2, 3, 4, 5, 6, 7][..];
        assert_eq!(take(&mut values, (2, 2)), ndarray::arr2(&[[1, 2], [3, 4]]));
        assert_eq!(take(&mut values, 1), ndarray::arr1(&[5]));
        assert_eq!(values, [6, 7]);
    }
}
