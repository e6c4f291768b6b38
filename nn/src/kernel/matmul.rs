//! The matrix product: every layer's heavy work goes through [`matmul`].
//!
//! Both operands are first packed into the order in which the innermost loop reads them, so that a transposed operand
//! costs nothing more than its packing. That loop keeps a tile of 4×8 sums in eight registers of four lanes: larger
//! tiles spill in browsers (6×8 and 4×12 run at 0.6 times the speed; 3×12 fits, but gains in the loop what it loses at
//! its edges), smaller ones leave the adders waiting for each other.
//!
//! Each element of the result is a sum over the depth in ascending order, from zero, in blocks of `DEPTH_BLOCK`; it
//! depends on neither the machine nor the size of the other dimensions.

mod axis;
mod operand;

pub use operand::{Operand, Target};

use operand::{PACKING_SLACK, are_neighbours};

use super::lanes::{LANES, Lanes};
use super::scalar::Scalar;

/// Rows of a tile.
const TILE_ROWS: usize = 4;
/// Registers of lanes in a row of a tile.
const TILE_VECTORS: usize = 2;
const TILE_COLUMNS: usize = TILE_VECTORS * LANES;
/// How much of the depth is multiplied at once. One panel of each operand (16 KiB and 8 KiB) stays in a first-level
/// cache of 32 KiB.
const DEPTH_BLOCK: usize = 512;
/// How many rows of the left operand are packed at once, where they are as deep as a block: 256 KiB, which stays in a
/// second-level cache. Of shallower rows as many more: for each block of rows the right operand is packed again.
const ROW_BLOCK: usize = 128;

/// Whether a product replaces what the result held or is added to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// C = A·B
    Overwrite,
    /// C = C + A·B
    Add,
}

/// The buffers into which operands are packed; of one size for products of every size.
#[derive(Debug)]
pub struct Packing<S> {
    rows: Vec<S>,
    columns: Vec<S>,
    /// Where the numbers of the left operand's rows lie in a block of the depth.
    row_depths: Vec<usize>,
    /// Where those of the right operand's columns lie.
    column_depths: Vec<usize>,
}

impl<S: Scalar> Packing<S> {
    /// Allocates the buffers.
    pub fn new() -> Packing<S> {
        Packing {
            rows: vec![S::ZERO; ROW_BLOCK * DEPTH_BLOCK + PACKING_SLACK],
            columns: vec![S::ZERO; TILE_COLUMNS * DEPTH_BLOCK + PACKING_SLACK],
            row_depths: vec![0; DEPTH_BLOCK],
            column_depths: vec![0; DEPTH_BLOCK],
        }
    }

    /// What the buffers hold.
    pub const BYTES: usize = ((ROW_BLOCK + TILE_COLUMNS) * DEPTH_BLOCK + 2 * PACKING_SLACK) * size_of::<S>()
        + 2 * DEPTH_BLOCK * size_of::<usize>();
}

impl<S: Scalar> Default for Packing<S> {
    fn default() -> Self {
        Packing::new()
    }
}

/// The matrix product C = A·B, or C = C + A·B.
///
/// A: (rows, depth), B: (depth, columns), C: (rows, columns). All are taken as they lie, whatever their strides:
/// transposed ones, parts of larger ones, and [views of more axes](Operand::new).
///
/// # Panics
/// Where the shapes do not fit each other: the caller's error.
pub fn matmul<'a, 'b, 'c, S: Scalar>(
    a: impl Into<Operand<'a, S>>,
    b: impl Into<Operand<'b, S>>,
    c: impl Into<Target<'c, S>>,
    update: Update,
    packing: &mut Packing<S>,
) {
    matmul_of_views(a.into(), b.into(), c.into(), update, packing);
}

/// Compiled once, whatever the operands were made from.
fn matmul_of_views<S: Scalar>(
    a: Operand<'_, S>,
    b: Operand<'_, S>,
    c: Target<'_, S>,
    update: Update,
    packing: &mut Packing<S>,
) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx") {
        // SAFETY: the processor has AVX, which is all that the function asks for.
        return unsafe { matmul_encoded_for_avx(a, b, c, update, packing) };
    }
    matmul_in_lanes::<S, S::Lanes>(a, b, c, update, packing);
}

/// The same operations on the same lanes in AVX's encoding: instructions that leave their operands whole and spread one
/// number from memory over all lanes, as browsers use for WebAssembly. 256³ ran at 51 instead of 38 GFLOP/s.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx")]
fn matmul_encoded_for_avx<S: Scalar>(
    a: Operand<'_, S>,
    b: Operand<'_, S>,
    c: Target<'_, S>,
    update: Update,
    packing: &mut Packing<S>,
) {
    matmul_in_lanes::<S, S::Lanes>(a, b, c, update, packing);
}

/// The product in lanes of the caller's choice, so that a test can compare two kinds bit for bit.
#[inline(always)]
fn matmul_in_lanes<S: Scalar, L: Lanes<Scalar = S>>(
    a: Operand<'_, S>,
    b: Operand<'_, S>,
    mut c: Target<'_, S>,
    update: Update,
    packing: &mut Packing<S>,
) {
    let (rows, depth, columns) = (a.rows.len(), a.columns.len(), b.columns.len());
    assert_eq!(depth, b.rows.len(), "a product's operands have one depth");
    assert_eq!(
        (rows, columns),
        (c.rows, c.columns.len()),
        "a product's result has its rows from the left, its columns from the right"
    );
    let b = b.transposed();
    // Without depth one block of nothing is still multiplied: an overwritten result is zero.
    for depth_start in (0..depth.max(1)).step_by(DEPTH_BLOCK) {
        let block = DEPTH_BLOCK.min(depth - depth_start);
        let depth = depth_start..depth_start + block;
        let row_depths = a.depth_block(depth.clone(), &mut packing.row_depths);
        let column_depths = b.depth_block(depth, &mut packing.column_depths);
        let update = if depth_start == 0 { update } else { Update::Add };
        // A block of the depth may be empty: a product without depth.
        let row_block = ROW_BLOCK * DEPTH_BLOCK / (TILE_ROWS * block.max(1)) * TILE_ROWS;
        for row_start in (0..rows).step_by(row_block) {
            let row_end = rows.min(row_start + row_block);
            for (panel, row) in (row_start..row_end).step_by(TILE_ROWS).enumerate() {
                let panel = &mut packing.rows[panel * TILE_ROWS * block..];
                a.pack::<L, TILE_ROWS>(row, &row_depths, panel);
            }
            for column in (0..columns).step_by(TILE_COLUMNS) {
                b.pack::<L, TILE_COLUMNS>(column, &column_depths, &mut packing.columns);
                let column_panel = &packing.columns[..TILE_COLUMNS * block];
                let width = TILE_COLUMNS.min(columns - column);
                let mut offsets = [0; TILE_COLUMNS];
                let offsets = &mut offsets[..width];
                c.columns.write_offsets(column, offsets);
                let columns_of_tile = TileColumns::new(offsets);
                for (panel, row) in (row_start..row_end).step_by(TILE_ROWS).enumerate() {
                    let row_panel = &packing.rows[panel * TILE_ROWS * block..][..TILE_ROWS * block];
                    let tile = tile::<S, L>(row_panel, column_panel);
                    put(&tile, &mut c, row, &columns_of_tile, update);
                }
            }
        }
    }
}

/// The innermost loop: a tile's sums over one block of the depth.
///
/// `rows`: (depth, `TILE_ROWS`), `columns`: (depth, `TILE_COLUMNS`), both packed. Multiply, then add: never fused. Two
/// slices that are eaten from their fronts become two pointers and one comparison; indices, iterators and unrolling in
/// the source all became more, and slower, in wasm (products of 256×256×256: 35 to 42 instead of 46 GFLOP/s).
#[inline(always)]
fn tile<S: Scalar, L: Lanes<Scalar = S>>(rows: &[S], columns: &[S]) -> [[L; TILE_VECTORS]; TILE_ROWS] {
    let mut sums = [[L::splat(S::ZERO); TILE_VECTORS]; TILE_ROWS];
    let rows = rows.as_chunks::<TILE_ROWS>().0;
    let columns = columns.as_chunks::<LANES>().0.as_chunks::<TILE_VECTORS>().0;
    let (mut rows, mut columns) = (rows, &columns[..rows.len()]);
    while let ([row_values, other_rows @ ..], [column_values, other_columns @ ..]) = (rows, columns) {
        (rows, columns) = (other_rows, other_columns);
        let vectors = column_values.each_ref().map(L::load);
        for (sums, value) in sums.iter_mut().zip(row_values) {
            let value = L::splat(*value);
            for (sum, vector) in sums.iter_mut().zip(vectors) {
                *sum = sum.add(value.mul(vector));
            }
        }
    }
    sums
}

/// Where a tile's columns lie in a row of the result; those beyond the result's last are left out.
struct TileColumns<'a> {
    offsets: &'a [usize],
    /// The first offset of each vector whose columns lie side by side.
    vectors: [Option<usize>; TILE_VECTORS],
}

impl<'a> TileColumns<'a> {
    #[inline(always)]
    fn new(offsets: &'a [usize]) -> Self {
        let mut vectors = [None; TILE_VECTORS];
        for (vector, columns) in vectors.iter_mut().zip(offsets.as_chunks::<LANES>().0) {
            *vector = are_neighbours(columns).then_some(columns[0]);
        }
        TileColumns { offsets, vectors }
    }
}

/// Writes a tile whose first row is `row`, or as much of it as lies inside the result.
#[inline(always)]
fn put<S: Scalar, L: Lanes<Scalar = S>>(
    tile: &[[L; TILE_VECTORS]; TILE_ROWS],
    c: &mut Target<'_, S>,
    row: usize,
    columns: &TileColumns<'_>,
    update: Update,
) {
    let (rows, mut offset) = (c.rows - row, c.row_offset(row));
    for (row, sums) in tile.iter().enumerate() {
        if row >= rows {
            break;
        }
        for (vector, sums) in sums.iter().enumerate() {
            if let Some(first) = columns.vectors[vector] {
                // SAFETY: the vector's columns lie side by side: see `TileColumns`.
                let elements = unsafe { c.elements(offset + first) };
                match update {
                    Update::Overwrite => sums.store(elements),
                    Update::Add => L::load(elements).add(*sums).store(elements),
                }
            } else {
                let mut numbers = [S::ZERO; LANES];
                sums.store(&mut numbers);
                let offsets = columns.offsets.get(vector * LANES..).unwrap_or_default();
                for (column, number) in offsets.iter().zip(numbers) {
                    // SAFETY: one element.
                    let [element] = unsafe { c.elements(offset + column) };
                    match update {
                        Update::Overwrite => *element = number,
                        Update::Add => *element += number,
                    }
                }
            }
        }
        offset = offset.wrapping_add(c.row_stride);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::lanes::{NativeLanes, PlainLanes};
    use crate::kernel::tensor::{matrix, matrix_mut};
    use ndarray::{Array4, ArrayBase, ArrayView2, ArrayView4, Axis, Ix4, RawData, Slice};
    use proptest::prelude::*;

    /// The product that nobody can get wrong, in `f64`.
    fn triple_loop(a: &ArrayView2<'_, f32>, b: &ArrayView2<'_, f32>, c: &mut [f64]) {
        for row in 0..a.nrows() {
            for column in 0..b.ncols() {
                for depth in 0..a.ncols() {
                    c[row * b.ncols() + column] += f64::from(a[[row, depth]]) * f64::from(b[[depth, column]]);
                }
            }
        }
    }

    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    /// Runs both kinds of lanes on one case and compares them with the triple loop and with each other.
    fn check(rows: usize, depth: usize, columns: usize, transposed: [bool; 2], update: Update, seed: u32) {
        let (a, b) = (numbers(rows * depth, seed), numbers(depth * columns, seed ^ 0xabcd));
        let a = if transposed[0] {
            matrix(&a, depth, rows).reversed_axes()
        } else {
            matrix(&a, rows, depth)
        };
        let b = if transposed[1] {
            matrix(&b, columns, depth).reversed_axes()
        } else {
            matrix(&b, depth, columns)
        };
        let before = numbers(rows * columns, !seed);
        let mut expected: Vec<f64> = match update {
            Update::Overwrite => vec![0.0; before.len()],
            Update::Add => before.iter().map(|x| f64::from(*x)).collect(),
        };
        triple_loop(&a, &b, &mut expected);
        let (mut native, mut sse2_or_wasm, mut plain) = (before.clone(), before.clone(), before);
        // What the buffers held before must not matter: not even what is not a number.
        let mut packing = Packing::new();
        packing.rows.fill(f32::NAN);
        packing.columns.fill(f32::NAN);
        matmul(a, b, matrix_mut(&mut native, rows, columns), update, &mut packing);
        let c = matrix_mut(&mut sse2_or_wasm, rows, columns);
        matmul_in_lanes::<f32, NativeLanes>(a.into(), b.into(), c.into(), update, &mut packing);
        let c = matrix_mut(&mut plain, rows, columns);
        matmul_in_lanes::<f32, PlainLanes<f32>>(a.into(), b.into(), c.into(), update, &mut packing);
        let bits = |numbers: &[f32]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&native), bits(&plain), "the lanes differ");
        assert_eq!(bits(&sse2_or_wasm), bits(&plain), "the lanes differ");
        for (native, expected) in native.iter().zip(&expected) {
            let error = (f64::from(*native) - expected).abs();
            assert!(error <= 1e-6 * (depth + 1) as f64, "{native} for {expected}");
        }
    }

    proptest! {
        #[test]
        fn a_product_of_any_size_and_layout_is_the_triple_loops(
            rows in 0..40_usize, depth in 0..40_usize, columns in 0..40_usize,
            transposed in any::<[bool; 2]>(), add in any::<bool>(), seed in any::<u32>(),
        ) {
            check(rows, depth, columns, transposed, if add { Update::Add } else { Update::Overwrite }, seed);
        }
    }

    #[test]
    fn a_product_beyond_one_block_is_the_triple_loops() {
        for transposed in [[false, false], [false, true], [true, false], [true, true]] {
            check(ROW_BLOCK + 3, DEPTH_BLOCK + 5, 13, transposed, Update::Overwrite, 7);
            check(2 * ROW_BLOCK + 1, 2 * DEPTH_BLOCK + 2, 9, transposed, Update::Add, 8);
        }
    }

    #[test]
    fn an_element_does_not_depend_on_the_size_of_the_product_around_it() {
        let (a, b) = (numbers(9 * 100, 1), numbers(100 * 17, 2));
        let mut packing = Packing::new();
        let mut whole = vec![0.0; 9 * 17];
        let c = matrix_mut(&mut whole, 9, 17);
        matmul(
            matrix(&a, 9, 100),
            matrix(&b, 100, 17),
            c,
            Update::Overwrite,
            &mut packing,
        );
        for row in 0..9 {
            let mut alone = vec![0.0; 17];
            let a = matrix(&a[row * 100..][..100], 1, 100);
            matmul(
                a,
                matrix(&b, 100, 17),
                matrix_mut(&mut alone, 1, 17),
                Update::Overwrite,
                &mut packing,
            );
            assert_eq!(alone, whole[row * 17..][..17]);
        }
    }

    /// How a tensor of four axes lies in a larger one: the order of its axes in memory, and for each the step from one
    /// index to the next, forwards or backwards.
    #[derive(Clone, Debug)]
    struct Layout {
        order: Vec<usize>,
        steps: [isize; 4],
    }

    impl Layout {
        fn any() -> impl Strategy<Value = Layout> {
            let order = Just(vec![0, 1, 2, 3]).prop_shuffle();
            let step = prop::sample::select(vec![1, 1, 1, 2, 3, -1, -2]);
            (order, prop::array::uniform4(step)).prop_map(|(order, steps)| Layout { order, steps })
        }

        /// The larger tensor, with its axes in the order in which they lie.
        fn block(&self, sizes: [usize; 4], seed: u32) -> Array4<f32> {
            let size = |axis: usize| sizes[axis] * self.steps[axis].unsigned_abs() + 1;
            let sizes = [0, 1, 2, 3].map(|place| size(self.order[place]));
            Array4::from_shape_vec(sizes, numbers(sizes.iter().product(), seed)).unwrap()
        }

        fn tensor<R: RawData>(&self, block: ArrayBase<R, Ix4>) -> ArrayBase<R, Ix4> {
            let place = |axis| self.order.iter().position(|other| *other == axis).unwrap();
            let mut tensor = block.permuted_axes([0, 1, 2, 3].map(place));
            for (axis, step) in self.steps.into_iter().enumerate() {
                tensor.slice_axis_inplace(Axis(axis), Slice::new(1, None, step));
            }
            tensor
        }
    }

    proptest! {
        #[test]
        fn a_product_takes_any_strided_view(
            layouts in prop::array::uniform3(Layout::any()), sizes in prop::array::uniform6(1..6_usize),
            add in any::<bool>(), seed in any::<u32>(),
        ) {
            let [rows, more_rows, depth, more_depth, columns, more_columns] = sizes;
            let update = if add { Update::Add } else { Update::Overwrite };
            let sizes = [
                [rows, more_rows, depth, more_depth],
                [depth, more_depth, columns, more_columns],
                [rows * more_rows, columns, more_columns, 1],
            ];
            let [a, b, mut c] = [0, 1, 2].map(|place| layouts[place].block(sizes[place], seed ^ place as u32));
            let (a, b) = (layouts[0].tensor(a.view()), layouts[1].tensor(b.view()));
            let (rows, depth, columns) = (rows * more_rows, depth * more_depth, columns * more_columns);
            // The same product of copies that lie row by row.
            let copy = |tensor: ArrayView4<'_, f32>| tensor.iter().copied().collect::<Vec<_>>();
            let mut expected = c.clone();
            let mut result = copy(layouts[2].tensor(c.view()));
            let mut packing = Packing::new();
            matmul(
                matrix(&copy(a), rows, depth),
                matrix(&copy(b), depth, columns),
                matrix_mut(&mut result, rows, columns),
                update,
                &mut packing,
            );
            layouts[2].tensor(expected.view_mut()).iter_mut().zip(&result).for_each(|(place, x)| *place = *x);

            let target = Target::new(layouts[2].tensor(c.view_mut()));
            matmul(Operand::new(a, 2), Operand::new(b, 2), target, update, &mut packing);
            prop_assert_eq!(c, expected);
        }
    }

    #[test]
    #[should_panic(expected = "one depth")]
    fn operands_that_do_not_fit_are_refused() {
        let values = [0.0_f32; 6];
        let c = &mut [0.0; 4];
        matmul(
            matrix(&values, 2, 3),
            matrix(&values, 2, 3),
            matrix_mut(c, 2, 2),
            Update::Add,
            &mut Packing::new(),
        );
    }
}
