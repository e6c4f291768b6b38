//! Whole models against PyTorch: names, shapes, losses, answers and every gradient. The values were made by
//! `golden/make_golden.py`.

use nn::{Minibatch, Model, ModelSpec};
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
    labels: Vec<u32>,
    loss_sum: f64,
    correct: usize,
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
    assert_eq!(golden.models.len(), 10);
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
        let batch = Minibatch {
            inputs: &golden.inputs,
            labels: &golden.labels,
            key: None,
        };
        let mut gradient = vec![f32::NAN; model.parameter_count()];
        let mut scratch = model.scratch(batch.labels.len());
        let outcome = model.gradient(&parameters, &batch, &mut gradient, &mut scratch);
        assert_eq!(outcome.samples, batch.labels.len());
        assert!(
            (outcome.loss_sum / golden.loss_sum - 1.0).abs() < 1e-6,
            "{name}: {outcome:?}"
        );
        let evaluation = model.evaluate(&parameters, &batch, &mut scratch);
        assert_eq!(
            (evaluation.loss_sum, evaluation.correct),
            (outcome.loss_sum, golden.correct),
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
