//! The ML module's mathematics: what a gradient is computed with, in a browser tab and natively alike.
//!
//! A model is its description ([`spec`]) and one flat vector of parameters; [`model`] fits the layers to each other,
//! names the vector's tensors and computes gradients. All heavy work goes through one matrix product ([`kernel`]).
//! Nothing here does I/O, reads a clock, starts a thread or allocates after warm-up, and everything gives the same
//! bits on every machine: operations have one written order, `exp` and its like are our own or `libm`'s, and random
//! numbers are counter-based.
//!
//! From the outside in: what a run file says, the model, what it is trained with, its data, its arithmetic.

pub mod model;
pub mod spec;

pub mod layer;
pub mod loss;
mod parameters;
pub mod scratch;
mod shape;

pub mod optimizer;

pub mod data;

pub mod kernel;

pub mod extent;
mod fnv1a;
pub mod random;
mod whole;

pub use data::minibatch::{Minibatch, Targets};
pub use layer::LayerSpec;
pub use loss::LossSpec;
pub use model::{Evaluation, EvaluationScratch, Model, Outcome, Parameter, SpecError};
pub use scratch::Scratch;
pub use spec::ModelSpec;
