//! How far a run has come.

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It trains, or waits for volunteers.
    Open,
    /// It has diverged; see [`super::Action::Diverged`].
    Diverged,
    /// It was ended by [`super::Central::finish`].
    Finished {
        /// Whether it had diverged before.
        has_diverged: bool,
    },
}

impl Phase {
    /// Whether the run was ended.
    pub fn is_finished(self) -> bool {
        matches!(self, Phase::Finished { .. })
    }

    /// Whether it has diverged.
    pub fn has_diverged(self) -> bool {
        matches!(self, Phase::Diverged | Phase::Finished { has_diverged: true })
    }

    /// The phase that follows when the run is ended.
    pub(super) fn finished(self) -> Phase {
        Phase::Finished {
            has_diverged: self.has_diverged(),
        }
    }
}
