//! Whole models against PyTorch: names, shapes, losses, answers and every gradient. The values were made by
//! `golden/make_golden.py`.

use nn::loss::Answers;
use nn::{Minibatch, Model, ModelSpec, Targets};
use serde::Deserialize;

/// The largest error of a tensor's gradient that is accepted, as a share of that tensor's largest number. PyTorch's
/// values are double precision's; ours are sums of up to a few hundred products in single precision.
const TOLERANCE: f32 = 1e-5;

#[derive(Deserialize)]
struct Golden {
    models: Vec<GoldenModel>,
}

#[derive(Deserialize)]
struct GoldenModel {
    name: String,
    spec: ModelSpec,
    inputs: Vec<f32>,
    /// Classes or numbers, as the loss needs them.
    targets: Vec<f32>,
    loss_sum: f64,
    correct: Option<f64>,
    parameters: Vec<GoldenTensor>,
}

#[derive(Deserialize)]
struct GoldenTensor {
    name: String,
    shape: Vec<usize>,
    values: Vec<f32>,
    gradient: Vec<f32>,
}

#[test]
fn whole_models_have_pytorchs_losses_and_gradients() {
    let golden: Golden = serde_json::from_str(include_str!("golden/models.json")).unwrap();
    assert_eq!(golden.models.len(), 13);
    for golden in &golden.models {
        let name = &golden.name;
        let model = Model::new(&golden.spec).unwrap();
        let named: Vec<_> = model.parameters().iter().map(|p| (&p.name, &p.shape)).collect();
        assert_eq!(
            named,
            golden
                .parameters
                .iter()
                .map(|p| (&p.name, &p.shape))
                .collect::<Vec<_>>(),
            "{name}"
        );

        let parameters: Vec<f32> = golden
            .parameters
            .iter()
            .flat_map(|p| p.values.iter().copied())
            .collect();
        let classes: Vec<u32> = golden.targets.iter().map(|target| *target as u32).collect();
        let batch = Minibatch {
            inputs: &golden.inputs,
            targets: match model.answers() {
                Answers::Classes { .. } => Targets::Classes(&classes),
                Answers::Values { .. } | Answers::Logits { .. } => Targets::Values(&golden.targets),
            },
            key: None,
        };
        let samples = golden.inputs.len() / model.inputs();
        let mut gradient = vec![f32::NAN; model.parameter_count()];
        let mut scratch = model.scratch(samples);
        let outcome = model.gradient(&parameters, &batch, &mut gradient, &mut scratch);
        assert_eq!(outcome.samples, samples);
        assert!(
            (outcome.loss_sum / golden.loss_sum - 1.0).abs() < 1e-6,
            "{name}: {outcome:?}"
        );
        let evaluation = model.evaluate(&parameters, &batch, &mut model.evaluation_scratch(samples));
        assert_eq!(
            (evaluation.loss_sum, evaluation.correct.map(|correct| correct as f32)),
            (outcome.loss_sum, golden.correct.map(|correct| correct as f32)),
            "{name}"
        );

        for (tensor, golden) in model.parameters().iter().zip(&golden.parameters) {
            let ours = model.view(tensor, &gradient).unwrap();
            let largest = golden.gradient.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
            assert!(
                largest > 0.0,
                "{name}, {}: a gradient of zeros checks nothing",
                tensor.name
            );
            for (index, (ours, theirs)) in ours.iter().zip(&golden.gradient).enumerate() {
                let error = (ours - theirs).abs();
                assert!(
                    error <= TOLERANCE * largest,
                    "{name}, {} [{index}]: {ours} for {theirs}",
                    tensor.name
                );
            }
        }
    }
}
