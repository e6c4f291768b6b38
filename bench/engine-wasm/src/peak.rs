//! Multiplications and additions in registers alone, which no product can be faster than.

use std::hint::black_box;

use nn::kernel::lanes::{LANES, Lanes, NativeLanes};
use wasm_bindgen::prelude::*;

/// Each waits for its own multiplication and addition, six to eight cycles; thirteen keep two multipliers and two
/// adders busy meanwhile. With two constants and what a browser keeps for itself, more do not fit into sixteen
/// registers.
const ACCUMULATORS: usize = 13;

/// A loop without memory.
#[wasm_bindgen]
pub struct Peak {
    turns: usize,
}

#[wasm_bindgen]
impl Peak {
    /// A step multiplies and adds at least `operations` times.
    #[wasm_bindgen(constructor)]
    pub fn new(operations: usize) -> Peak {
        Peak {
            turns: operations.div_ceil(Peak::operations_of_a_turn()),
        }
    }

    /// What a step does: multiplications and additions.
    pub fn units(&self) -> f64 {
        (self.turns * Peak::operations_of_a_turn()) as f64
    }

    /// Multiplies, then adds, as the product does: never fused.
    pub fn step(&mut self) {
        // Below 1 in every lane, so that the sums stay finite, and not known to the compiler.
        let (factor, value) = (NativeLanes::splat(black_box(0.5)), NativeLanes::splat(black_box(0.25)));
        let mut sums = [NativeLanes::splat(black_box(1.0)); ACCUMULATORS];
        for _ in 0..self.turns {
            for sum in &mut sums {
                *sum = sum.mul(factor).add(value);
            }
        }
        let mut values = [[0.0; LANES]; ACCUMULATORS];
        for (sum, values) in sums.iter().zip(&mut values) {
            sum.store(values);
        }
        black_box(values);
    }
}

impl Peak {
    /// A multiplication and an addition in each lane of each accumulator.
    const fn operations_of_a_turn() -> usize {
        2 * LANES * ACCUMULATORS
    }
}
