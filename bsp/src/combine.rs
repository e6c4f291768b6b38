//! How the contributions of a superstep become one gradient (DESIGN §4):
//!
//! ```text
//! g = Σ_c w_c · clip(G_c / n_c) / Σ_c w_c      w_c = s(τ_c) · min(n_c, max_read_out_samples)      s(τ) = (1 + τ)^(−a)
//! ```
//!
//! The order is written down: contributions by session and number, and within one the parameters in order. So the result
//! depends on what came in, not on when.

use bytes::Bytes;

use crate::message::{SessionId, floats};

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
    /// G_c, the sum of its gradients: little-endian f32, as it arrived.
    pub gradient: Bytes,
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

/// The last norms of mean gradients, for their running median.
#[derive(Clone, Debug, Default)]
pub struct NormHistory {
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

/// The combined gradient of the superstep that makes a model out of version `version`, into `gradient`.
///
/// Sorts `contributions` by session and number. With one contribution that is neither stale nor clipped the result is
/// exactly `G · (1 / n)`, the textbook minibatch gradient.
pub fn combine(
    contributions: &mut [Contribution],
    version: u64,
    weighting: Weighting,
    norms: &mut NormHistory,
    gradient: &mut [f32],
) {
    contributions.sort_by_key(|contribution| (contribution.session, contribution.sequence));
    let weight = |contribution: &Contribution| {
        let staleness = version as f64 - contribution.version;
        staleness_weight(staleness, weighting.staleness_exponent)
            * contribution.samples.min(weighting.max_read_out_samples) as f64
    };
    let weights: f64 = contributions.iter().map(weight).sum();
    gradient.fill(0.0);
    for (index, contribution) in contributions.iter().enumerate() {
        let share = weight(contribution) / weights;
        let scale = share * clip(contribution, weighting.clip, norms) / contribution.samples as f64;
        let scale = scale as f32;
        let values = gradient.iter_mut().zip(floats(&contribution.gradient));
        if index == 0 {
            values.for_each(|(sum, value)| *sum = value * scale);
        } else {
            values.for_each(|(sum, value)| *sum += value * scale);
        }
    }
}

/// The factor that bounds this contribution's norm, and one more norm in the history.
fn clip(contribution: &Contribution, multiple: f64, norms: &mut NormHistory) -> f64 {
    if multiple == 0.0 {
        return 1.0;
    }
    let norm = norm(&contribution.gradient) / contribution.samples as f64;
    let factor = match norms.median() {
        Some(median) if norm > multiple * median && norm > 0.0 => multiple * median / norm,
        _ => 1.0,
    };
    // A huge norm counts as one just at the bound: the median moves only where most norms do.
    norms.push(norm * factor);
    factor
}

/// The Euclidean norm, in eight lanes that are added in order at the end: a fixed order that vectorises.
fn norm(gradient: &[u8]) -> f64 {
    const LANES: usize = 8;
    let mut squares = [0.0f64; LANES];
    let (blocks, rest) = gradient.as_chunks::<{ LANES * 4 }>();
    for block in blocks {
        for (square, value) in squares.iter_mut().zip(floats(block)) {
            *square += f64::from(value) * f64::from(value);
        }
    }
    for (square, value) in squares.iter_mut().zip(floats(rest)) {
        *square += f64::from(value) * f64::from(value);
    }
    libm::sqrt(squares.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

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
            gradient: bytes.into(),
        }
    }

    fn combined(mut contributions: Vec<Contribution>, version: u64, weighting: Weighting) -> Vec<f32> {
        let parameters = contributions[0].gradient.len() / 4;
        let mut gradient = vec![f32::NAN; parameters];
        combine(
            &mut contributions,
            version,
            weighting,
            &mut NormHistory::default(),
            &mut gradient,
        );
        gradient
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
        let mut norms = NormHistory::default();
        let mut gradient = [0.0];
        for _ in 0..NORMS_BEFORE_CLIPPING {
            combine(
                &mut [contribution(1, 2, 0.0, &[2.0])],
                0,
                weighting,
                &mut norms,
                &mut gradient,
            );
            assert_eq!(gradient, [1.0]);
        }
        for _ in 0..2 * NORMS {
            combine(
                &mut [contribution(1, 2, 0.0, &[2e9])],
                0,
                weighting,
                &mut norms,
                &mut gradient,
            );
        }
        assert!(gradient[0] > 1.0, "clipped, not refused");
        combine(
            &mut [contribution(1, 1, 0.0, &[1e9])],
            0,
            weighting,
            &mut NormHistory::default(),
            &mut gradient,
        );
        assert_eq!(gradient, [1e9], "nothing to compare with: not clipped");
    }

    #[test]
    fn a_norm_counts_every_value_once() {
        let values: Vec<u8> = (1..=11).flat_map(|value| (value as f32).to_le_bytes()).collect();
        assert_eq!(norm(&values), libm::sqrt(506.0));
    }
}
