//! The optimizers take the same steps as PyTorch's: compared with golden/optimizer.json, which
//! golden/make_optimizer_golden.py made.

use nn::optimizer::{Optimizer, OptimizerSpec};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    learning_rates: Vec<f32>,
    start: Vec<f32>,
    gradients: Vec<Vec<f32>>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    spec: OptimizerSpec,
    /// The parameters after every step.
    parameters: Vec<Vec<f32>>,
}

/// PyTorch orders some of the same operations differently, so the last bits may differ; more must not. Relative to the
/// larger of the parameter and the distance that it has come, because a parameter near 0 is a difference of larger
/// numbers.
const TOLERANCE: f32 = 2e-6;

#[test]
fn every_optimizer_takes_the_steps_of_its_namesake_in_pytorch() {
    let golden: Golden = serde_json::from_str(include_str!("golden/optimizer.json")).unwrap();
    assert_eq!(golden.cases.len(), 11);
    for case in golden.cases {
        let mut parameters = golden.start.clone();
        let mut optimizer = Optimizer::new(&case.spec, parameters.len());
        assert_eq!(case.parameters.len(), golden.gradients.len());
        for (step, expected) in case.parameters.iter().enumerate() {
            optimizer.step(&mut parameters, &golden.gradients[step], golden.learning_rates[step]);
            for (index, (&ours, &theirs)) in parameters.iter().zip(expected).enumerate() {
                let size = theirs.abs().max((theirs - golden.start[index]).abs());
                assert!(
                    (ours - theirs).abs() <= TOLERANCE * size,
                    "{:?}, step {step}, parameter {index}: {ours}, in PyTorch {theirs}",
                    case.spec
                );
            }
        }
    }
}
