//! How the contributions of a superstep become one gradient (DESIGN §4):
//!
//! ```text
//! g = Σ_c w_c · clip(G_c / n_c) / Σ_c w_c      w_c = s(τ_c) · min(n_c, max_read_out_samples)      s(τ) = (1 + τ)^(−a)
//! ```
//!
//! Under local steps G_c is Σ_k n_k · U_k / h_k over the ML modules k of its tab: displacements, each divided by its steps. Then
//! g is multiplied by the mean number of steps h̄ = Σ_c w_c · h_c / Σ_c w_c, where h_c is Σ_k n_k · h_k / n_c: normalised averaging (FedNova,
//! Wang et al., arXiv 2007.07481). So who makes more steps counts by its samples, and does not pull the model to its own optimum.
//!
//! The order is written down: contributions by session and number, and within one the parameters in order. So the result
//! depends on what came in, not on when.

use crate::codec::Encoded;
use crate::message::SessionId;

/// An accepted contribution that waits for its superstep to close.
#[derive(Clone, Debug)]
pub struct Contribution {
    /// The session that it comes from.
    pub session: SessionId,
    /// Its number in the session.
    pub sequence: u64,
    /// n_c, the samples in its sum; not zero.
    pub samples: u64,
    /// v_c, the mean version that it was computed on.
    pub version: f64,
    /// h_c, the mean number of local steps over its samples; 1 without local steps.
    pub steps: f64,
    /// G_c, the sum of its gradients, as it arrived.
    pub gradient: Encoded,
}

/// How contributions are weighed and clipped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weighting {
    /// a in s(τ) = (1 + τ)^(−a).
    pub staleness_exponent: f64,
    /// More samples than this weigh no more.
    pub max_read_out_samples: u64,
    /// The norm of a mean gradient is bounded at this multiple of its running median; 0 bounds nothing.
    pub clip: f64,
}

/// Combines the contributions of one superstep after the other.
#[derive(Clone, Debug)]
pub struct Combiner {
    weighting: Weighting,
    norms: NormHistory,
    /// One contribution, decoded.
    decoded: Vec<f32>,
}

/// The last norms of mean gradients, for their running median.
#[derive(Clone, Debug, Default)]
struct NormHistory {
    last: Vec<f64>,
    next: usize,
}

/// Norms that the running median is taken over: long enough to be steady, short enough to follow the training.
const NORMS: usize = 64;
/// Below this many norms the median means too little to clip by.
const NORMS_BEFORE_CLIPPING: usize = 8;

impl NormHistory {
    fn push(&mut self, norm: f64) {
        if self.last.len() < NORMS {
            self.last.push(norm);
        } else {
            self.last[self.next] = norm;
            self.next = (self.next + 1) % NORMS;
        }
    }

    fn median(&self) -> Option<f64> {
        (self.last.len() >= NORMS_BEFORE_CLIPPING).then(|| {
            let mut sorted = self.last.clone();
            sorted.sort_by(f64::total_cmp);
            sorted[sorted.len() / 2]
        })
    }
}

/// s(τ) = (1 + τ)^(−a): what a contribution of staleness τ weighs.
pub fn staleness_weight(staleness: f64, exponent: f64) -> f64 {
    libm::pow(1.0 + staleness.max(0.0), -exponent)
}

impl Combiner {
    /// For a model of `parameters` parameters.
    pub fn new(weighting: Weighting, parameters: usize) -> Combiner {
        Combiner {
            weighting,
            norms: NormHistory::default(),
            decoded: vec![0.0; parameters],
        }
    }

    /// The combined gradient of the superstep that makes a model out of version `version`, into `gradient`.
    ///
    /// Sorts `contributions` by session and number. With one contribution that is neither stale nor clipped the result is
    /// exactly `G · (1 / n)`, the textbook minibatch gradient.
    pub fn combine(&mut self, contributions: &mut [Contribution], version: u64, gradient: &mut [f32]) {
        contributions.sort_by_key(|contribution| (contribution.session, contribution.sequence));
        let Weighting {
            staleness_exponent,
            max_read_out_samples,
            clip,
        } = self.weighting;
        let weight = |contribution: &Contribution| {
            let staleness = version as f64 - contribution.version;
            staleness_weight(staleness, staleness_exponent) * contribution.samples.min(max_read_out_samples) as f64
        };
        let weights: f64 = contributions.iter().map(weight).sum();
        let steps: f64 = contributions.iter().map(|of| weight(of) * of.steps).sum();
        let mean_steps = steps / weights;
        gradient.fill(0.0);
        for (index, contribution) in contributions.iter().enumerate() {
            let samples = contribution.samples as f64;
            contribution
                .gradient
                .decode_into(&mut self.decoded, |slot, value| *slot = value);
            let share = weight(contribution) / weights;
            let bound = self.norms.bound(clip, || norm(&self.decoded) / samples);
            let scale = (share * bound / samples * mean_steps) as f32;
            let values = gradient.iter_mut().zip(&self.decoded);
            if index == 0 {
                values.for_each(|(sum, value)| *sum = value * scale);
            } else {
                values.for_each(|(sum, value)| *sum += value * scale);
            }
        }
    }
}

impl NormHistory {
    /// The factor that bounds a contribution's norm at a multiple of the median, and one more norm in the history.
    fn bound(&mut self, multiple: f64, norm: impl FnOnce() -> f64) -> f64 {
        if multiple == 0.0 {
            return 1.0;
        }
        let norm = norm();
        let factor = match self.median() {
            Some(median) if norm > multiple * median && norm > 0.0 => multiple * median / norm,
            _ => 1.0,
        };
        // A huge norm counts as one just at the bound: the median moves only where most norms do.
        self.push(norm * factor);
        factor
    }
}

/// The Euclidean norm, in eight lanes that are added in order at the end: a fixed order that vectorises.
fn norm(gradient: &[f32]) -> f64 {
    const LANES: usize = 8;
    let mut squares = [0.0f64; LANES];
    let (blocks, rest) = gradient.as_chunks::<LANES>();
    for block in blocks.iter().map(<[f32; LANES]>::as_slice).chain([rest]) {
        for (square, value) in squares.iter_mut().zip(block) {
            *square += f64::from(*value) * f64::from(*value);
        }
    }
    libm::sqrt(squares.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Codec;

    const PLAIN: Weighting = Weighting {
        staleness_exponent: 0.5,
        max_read_out_samples: 1 << 20,
        clip: 0.0,
    };

    fn contribution(session: u64, samples: u64, version: f64, gradient: &[f32]) -> Contribution {
        let bytes: Vec<u8> = gradient.iter().flat_map(|value| value.to_le_bytes()).collect();
        Contribution {
            session: SessionId(session),
            sequence: 1,
            samples,
            version,
            steps: 1.0,
            gradient: Encoded::new(Codec::F32, bytes.into(), gradient.len()).unwrap(),
        }
    }

    fn combined(mut contributions: Vec<Contribution>, version: u64, weighting: Weighting) -> Vec<f32> {
        let parameters = contributions[0].gradient.count();
        let mut gradient = vec![f32::NAN; parameters];
        Combiner::new(weighting, parameters).combine(&mut contributions, version, &mut gradient);
        gradient
    }

    #[test]
    fn displacements_count_by_their_samples_and_the_step_is_as_long_as_the_mean_number_of_steps() {
        // One ML module made 2 steps of 1 each, the other 8 steps of 3 each; each step took 10 samples.
        let few = Contribution {
            steps: 2.0,
            ..contribution(1, 20, 0.0, &[20.0 * 2.0 / 2.0])
        };
        let many = Contribution {
            steps: 8.0,
            ..contribution(2, 80, 0.0, &[80.0 * 24.0 / 8.0])
        };
        // h̄ = (20·2 + 80·8) / 100 = 6.8; the mean step is (20·1 + 80·3) / 100 = 2.6.
        let moved = combined(vec![few, many], 0, PLAIN)[0];
        assert!((moved - 6.8 * 2.6).abs() < 1e-5, "{moved}");
    }

    #[test]
    fn one_fresh_contribution_gives_exactly_the_textbook_gradient() {
        let sum = [0.1f32, -7.3, 1e-20, 5.0];
        let expected = sum.map(|value| value * (1.0f32 / 96.0));
        assert_eq!(combined(vec![contribution(1, 96, 4.0, &sum)], 4, PLAIN), expected);
    }

    #[test]
    fn samples_weigh_alike_whoever_computed_them() {
        let both = vec![contribution(1, 1, 0.0, &[2.0]), contribution(2, 3, 0.0, &[18.0])];
        assert_eq!(combined(both, 0, PLAIN), [5.0]);
    }

    #[test]
    fn a_stale_contribution_weighs_less() {
        let both = vec![contribution(1, 1, 3.0, &[0.0]), contribution(2, 1, 0.0, &[3.0])];
        // s(0) = 1, s(3) = 1/2: a third of the weight is the stale one's.
        assert_eq!(combined(both, 3, PLAIN), [1.0]);
    }

    #[test]
    fn the_order_of_arrival_changes_no_bit() {
        let contributions: Vec<_> = (1..=5)
            .map(|session| contribution(session, session * 7, 0.0, &[0.1 * session as f32, 1.0 / session as f32]))
            .collect();
        let mut reversed = contributions.clone();
        reversed.reverse();
        assert_eq!(combined(contributions, 2, PLAIN), combined(reversed, 2, PLAIN));
    }

    #[test]
    fn a_contribution_far_out_of_the_ordinary_is_bounded_by_the_running_median() {
        let weighting = Weighting { clip: 3.0, ..PLAIN };
        let mut combiner = Combiner::new(weighting, 1);
        let mut gradient = [0.0];
        for _ in 0..NORMS_BEFORE_CLIPPING {
            combiner.combine(&mut [contribution(1, 2, 0.0, &[2.0])], 0, &mut gradient);
            assert_eq!(gradient, [1.0]);
        }
        for _ in 0..2 * NORMS {
            combiner.combine(&mut [contribution(1, 2, 0.0, &[2e9])], 0, &mut gradient);
        }
        assert!(gradient[0] > 1.0, "clipped, not refused");
        let unclipped = combined(vec![contribution(1, 1, 0.0, &[1e9])], 0, weighting);
        assert_eq!(unclipped, [1e9], "nothing to compare with: not clipped");
    }

    #[test]
    fn a_norm_counts_every_value_once() {
        let values: Vec<f32> = (1..=11).map(|value| value as f32).collect();
        assert_eq!(norm(&values), libm::sqrt(506.0));
    }
}
