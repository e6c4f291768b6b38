//! How the contributions of a superstep become one gradient (docs/internals/supersteps.md):
//!
//! ```text
//! g = Σ_c w_c · clip(G_c / n_c) / Σ_c w_c      w_c = s(τ_c) · min(n_c, max_read_out_samples)      s(τ) = (1 + τ)^(−a)
//! ```
//!
//! Under local steps G_c is Σ_k n_k · U_k / h_k over the ML modules k of its tab: displacements, each divided by its
//! steps. Then g is multiplied by the mean number of steps h̄ = Σ_s w_s · h_s / Σ_s w_s over sessions s. Here h_s is
//! the sum of Σ_k n_k · h_k / n_c over the session's contributions c, and w_s the sum of their weights. (A session's
//! contributions follow each other, so their steps add up.) This is normalised averaging (FedNova, Wang et al., arXiv
//! 2007.07481): a volunteer that makes more steps counts by its samples, and does not pull the model to its own
//! optimum.
//!
//! A volunteer's claims are bounded by usual values: the norm of a mean gradient by the last norms, the steps of a
//! session by the last steps of the other sessions.
//!
//! The order is fixed: contributions by session and number, and the parameters of each in order. So the result depends
//! on which contributions came in, not on when.

use serde::{Deserialize, Serialize};

use crate::estimators::RunningQuantile;
use crate::protocol::codec::Encoded;
use crate::protocol::message::SessionId;

/// An admitted contribution, until its superstep closes.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// The session that it comes from.
    pub session: SessionId,
    /// Its number in the session.
    pub sequence: u64,
    /// n_c, the samples in its sum; not zero.
    pub samples: u64,
    /// v_c, the mean version that it was computed on.
    pub version: f64,
    /// h_c, the mean number of local steps over its samples; `None` without local steps.
    pub steps: Option<f64>,
    /// G_c, the sum of its gradients, as it arrived.
    pub gradient: Encoded,
}

/// How contributions are weighed and clipped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weighting {
    /// a in s(τ) = (1 + τ)^(−a).
    pub staleness_exponent: f64,
    /// Samples of one contribution beyond this number weigh nothing.
    pub max_read_out_samples: u64,
    /// The norm of a mean gradient is bounded at this multiple of its running median, and the number of local steps at
    /// this multiple of the others' running upper quartile; 0 bounds nothing.
    pub clip: f64,
}

/// Combines the contributions of one superstep after the other.
#[derive(Clone, Debug)]
pub(crate) struct Combiner {
    weighting: Weighting,
    usual: Usual,
    /// One contribution, decoded.
    decoded: Vec<f32>,
}

/// The usual values, by the last contributions. Each session counts once in a superstep, so that a session that
/// contributes often does not set the bound. A checkpoint holds them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Usual {
    /// Norms of mean gradients, which are alike for all volunteers. So a volunteer that is alone is bounded by its own
    /// norms.
    norms: RunningQuantile<SessionId>,
    /// Local steps. The upper quartile of the others counts, since a few fast volunteers make most of the steps. A
    /// volunteer that is alone has no bound, and a volunteer that claims too many steps does not raise its own bound.
    steps: RunningQuantile<SessionId>,
}

/// The usual values of one kind as plain data: what was measured of which session, and the place of the oldest.
pub type UsualParts = (Vec<(SessionId, f64)>, usize);

impl Default for Usual {
    fn default() -> Usual {
        Usual {
            norms: RunningQuantile::new(Self::NORMS_QUANTILE),
            steps: RunningQuantile::new(Self::STEPS_QUANTILE),
        }
    }
}

impl Usual {
    const NORMS_QUANTILE: f64 = 0.5;
    const STEPS_QUANTILE: f64 = 0.75;

    /// The usual norms, and the usual steps.
    pub fn parts(&self) -> [UsualParts; 2] {
        [&self.norms, &self.steps].map(|quantile| {
            let (values, oldest) = quantile.parts();
            (values.to_vec(), oldest)
        })
    }

    /// Goes on from what [`Usual::parts`] gave; none where it can't have given that.
    pub fn from_parts([norms, steps]: [UsualParts; 2]) -> Option<Usual> {
        Some(Usual {
            norms: RunningQuantile::from_parts(Self::NORMS_QUANTILE, norms.0, norms.1)?,
            steps: RunningQuantile::from_parts(Self::STEPS_QUANTILE, steps.0, steps.1)?,
        })
    }

    /// `norm`, bounded at a multiple of the usual one.
    fn bound_norm(&self, multiple: f64, session: SessionId, norm: f64) -> f64 {
        let usual = self.norms.of_others(&session).or_else(|| self.norms.of_all());
        usual.map_or(norm, |usual| norm.min(multiple * usual))
    }

    /// `steps`, bounded at a multiple of the others' steps.
    fn bound_steps(&self, multiple: f64, session: SessionId, steps: f64) -> f64 {
        let usual = self.steps.of_others(&session);
        usual.map_or(steps, |usual| steps.min(multiple * usual))
    }
}

/// Adds a bounded value. Zeros are left out: a bound of 0 would stop the model.
fn remember(values: &mut RunningQuantile<SessionId>, session: SessionId, bounded: f64) {
    if bounded > 0.0 {
        values.push(session, bounded);
    }
}

/// s(τ) = (1 + τ)^(−a): the weight of a contribution of staleness τ.
pub(crate) fn staleness_weight(staleness: f64, exponent: f64) -> f64 {
    libm::pow(1.0 + staleness.max(0.0), -exponent)
}

impl Combiner {
    /// For a model of `parameters` parameters.
    pub(crate) fn new(weighting: Weighting, parameters: usize) -> Combiner {
        Combiner {
            weighting,
            usual: Usual::default(),
            decoded: vec![0.0; parameters],
        }
    }

    /// The usual values so far.
    pub(crate) fn usual(&self) -> &Usual {
        &self.usual
    }

    /// Goes on from the usual values of a checkpoint.
    pub(crate) fn set_usual(&mut self, usual: Usual) {
        self.usual = usual;
    }

    /// Writes the combined gradient of the superstep that steps from version `version` into `gradient`.
    ///
    /// Sorts `contributions` by session and number. With one contribution that is neither stale nor clipped the result
    /// is exactly `G · (1 / n)`, the mean minibatch gradient of the sequential baseline.
    pub(crate) fn combine(&mut self, contributions: &mut [Admitted], version: u64, gradient: &mut [f32]) {
        contributions.sort_by_key(|contribution| (contribution.session, contribution.sequence));
        let Weighting {
            staleness_exponent,
            max_read_out_samples,
            clip,
        } = self.weighting;
        let weight = |contribution: &Admitted| {
            let staleness = version as f64 - contribution.version;
            staleness_weight(staleness, staleness_exponent) * contribution.samples.min(max_read_out_samples) as f64
        };
        let weights: f64 = contributions.iter().map(weight).sum();
        let mean_steps = self.note_steps(contributions, weight);
        gradient.fill(0.0);
        let mut is_first = true;
        for group in contributions.chunk_by(|one, next| one.session == next.session) {
            let session = group[0].session;
            let mut norms = 0.0;
            for contribution in group {
                let samples = contribution.samples as f64;
                contribution
                    .gradient
                    .decode_into(&mut self.decoded, |slot, value| *slot = value);
                let share = weight(contribution) / weights;
                let bound = match clip {
                    0.0 => 1.0,
                    clip => {
                        let norm = norm(&self.decoded) / samples;
                        let bounded = self.usual.bound_norm(clip, session, norm);
                        norms += bounded;
                        if bounded < norm { bounded / norm } else { 1.0 }
                    }
                };
                let scale = (share * bound / samples * mean_steps) as f32;
                let values = gradient.iter_mut().zip(&self.decoded);
                if is_first {
                    values.for_each(|(sum, value)| *sum = value * scale);
                } else {
                    values.for_each(|(sum, value)| *sum += value * scale);
                }
                is_first = false;
            }
            remember(&mut self.usual.norms, session, norms / group.len() as f64);
        }
    }

    /// Notes the sessions' local steps among the usual ones. Returns their mean h̄; 1 without local steps. The
    /// contributions are sorted by session.
    fn note_steps(&mut self, contributions: &[Admitted], weight: impl Fn(&Admitted) -> f64) -> f64 {
        let (mut weights, mut steps) = (0.0, 0.0);
        for group in contributions.chunk_by(|one, next| one.session == next.session) {
            let session = group[0].session;
            let Some(claimed) = group.iter().map(|c| c.steps).sum::<Option<f64>>() else {
                return 1.0;
            };
            let believed = match self.weighting.clip {
                0.0 => claimed,
                clip => self.usual.bound_steps(clip, session, claimed),
            };
            remember(&mut self.usual.steps, session, believed);
            let group_weight: f64 = group.iter().map(&weight).sum();
            weights += group_weight;
            steps += group_weight * believed;
        }
        steps / weights
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
    use crate::protocol::codec::Codec;

    const WINDOW: usize = RunningQuantile::<SessionId>::WINDOW;
    const FEWEST: usize = RunningQuantile::<SessionId>::FEWEST;

    const PLAIN: Weighting = Weighting {
        staleness_exponent: 0.5,
        max_read_out_samples: 1 << 20,
        clip: 0.0,
    };

    fn contribution(session: u64, samples: u64, version: f64, gradient: &[f32]) -> Admitted {
        let bytes: Vec<u8> = gradient.iter().flat_map(|value| value.to_le_bytes()).collect();
        Admitted {
            session: SessionId(session),
            sequence: 1,
            samples,
            version,
            steps: None,
            gradient: Encoded::new(Codec::F32, bytes.into(), gradient.len()).unwrap(),
        }
    }

    fn combined(mut contributions: Vec<Admitted>, version: u64, weighting: Weighting) -> Vec<f32> {
        let parameters = contributions[0].gradient.count();
        let mut gradient = vec![f32::NAN; parameters];
        Combiner::new(weighting, parameters).combine(&mut contributions, version, &mut gradient);
        gradient
    }

    /// A contribution of displacements by local steps: `samples` samples, a mean step of `step`, `steps` times.
    fn moved(session: u64, samples: u64, steps: f64, step: f32) -> Admitted {
        Admitted {
            steps: Some(steps),
            ..contribution(session, samples, 0.0, &[samples as f32 * step])
        }
    }

    #[test]
    fn displacements_count_by_their_samples_and_the_step_is_as_long_as_the_mean_number_of_steps() {
        // One ML module made 2 steps of 1 each, the other 8 steps of 3 each; each step took 10 samples.
        let both = vec![moved(1, 20, 2.0, 1.0), moved(2, 80, 8.0, 3.0)];
        // h̄ = (20·2 + 80·8) / 100 = 6.8; the mean step is (20·1 + 80·3) / 100 = 2.6.
        let moved = combined(both, 0, PLAIN)[0];
        assert!((moved - 6.8 * 2.6).abs() < 1e-5, "{moved}");
    }

    #[test]
    fn displacements_of_one_session_add_up_and_its_gradients_do_not() {
        // A volunteer that leaves reads out once more: 4 steps of 2 after 6 steps of 2 are 10 steps of 2.
        let mut both = vec![moved(1, 64, 6.0, 2.0), moved(1, 64, 4.0, 2.0)];
        assert_eq!(combined(both.clone(), 0, PLAIN), [20.0]);
        for contribution in &mut both {
            contribution.steps = None;
        }
        assert_eq!(combined(both, 0, PLAIN), [2.0]);
    }

    #[test]
    fn a_session_that_claims_too_many_steps_is_bounded_by_what_others_make() {
        let weighting = Weighting { clip: 3.0, ..PLAIN };
        let mut combiner = Combiner::new(weighting, 1);
        let mut gradient = [0.0];
        // Half of them are four times faster than the others, which is ordinary.
        let usual =
            [(1, 10), (2, 10), (3, 40), (4, 40)].map(|(session, steps)| moved(session, steps, steps as f64, 1.0));
        for _ in 0..WINDOW {
            combiner.combine(&mut usual.clone(), 0, &mut gradient);
            assert!(
                (gradient[0] - (20.0 * 10.0 + 80.0 * 40.0) / 100.0).abs() < 1e-4,
                "{gradient:?}"
            );
        }
        // h̄ where the liar is believed 3 · 40 steps, however often it lies, in one contribution or in four.
        let believed = (20.0 * 10.0 + 80.0 * 40.0 + 10.0 * 120.0) / 110.0;
        let lies = [vec![moved(5, 10, 1e12, 1.0)], vec![moved(5, 2, 1e12, 1.0); 5]];
        for lie in lies {
            for _ in 0..2 * WINDOW {
                let mut crowd = [usual.as_slice(), &lie].concat();
                combiner.combine(&mut crowd, 0, &mut gradient);
                assert!((gradient[0] - believed).abs() < 1e-3, "{gradient:?}");
            }
        }
        // A liar among three.
        let mut combiner = Combiner::new(weighting, 1);
        for round in 0..4 * WINDOW {
            let mut crowd = [usual[0].clone(), usual[1].clone(), moved(5, 10, 1e12, 1.0)];
            combiner.combine(&mut crowd, 0, &mut gradient);
            assert!(round < FEWEST || gradient[0] < 17.0, "{round}: {gradient:?}");
        }
    }

    #[test]
    fn the_steps_of_a_session_that_is_alone_are_not_bounded() {
        let mut combiner = Combiner::new(Weighting { clip: 3.0, ..PLAIN }, 1);
        let mut gradient = [0.0];
        // After an absence there are more of them.
        for steps in [10.0; WINDOW].into_iter().chain([200.0, 10.0]) {
            combiner.combine(&mut [moved(1, 10, steps, 1.0)], 0, &mut gradient);
            assert_eq!(gradient, [steps as f32]);
        }
    }

    #[test]
    fn one_fresh_contribution_gives_exactly_its_mean_gradient() {
        let sum = [0.1f32, -7.3, 1e-20, 5.0];
        let expected = sum.map(|value| value * (1.0f32 / 96.0));
        assert_eq!(combined(vec![contribution(1, 96, 4.0, &sum)], 4, PLAIN), expected);
    }

    #[test]
    fn samples_of_all_sessions_weigh_alike() {
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
        for _ in 0..FEWEST {
            combiner.combine(&mut [contribution(1, 2, 0.0, &[2.0])], 0, &mut gradient);
            assert_eq!(gradient, [1.0]);
        }
        for _ in 0..2 * WINDOW {
            combiner.combine(&mut [contribution(1, 2, 0.0, &[2e9])], 0, &mut gradient);
        }
        assert!(gradient[0] > 1.0, "clipped, not refused");
        let unclipped = combined(vec![contribution(1, 1, 0.0, &[1e9])], 0, weighting);
        assert_eq!(unclipped, [1e9], "nothing to compare with: not clipped");
    }

    #[test]
    fn a_session_that_contributes_often_does_not_set_the_bound() {
        let mut combiner = Combiner::new(Weighting { clip: 3.0, ..PLAIN }, 1);
        let mut gradient = [0.0];
        let honest = [1, 2, 3].map(|session| contribution(session, 10, 0.0, &[10.0]));
        let lies = vec![contribution(9, 1, 0.0, &[1e9]); 16];
        for round in 0..4 * WINDOW {
            let mut crowd = [honest.as_slice(), &lies].concat();
            combiner.combine(&mut crowd, 0, &mut gradient);
            // 30 samples of norm 1, and 16 that are believed 3.
            let is_bounded = gradient[0] < (30.0 + 16.0 * 3.0) / 46.0 + 1e-4;
            assert!(round < FEWEST || is_bounded, "{round}: {gradient:?}");
        }
    }

    #[test]
    fn a_session_that_contributes_only_zeros_stops_no_other() {
        let mut combiner = Combiner::new(Weighting { clip: 3.0, ..PLAIN }, 1);
        let mut gradient = [0.0];
        for _ in 0..4 * WINDOW {
            let zeros = contribution(1, 10, 0.0, &[0.0]);
            combiner.combine(
                &mut [zeros.clone(), zeros, contribution(2, 20, 0.0, &[20.0])],
                0,
                &mut gradient,
            );
            assert_eq!(gradient, [0.5]);
        }
    }

    #[test]
    fn a_norm_counts_every_value_once() {
        let values: Vec<f32> = (1..=11).map(|value| value as f32).collect();
        assert_eq!(norm(&values), libm::sqrt(506.0));
    }
}
