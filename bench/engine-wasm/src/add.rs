//! A gradient's way into the shared aggregate, and the one without a lease: compare-and-swap on each float.

use std::sync::atomic::{AtomicU32, Ordering};

use bsp::shared_memory::{Gradient, LocalSide, MlSide, ModelStamp, shared_memory};
use wasm_bindgen::prelude::*;

/// Small enough that the sums stay finite however often it is added.
const VALUE: f32 = 1e-3;

/// Adding under the lease, as an ML module does: check, lease, sum.
#[wasm_bindgen]
pub struct LeasedAdd {
    _local: LocalSide,
    side: MlSide,
    gradient: Vec<f32>,
    steps: u64,
}

#[wasm_bindgen]
impl LeasedAdd {
    /// The aggregate of one ML module, for gradients of this many floats.
    ///
    /// # Errors
    /// A shared memory without an ML module, which there is not.
    #[wasm_bindgen(constructor)]
    pub fn new(floats: usize) -> Result<LeasedAdd, String> {
        let (local, sides) = shared_memory(floats, 1);
        Ok(LeasedAdd {
            _local: local,
            side: sides.into_iter().next().ok_or("no ML module")?,
            gradient: vec![VALUE; floats],
            steps: 0,
        })
    }

    /// What a step does: floats.
    pub fn units(&self) -> f64 {
        self.gradient.len() as f64
    }

    /// Adds a gradient.
    ///
    /// # Errors
    /// A gradient that is refused.
    pub fn step(&mut self) -> Result<(), String> {
        let gradient = Gradient {
            stamp: ModelStamp::default(),
            step: self.steps,
            samples: 1,
            loss_sum: 0.0,
        };
        self.steps += 1;
        self.side
            .add(&self.gradient, gradient)
            .map(|_read_out| ())
            .map_err(|error| error.to_string())
    }
}

/// Adding without a lease: each float by compare-and-swap.
#[wasm_bindgen]
pub struct SwappedAdd {
    sum: Vec<AtomicU32>,
    gradient: Vec<f32>,
}

#[wasm_bindgen]
impl SwappedAdd {
    /// A sum of this many floats.
    #[wasm_bindgen(constructor)]
    pub fn new(floats: usize) -> SwappedAdd {
        SwappedAdd {
            sum: (0..floats).map(|_| AtomicU32::new(0)).collect(),
            gradient: vec![VALUE; floats],
        }
    }

    /// What a step does: floats.
    pub fn units(&self) -> f64 {
        self.gradient.len() as f64
    }

    /// Adds a gradient.
    pub fn step(&mut self) {
        for (sum, value) in self.sum.iter().zip(&self.gradient) {
            let mut old = sum.load(Ordering::Relaxed);
            loop {
                let new = (f32::from_bits(old) + value).to_bits();
                // Relaxed: only the sums matter here, and nobody reads them.
                match sum.compare_exchange_weak(old, new, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => break,
                    Err(now) => old = now,
                }
            }
        }
    }
}
