//! A model's gradient, as an ML module computes it.

use nn::loss::Answers;
use nn::{Minibatch, Model, ModelSpec, Scratch, Targets};
use wasm_bindgen::prelude::*;

use crate::numbers::numbers;

/// A model with a minibatch of random numbers.
#[wasm_bindgen]
pub struct GradientStep {
    model: Model,
    parameters: Vec<f32>,
    batch: usize,
    inputs: Vec<f32>,
    classes: Vec<u32>,
    gradient: Vec<f32>,
    scratch: Scratch,
}

#[wasm_bindgen]
impl GradientStep {
    /// The model that `spec` describes, in JSON, and a minibatch for it.
    ///
    /// # Errors
    /// What is wrong with the description, in words.
    #[wasm_bindgen(constructor)]
    pub fn new(spec: &str, batch: usize, seed: u32) -> Result<GradientStep, String> {
        let spec: ModelSpec = serde_json::from_str(spec).map_err(|error| error.to_string())?;
        let model = Model::new(&spec).map_err(|error| error.to_string())?;
        let Answers::Classes { positions, classes } = model.answers() else {
            return Err("the model has no classes".to_owned());
        };
        Ok(GradientStep {
            batch,
            parameters: model.initial_parameters(seed.into()),
            inputs: inputs(&model, batch, seed),
            classes: (0..batch * positions)
                .map(|position| (position % classes) as u32)
                .collect(),
            gradient: vec![0.0; model.parameter_count()],
            scratch: model.scratch(batch),
            model,
        })
    }

    /// Forward and backward; all gradients lie at `address` afterwards.
    pub fn step(&mut self) {
        let minibatch = Minibatch {
            inputs: &self.inputs,
            targets: Targets::Classes(&self.classes),
            key: None,
        };
        self.model
            .gradient(&self.parameters, &minibatch, &mut self.gradient, &mut self.scratch);
    }

    /// What a step does: samples.
    pub fn units(&self) -> f64 {
        self.batch as f64
    }

    /// Where the gradients lie in the module's memory.
    pub fn address(&self) -> *const f32 {
        self.gradient.as_ptr()
    }

    /// How many floats they are.
    pub fn length(&self) -> usize {
        self.gradient.len()
    }
}

/// Numbers between -1 and 1, or tokens where the model takes them.
fn inputs(model: &Model, batch: usize, seed: u32) -> Vec<f32> {
    let mut inputs = numbers(batch * model.inputs(), seed);
    if let Some(tokens) = model.tokens() {
        for (place, input) in inputs.iter_mut().enumerate() {
            *input = (place * 37 % tokens) as f32;
        }
    }
    inputs
}
