//! What evaluations have found: the best model, and the one that reached the run's aim.

use run::goal::Goal;

use crate::history::EvaluatedModel;

/// The evaluated models that are kept in memory.
pub(super) struct Evaluations {
    /// The aim with which the run ends.
    stop_at: Option<Goal>,
    /// The model whose evaluation reached it.
    reached: Option<EvaluatedModel>,
    /// The best model that was evaluated until now, if that is not the one that reached the aim.
    best: Option<EvaluatedModel>,
}

impl Evaluations {
    pub(super) fn new(stop_at: Option<Goal>, best: Option<EvaluatedModel>) -> Evaluations {
        Evaluations {
            stop_at,
            reached: None,
            best,
        }
    }

    /// Whether the run ends with its aim.
    pub(super) fn stops_at_aim(&self) -> bool {
        self.stop_at.is_some()
    }

    /// Whether this model is better than all before it.
    pub(super) fn is_best(&self, model: &EvaluatedModel) -> bool {
        let evaluated = model.evaluated();
        let best = self.best.as_ref().map(EvaluatedModel::evaluated);
        best.is_none_or(|best| evaluated.is_better_than(&best))
    }

    /// A model was evaluated; it is the best one if `is_best` says so. Returns whether the run ends with it.
    pub(super) fn on_evaluated(&mut self, model: EvaluatedModel, is_best: bool) -> bool {
        let evaluated = model.evaluated();
        if self.stop_at.is_some_and(|goal| goal.is_reached_by(&evaluated)) {
            self.reached = Some(model);
            if is_best {
                self.best = None;
            }
            return true;
        }
        if is_best {
            self.best = Some(model);
        }
        false
    }

    /// The model whose evaluation reached the run's aim.
    pub(super) fn reached(&self) -> Option<&EvaluatedModel> {
        self.reached.as_ref()
    }

    /// The best model that was evaluated; none if that is the one that reached the run's aim.
    pub(super) fn best(&self) -> Option<&EvaluatedModel> {
        self.best.as_ref()
    }
}
