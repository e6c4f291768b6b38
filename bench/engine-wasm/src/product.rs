//! A matrix product, which a gradient's time goes to.

use nn::kernel::tensor::{matrix, matrix_mut};
use nn::kernel::{Packing, Update, matmul};
use wasm_bindgen::prelude::*;

use crate::numbers::numbers;

/// C = A·B, of which either operand may lie as its transpose.
#[wasm_bindgen]
pub struct Product {
    a: Vec<f32>,
    b: Vec<f32>,
    c: Vec<f32>,
    rows: usize,
    depth: usize,
    columns: usize,
    is_a_transposed: bool,
    is_b_transposed: bool,
    repeats: usize,
    packing: Packing<f32>,
}

#[wasm_bindgen]
impl Product {
    /// A product of this size; a step does it `repeats` times, so that the call is no part of a small one's time.
    #[wasm_bindgen(constructor)]
    pub fn new(
        rows: usize,
        depth: usize,
        columns: usize,
        is_a_transposed: bool,
        is_b_transposed: bool,
        repeats: usize,
    ) -> Product {
        Product {
            a: numbers(rows * depth, 1),
            b: numbers(depth * columns, 2),
            c: vec![0.0; rows * columns],
            rows,
            depth,
            columns,
            is_a_transposed,
            is_b_transposed,
            repeats,
            packing: Packing::new(),
        }
    }

    /// What a step does: multiplications and additions.
    pub fn units(&self) -> f64 {
        (2 * self.rows * self.depth * self.columns * self.repeats) as f64
    }

    /// Computes it.
    pub fn step(&mut self) {
        let Product {
            rows, depth, columns, ..
        } = *self;
        for _ in 0..self.repeats {
            let a = if self.is_a_transposed {
                matrix(&self.a, depth, rows).reversed_axes()
            } else {
                matrix(&self.a, rows, depth)
            };
            let b = if self.is_b_transposed {
                matrix(&self.b, columns, depth).reversed_axes()
            } else {
                matrix(&self.b, depth, columns)
            };
            let c = matrix_mut(&mut self.c, rows, columns);
            matmul(a, b, c, Update::Overwrite, &mut self.packing);
        }
    }
}
