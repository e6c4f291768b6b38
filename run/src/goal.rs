//! What a run aims at, and how a model does.

/// What a run aims at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// At least this share of right answers.
    Accuracy(f64),
    /// At most this loss.
    Loss(f64),
}

impl Goal {
    /// The share of right answers, if that is the aim.
    pub fn accuracy(self) -> Option<f64> {
        match self {
            Goal::Accuracy(target) => Some(target),
            Goal::Loss(_) => None,
        }
    }

    /// The loss, if that is the aim.
    pub fn loss(self) -> Option<f64> {
        match self {
            Goal::Accuracy(_) => None,
            Goal::Loss(target) => Some(target),
        }
    }

    /// Whether a model that does so well has reached it.
    pub fn is_reached_by(self, evaluated: &Evaluated) -> bool {
        match self {
            Goal::Accuracy(target) => evaluated.accuracy.is_some_and(|accuracy| accuracy >= target),
            Goal::Loss(target) => evaluated.loss <= target,
        }
    }
}

/// How a model does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluated {
    /// Mean loss of a held-out sample.
    pub loss: f64,
    /// The share of answers that are right, from 0 to 1; `None` where answers are numbers.
    pub accuracy: Option<f64>,
}

impl Evaluated {
    /// Whether it does better than another: by right answers where both have them, else by loss. A loss that is not a
    /// number is never better.
    pub fn is_better_than(&self, other: &Evaluated) -> bool {
        match (self.accuracy, other.accuracy) {
            (Some(own), Some(other)) if own != other => own > other,
            _ => self.loss < other.loss,
        }
    }

    /// The accuracy as it is printed.
    pub fn accuracy_text(&self) -> String {
        self.accuracy
            .map_or("-".to_owned(), |accuracy| format!("{accuracy:.4}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_model_has_more_right_answers_or_less_loss_where_these_are_equal_or_none() {
        let evaluated = |accuracy, loss| Evaluated { loss, accuracy };
        assert!(evaluated(Some(0.9), 5.0).is_better_than(&evaluated(Some(0.8), 1.0)));
        assert!(!evaluated(Some(0.8), 1.0).is_better_than(&evaluated(Some(0.9), 5.0)));
        assert!(evaluated(Some(0.9), 1.0).is_better_than(&evaluated(Some(0.9), 2.0)));
        assert!(evaluated(None, 1.0).is_better_than(&evaluated(None, 2.0)));
        assert!(!evaluated(None, f64::NAN).is_better_than(&evaluated(None, 2.0)));
        assert!(!evaluated(None, 2.0).is_better_than(&evaluated(None, 2.0)));
    }

    #[test]
    fn a_goal_is_reached_at_its_number_and_a_loss_that_is_none_reaches_nothing() {
        let evaluated = |accuracy, loss| Evaluated { loss, accuracy };
        assert!(Goal::Accuracy(0.9).is_reached_by(&evaluated(Some(0.9), 5.0)));
        assert!(!Goal::Accuracy(0.9).is_reached_by(&evaluated(Some(0.899), 0.0)));
        assert!(!Goal::Accuracy(0.9).is_reached_by(&evaluated(None, 0.0)));
        assert!(Goal::Loss(0.1).is_reached_by(&evaluated(None, 0.1)));
        assert!(!Goal::Loss(0.1).is_reached_by(&evaluated(None, f64::NAN)));
    }
}
